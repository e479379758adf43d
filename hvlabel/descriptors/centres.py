"""Band centres in a descriptor or a configuration."""

from __future__ import annotations

from pydantic import Field

from hvlabel.settings import Settings
from hvlabel.wavelengths import centres_nm


class WavelengthRange(Settings):
    """Evenly spaced band centres."""

    start_nm: float = Field(gt=0, description="centre of the first band, nm")
    stop_nm: float = Field(gt=0, description="centre of the last band, nm")
    count: int = Field(ge=1, description="number of bands")

    def values_nm(self) -> list[float]:
        """(count,) band centres, nm."""
        if self.count == 1:
            return [self.start_nm]
        step_nm = (self.stop_nm - self.start_nm) / (self.count - 1)  # both ends are bands
        return [self.start_nm + k * step_nm for k in range(self.count)]


def require_centres_nm(given: list[float] | WavelengthRange | None) -> None:
    """ValueError unless configured band centres can be believed."""
    if given is None:
        return
    values_nm = given.values_nm() if isinstance(given, WavelengthRange) else given
    centres_nm(values_nm, "nm")
