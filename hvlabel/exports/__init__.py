"""Labels for other tools: one module per format, a table of them, and the walk that hands images to each."""

from hvlabel.exports.exporting import export, formats_of
from hvlabel.exports.image import ExportImage

__all__ = ["ExportImage", "export", "formats_of"]
