"""What Snakemake asks of conda, answered by virtual environments. It is not conda: a fixture for machines without one.

It takes an environment file as conda would, refuses what it cannot provide, and installs the part for pip. What it
tests is our wiring: the form of the file, the rules that name it, the script that follows, and each job's Python.
"""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import yaml

VERSION = "24.7.1"  # the oldest that Snakemake takes
PROVIDED = {"python=3.11", "pip", "setuptools"}  # what a virtual environment holds by itself
PREFIX = Path(os.environ["CONDA_STAND_IN"])
ACTIVATE = '. "$1/bin/activate"\n'  # sourced with the environment's folder


def main() -> int:
    match sys.argv[1:]:
        case ["--version"]:
            print(f"conda {VERSION}")
        case ["info", "--json"]:
            (PREFIX / "bin").mkdir(parents=True, exist_ok=True)
            (PREFIX / "bin/activate").write_text(ACTIVATE)
            print(json.dumps({"conda_prefix": str(PREFIX), "platform": "linux-64", "conda_version": VERSION}))
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["env", "create", *options]:
            return create(options)
        case ["clean", *_]:
            pass
        case other:
            print(f"the stand-in for conda does not know: {' '.join(other)}", file=sys.stderr)
            return 2
    return 0


def create(options: list[str]) -> int:
    """`conda env create --file F --prefix P`."""
    given = dict(pairwise(options))
    tree = yaml.safe_load(Path(given["--file"]).read_text())
    folder = Path(given["--prefix"])
    by_pip = [entry["pip"] for entry in tree["dependencies"] if isinstance(entry, dict)]
    plain = {entry for entry in tree["dependencies"] if isinstance(entry, str)}
    if "conda-forge" not in tree["channels"] or plain != PROVIDED or len(by_pip) != 1:
        print(f"{given['--file']}: not an environment that the stand-in can make", file=sys.stderr)
        return 1
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin/python")
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, "setuptools", *by_pip[0]]
    subprocess.run(install, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
