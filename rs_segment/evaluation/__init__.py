"""How good is a map or a model, and how is that told?"""

from .training import training_report

__all__ = ["training_report"]
