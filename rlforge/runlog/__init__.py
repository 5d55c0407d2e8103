"""The run folder: the only interface between a run and whoever watches it."""
