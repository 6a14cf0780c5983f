"""How does a network learn? From a data set and a recipe to a model folder."""

from .recipe import RECIPES, Recipe
from .train import Trained, choose_recipe, train

__all__ = ["RECIPES", "Recipe", "Trained", "choose_recipe", "train"]
