"""Proves that an endpoint behaves: what `rlforge check` runs."""
