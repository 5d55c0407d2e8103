"""Who decides what happens in a rollout."""
