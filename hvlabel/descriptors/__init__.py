"""How a camera's or a data set's raw files are read: the YAML files of resources/datasets, or one of the user's own."""

from hvlabel.descriptors.band_folder import BAND_FILES, band_files
from hvlabel.descriptors.centres import WavelengthRange, require_centres_nm
from hvlabel.descriptors.companion import Companion, as_rule
from hvlabel.descriptors.descriptor import About, Descriptor
from hvlabel.descriptors.form import ENVI_DATA_SUFFIXES, Confidence, Container, Form
from hvlabel.descriptors.shipped import SHIPPED, is_shipped, load_descriptor

__all__ = [
    "BAND_FILES",
    "ENVI_DATA_SUFFIXES",
    "SHIPPED",
    "About",
    "Companion",
    "Confidence",
    "Container",
    "Descriptor",
    "Form",
    "WavelengthRange",
    "as_rule",
    "band_files",
    "is_shipped",
    "load_descriptor",
    "require_centres_nm",
]
