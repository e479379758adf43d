"""Descriptors on disk: those of resources/datasets, and a user's own YAML files."""

from __future__ import annotations

from pathlib import Path

from hvlabel.descriptors.descriptor import Descriptor
from hvlabel.errors import ConfigError
from hvlabel.settings import validated
from hvlabel.yaml_file import read_yaml

SHIPPED = Path(__file__).resolve().parents[2] / "resources" / "datasets"


def is_shipped(name: str) -> bool:
    """Whether a descriptor of this name lies in resources/datasets."""
    return _path(name).is_file()


def load_descriptor(dataset: str, named: str | Descriptor) -> Descriptor:
    """The descriptor of a data set: itself, a name in resources/datasets, or the path of a YAML file."""
    if isinstance(named, Descriptor):
        return named
    path = _path(named) if is_shipped(named) else Path(named)
    if not path.is_file():
        names = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
        known = ", ".join(names)
        raise ConfigError(
            f"data set {dataset}: no descriptor {named!r}; known: {known}; or give the path of a YAML file"
        )
    return validated(Descriptor, read_yaml(path), str(path))


def _path(name: str) -> Path:
    return SHIPPED / f"{name}.yaml"
