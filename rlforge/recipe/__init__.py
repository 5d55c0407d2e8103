"""Recipes: one strict YAML document that says a whole run."""

from rlforge.recipe.document import ModelConfig, Recipe
from rlforge.recipe.load import Document, load_recipe, read_document

__all__ = ["Document", "ModelConfig", "Recipe", "load_recipe", "read_document"]
