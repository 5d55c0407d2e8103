"""The reward of the demo: 1 for the right sum, nothing for any other reply. Change it and train again."""

from rlforge import Rollout


def exact(rollout: Rollout) -> float:
    return 1.0 if rollout.text.strip() == rollout.task.answer else 0.0
