"""How good is a map or a model, and how is that told?"""

from .compare import Comparison, compare_csv, compare_figure, compare_models, compare_page, compare_text
from .maps import evaluate_map
from .matching import Pairs
from .models import Scoring, evaluate_model
from .overview import View
from .points import PointEvaluation, PointFields, evaluate_points
from .report import evaluation_page, table_csv, table_text
from .result import Evaluation, ImageScore
from .sampled import points_csv, points_page, points_text
from .sides import Against
from .training import training_report

__all__ = [
    "Against",
    "Comparison",
    "Evaluation",
    "ImageScore",
    "Pairs",
    "PointEvaluation",
    "PointFields",
    "Scoring",
    "View",
    "compare_csv",
    "compare_figure",
    "compare_models",
    "compare_page",
    "compare_text",
    "evaluate_map",
    "evaluate_model",
    "evaluate_points",
    "evaluation_page",
    "points_csv",
    "points_page",
    "points_text",
    "table_csv",
    "table_text",
    "training_report",
]
