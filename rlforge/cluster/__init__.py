"""Placement: the same parts in one process, or each in a Ray actor."""
