"""Rewards: scorers form opinions of rollouts, the router combines them; a failure is never a reward of 0."""
