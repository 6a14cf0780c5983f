"""Many scenes: finding them, doing them wherever there is a worker, remembering them, describing what came of them."""

from .agenda import Prospect, forecast
from .batch import Effort, News, Report, batch
from .catalog import Query, find_scenes
from .job import Recipe
from .source import Source

__all__ = [
    "Effort",
    "News",
    "Prospect",
    "Query",
    "Recipe",
    "Report",
    "Source",
    "batch",
    "find_scenes",
    "forecast",
]
