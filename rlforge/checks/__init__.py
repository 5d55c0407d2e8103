"""Properties that an endpoint must have, each shown for real: what `rlforge check` runs."""
