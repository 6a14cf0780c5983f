"""In which formats can polygons be kept, and who writes them?"""

from .features import COLUMNS, LayerSpec, categorised
from .formats import FORMATS, Format, LayerWriter, format_of, layer_files, open_layer, to_geodataframe

__all__ = [
    "COLUMNS",
    "FORMATS",
    "Format",
    "LayerSpec",
    "LayerWriter",
    "categorised",
    "format_of",
    "layer_files",
    "open_layer",
    "to_geodataframe",
]
