"""The manifest: every image once, with its shard; never re-sorted, so that a new image changes one shard."""

from hvlabel.manifest.outside import outside_of
from hvlabel.manifest.rows import PROMPTS_FROM, Image, Scan, read_manifest
from hvlabel.manifest.scanning import scan

__all__ = ["PROMPTS_FROM", "Image", "Scan", "outside_of", "read_manifest", "scan"]
