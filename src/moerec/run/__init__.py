"""Do a recipe: the stages in order, each skipped when its artifact already exists."""

from moerec.run.pipeline import RunOptions, run_recipe, train_recipe

__all__ = ["RunOptions", "run_recipe", "train_recipe"]
