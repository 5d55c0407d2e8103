"""The composition root: a recipe becomes parts, and parts become a run."""
