"""What all verbs share: the application, options, settings from wherever they are given, what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from hvlabel.config import load_config, parse_stage
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
DEFAULT_CONFIG, RESULTS = Path("config/config.yaml"), Path("results")


def settings_of(model: type[S], name: str, given: str | None, config: Path) -> S:
    """Settings given as JSON, else the group of the configuration file, else defaults if there is no such file."""
    if given is not None:
        return parse_stage(model, given)
    if config == DEFAULT_CONFIG and not config.exists():
        return model()
    return getattr(load_config(config), name)


def say(text: str) -> None:
    """What a verb answers, to the standard output."""
    typer.echo(text)


def warn(text: str) -> None:
    """What went wrong, to the error output, with the program's name."""
    typer.echo(f"hvlabel: {text}", err=True)
