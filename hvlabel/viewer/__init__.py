"""The page of one image: a single HTML file with its pictures, masks and spectra, to look at and decide."""

from hvlabel.viewer.page import build_page, is_page_of, page_key
from hvlabel.viewer.pictures import jpeg
from hvlabel.viewer.template import render

__all__ = ["build_page", "is_page_of", "jpeg", "page_key", "render"]
