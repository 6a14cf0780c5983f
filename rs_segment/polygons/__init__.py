"""How do labels that arrive band by band become polygons that fit each other exactly?"""

from .polygonizer import PolygonBatch, Polygonizer, polygonize

__all__ = ["PolygonBatch", "Polygonizer", "polygonize"]
