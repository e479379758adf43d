"""An annotation file beside its image: content, text, and which of its images is meant."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hvlabel.errors import HvError

N_NAMES_SHOWN = 5


class PromptFileError(HvError, ValueError):
    """An annotation file is missing, damaged, of an unknown kind, or asks for what its image cannot show."""


@dataclass(frozen=True)
class Source:
    """An annotation file and the image that its prompts are for. image_names: how the file may call this image."""

    path: Path
    height_px: int
    width_px: int
    image_names: tuple[str, ...]

    @property
    def size(self) -> str:
        """The image's size as users read it."""
        return f"{self.width_px} x {self.height_px} px (width x height)"

    def error(self, sentence: str) -> PromptFileError:
        """The error to raise, with the file in front, on one line whatever a decoder said."""
        return PromptFileError(f"{self.path}: {' '.join(sentence.split())}")

    def content(self) -> bytes:
        """All bytes of the file."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise self.error(f"cannot read the annotations ({error.strerror}); check the path") from error

    def text(self) -> str:
        """All text of the file, without a byte order mark."""
        try:
            text = self.content().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.error(
                f"byte {error.start} is not UTF-8 text; save the file as UTF-8, or check its suffix"
            ) from error
        if "\0" in text:
            # text of two bytes a letter, or no text at all
            raise self.error("holds NUL bytes, expected text; save the file as UTF-8, or check its suffix")
        return text

    def require_size(self, width: float, height: float, where: str = "this") -> None:
        """PromptFileError if the size that the file states for its image is not the image's. where: what states it."""
        if (width, height) != (self.width_px, self.height_px):
            raise self.error(
                f"{where} is of an image of {width:.10g} x {height:.10g} px, but the image has {self.size}; "
                "name the annotations of this image"
            )

    def which_image(self, known: Sequence[str]) -> int:
        """Index of this image among the names of the file's images; an only one is taken without a look at its name."""
        if len(known) == 1:
            return 0  # people rename images, and keep annotations beside them
        matches = [k for k, name in enumerate(known) if name in self.image_names]
        if not matches:  # the same image in another format, or in another folder
            stems = {_stem(name) for name in self.image_names}
            matches = [k for k, name in enumerate(known) if _stem(name) in stems]
        if len(matches) != 1:
            names = ", ".join(map(repr, self.image_names)) or "(no name given)"
            verdict = "several of its images match" if matches else "none of its images matches"
            raise self.error(
                f"{verdict} {names}; it knows {len(known)} images: {_some(known)}; use one of these names for the image"
            )
        return matches[0]


def shown(value: object) -> str:
    """A short form of any value for an error: cut where it is long or deep."""
    return reprlib.repr(value)


def _some(names: Sequence[str]) -> str:
    """The first few names, for messages."""
    more = ", ..." if len(names) > N_NAMES_SHOWN else ""
    return ", ".join(shown(name) for name in names[:N_NAMES_SHOWN]) + more


def _stem(name: str) -> str:
    """The name without folders and without a suffix; '.01' of 'scene.01' is a number, no suffix."""
    path = PurePosixPath(name.replace("\\", "/"))
    has_letter = any(letter.isalpha() for letter in path.suffix)
    return path.stem if has_letter else path.name
