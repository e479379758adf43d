"""The descriptor of a data set: its forms, and what people want to know about it."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema, model_validator

from hvlabel.descriptors.centres import WavelengthRange
from hvlabel.descriptors.companion import Companion
from hvlabel.descriptors.form import ENVI_DATA_SUFFIXES, Form
from hvlabel.settings import Settings

# Other forms inherit, so what a user writes need not be a whole form: the schema asks for mappings only. Each is
# checked as a whole form once it has inherited.
INHERITING_FORMS = {"type": "array", "items": {"type": "object", "additionalProperties": True}}


class About(Settings):
    """What people want to know about a data set; nothing here changes a result."""

    title: str | None = Field(None, description="name of the data set")
    bands: int | None = Field(None, ge=1, description="expected bands")
    images: int | None = Field(None, ge=1, description="expected images")
    source: str | None = Field(None, description="where it comes from")
    licence: str | None = Field(None, description="licence note")
    notes: tuple[str, ...] = Field((), description="what a user should know")


class Descriptor(Form):
    """How the raw files of one data set are read. The other forms take over whatever they do not say themselves."""

    other_forms: Annotated[tuple[Form, ...], WithJsonSchema(INHERITING_FORMS)] = Field(
        (), description="further forms of the same data set, told apart by `files`; what they do not say they inherit"
    )
    min_kib: int = Field(0, ge=0, description="smaller files are no images but tables beside them, KiB")
    every: int = Field(1, ge=1, description="every n-th file of a folder, in name order, is an image (video frames)")
    about: About = About()

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or not isinstance(tree.get("other_forms"), list | tuple):
            return tree  # nothing to inherit; what is wrong with it, pydantic says
        inherited = {name: tree[name] for name in Form.model_fields if name in tree}
        other_forms = []
        for form in tree["other_forms"]:
            # what is no mapping stays as it is, for pydantic to refuse with its place
            whole = {**inherited, **form} if isinstance(form, dict) else form
            other_forms.append(whole)
        return {**tree, "other_forms": other_forms}

    @property
    def forms(self) -> tuple[Form, ...]:
        """All forms, the main one first."""
        return (self, *self.other_forms)

    def form_for(self, raw: Path) -> Form:
        """The first of the other forms whose `files` fit the name of a raw file.

        If none does, the first for folders, if it is one; the first of its suffix, if the main form's `files` have
        another; else the main form.
        """
        if not self.other_forms:  # asked for every file of a scan
            return self
        raw = raw.absolute()  # "." has no name
        is_folder = raw.is_dir()
        # names only: the folders in a form's pattern were matched when the image was found
        names = {raw.name.lower()} if is_folder else _names(raw)
        with_files = [(form, form.files) for form in self.other_forms if form.files is not None]
        patterns = [(form, PurePath(files.lower())) for form, files in with_files]
        for form, pattern in patterns:
            if any(fnmatch(name, pattern.name) for name in names):
                return form
        if is_folder:
            of_folders = (form for form in self.forms if form.is_folder)
            return next(of_folders, self)
        suffix = raw.suffix.lower()
        main_suffix = PurePath((self.files or "").lower()).suffix
        if main_suffix and suffix and main_suffix != suffix:
            of_suffix = (form for form, pattern in patterns if pattern.suffix == suffix)
            return next(of_suffix, self)
        return self

    def with_own(
        self,
        every: int | None,
        wavelengths_nm: list[float] | WavelengthRange | None,
        prompts: Companion | None = None,
    ) -> Descriptor:
        """This descriptor with a data set's own frame sampling, calibrated band centres and prompts; None: as it is."""
        change: dict[str, Any] = {}
        if every is not None:
            change["every"] = every
        change_of_forms = _change_of_forms(wavelengths_nm, prompts)
        if change_of_forms:
            # the main form is the descriptor itself
            other_forms = tuple(form.model_copy(update=change_of_forms) for form in self.other_forms)
            change |= {**change_of_forms, "other_forms": other_forms}
        return self.model_copy(update=change)


def _names(raw: Path) -> set[str]:
    """Names in small letters by which a file is known: of an ENVI data file also those of its header."""
    name = raw.name.lower()
    if raw.suffix.lower() not in ENVI_DATA_SUFFIXES:
        return {name}
    instead_of_suffix = raw.with_suffix(".hdr").name.lower()
    behind_suffix = f"{name}.hdr"
    return {name, instead_of_suffix, behind_suffix}


def _change_of_forms(wavelengths_nm: list[float] | WavelengthRange | None, prompts: Companion | None) -> dict[str, Any]:
    """Fields of every form that a data set of the configuration sets."""
    change: dict[str, Any] = {}
    if prompts is not None:
        change["prompts"] = prompts
    if wavelengths_nm is not None:
        change |= {
            "wavelengths_nm": wavelengths_nm,
            "wavelengths_first": "descriptor",
            "wavelength_confidence": "calibrated",
        }
    return change
