"""What is in a raw file nobody has described: a listing, and a descriptor to start from, with its open questions."""

from hvlabel.describe.folder import describe
from hvlabel.readers.table import container_of as sniff

__all__ = ["describe", "sniff"]
