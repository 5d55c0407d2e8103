"""Small functions with a bug, to be found and repaired by looking, testing and editing."""

from code_repair.environment import CodeRepair as CodeRepair

__all__ = ["CodeRepair"]
