"""What the settings of all stages share."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from hvlabel.config.marks import settings_of_results
from hvlabel.errors import ConfigError
from hvlabel.settings import S, Settings, validated


class StageSettings(Settings):
    """Settings of one stage. `version` is bumped by hand when the stage's results change for equal settings."""

    version: ClassVar[int] = 1

    def to_json(self) -> str:
        """All settings and the stage version as JSON: what the workflow passes to a job."""
        return _canonical_json({"version": self.version, **self.model_dump(mode="json")})

    def canonical(self) -> str:
        """Canonical JSON of what the stage's results depend on, stage version included: part of every cache key."""
        return _canonical_json({"version": self.version, **self.relevant()})

    def relevant(self) -> dict[str, Any]:
        """The settings that can change a result, as their fields' marks say (config/marks.py)."""
        return settings_of_results(self)


def parse_stage(model: type[S], text: str) -> S:
    """Settings of one stage from JSON as the workflow passes it (a `version` entry is ignored)."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and brackets in brackets
        raise ConfigError(f"settings are not JSON ({error}); pass what the workflow passes, or use --config") from error
    if isinstance(tree, dict):
        tree.pop("version", None)
    return validated(model, tree, f"{model.__name__} given as JSON")


def _canonical_json(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
