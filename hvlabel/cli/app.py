"""What all verbs share: the application, options, settings from wherever they are given, what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from hvlabel.branches.table import row_of
from hvlabel.config import BranchSettings, parse_stage
from hvlabel.config.tree import Config, load_config
from hvlabel.errors import ConfigError, printable
from hvlabel.layout import Layout
from hvlabel.manifest import Image, read_manifest
from hvlabel.settings import Settings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Pseudo-labels for hyperspectral images.",
)
S = TypeVar("S", bound=Settings)

ConfigPath = Annotated[Path, typer.Option("--config", help="configuration file")]
ResultsPath = Annotated[Path, typer.Option("--results", envvar="HVLABEL_RESULTS", help="results folder")]
Shard = Annotated[
    str | None, typer.Option("--shard", metavar="DATASET/SHARD", help="walk this shard of the results folder")
]
SettingsJson = Annotated[
    str | None, typer.Option("--settings", metavar="JSON", help="the stage's settings instead of --config")
]
RunJson = Annotated[
    str | None,
    typer.Option("--run", metavar="JSON", envvar="HVLABEL_RUN", help="the run settings instead of --config"),
]
DEFAULT_CONFIG = Path("config/config.yaml")
RESULTS = Path("results")
SHOWN_NAMES = 5  # of images, where none or several are called as somebody says


def config_of(path: Path) -> Config | None:
    """The configuration of a file; None if nobody named one and there is none at the usual place."""
    if path == DEFAULT_CONFIG and not path.exists():  # one that somebody names has to be there
        return None
    return load_config(path)


def settings_of(model: type[S], name: str, given: str | None, path: Path) -> S:
    """Settings given as JSON, else the group of the configuration file, else defaults if there is no such file."""
    if given is not None:
        return parse_stage(model, given)
    config = config_of(path)
    return model() if config is None else getattr(config, name)


def branch_settings_of(branch: str, given: str | None, path: Path) -> BranchSettings:
    """The same of a branch; ConfigError if it is off."""
    model = row_of(branch).settings
    settings: BranchSettings | None = settings_of(model, branch, given, path)
    if settings is None:
        raise ConfigError(f"the configuration says {branch}: off; leave that line out, or use another --config")
    if settings.backend == "off":
        raise ConfigError(f"the configuration says {branch}.backend: off; choose another, or another --config")
    return settings


def say(text: str) -> None:
    """What a verb answers, to the standard output."""
    typer.echo(printable(text, keep="\n\t"))


def warn(text: str) -> None:
    """What went wrong, to the error output, with the program's name."""
    typer.echo(printable(f"hvlabel: {text}"), err=True)


def image_called(name: str, results: Path) -> Image:
    """The one image of a name; ConfigError if there is none, or several."""
    rows = read_manifest(Layout(results).manifest)
    called = [i for i in rows if name in (i.image_id, f"{i.dataset}/{i.image_id}")]
    if len(called) != 1:
        candidates = called or rows  # of several the ones that are meant, of none some that there are
        shown = [f"{i.dataset}/{i.image_id}" for i in candidates[:SHOWN_NAMES]]
        more = ", ..." if len(rows) > SHOWN_NAMES else ""
        raise ConfigError(
            f"{results}: {len(called)} images are called {name!r}, expected one; there are "
            f"{', '.join(shown) or 'none'}{more}"
        )
    return called[0]
