"""`python -m pick_and_place.measure`: how often each policy carries everything home, on held-out layouts."""

import argparse
import time
from collections.abc import Mapping

import numpy as np

from pick_and_place.environment import PickAndPlace
from pick_and_place.expert import Policy, always, at_random, expert
from rlforge.types import Task


def play(policy: Policy, task: Task, seed: int) -> Mapping[str, float]:
    """One world from its reset to its end: `reward` (1 for success) and what else the world counted."""
    world = PickAndPlace()
    seen = world.reset(task, seed)
    while True:
        seen, reward, over, _, _ = world.step(policy(seen))
        if over:
            return reward


def interval(successes: int, attempts: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, z = successes / attempts, 1.96
    middle = share + z * z / (2 * attempts)
    half = z * np.sqrt(share * (1 - share) / attempts + z * z / (4 * attempts**2))
    scale = 1 + z * z / attempts
    return float((middle - half) / scale), float((middle + half) / scale)


def table(seeds: int, split: str = "test") -> list[dict[str, float | str]]:
    """One row for each policy over the first `seeds` tasks of a split."""
    policies: dict[str, Policy] = {"expert": expert, "random": at_random(0)}
    policies |= {f"always `{action}`": always(action) for action in ("close", "down", "move 1 0")}
    return [{"policy": name, **_row(policy, PickAndPlace.tasks(split)[:seeds])} for name, policy in policies.items()]


def _row(policy: Policy, tasks: list[Task]) -> dict[str, float]:
    began = time.process_time()
    ends = [play(policy, task, seed) for seed, task in enumerate(tasks)]
    seconds = time.process_time() - began
    means = {fact: float(np.mean([end[fact] for end in ends])) for fact in ("reward", "carried", "turns", "drops")}
    low, high = interval(round(means["reward"] * len(ends)), len(ends))
    return {**means, "low": low, "high": high, "ms": 1000 * seconds / (means["turns"] * len(ends))}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--split", default="test")
    given = parser.parse_args()
    print("| policy | success | 95 % interval | carried | turns | drops | ms a turn |\n|---|---|---|---|---|---|---|")
    for row in table(given.seeds, given.split):
        success = f"{row['reward']:.3f} | {row['low']:.2f} to {row['high']:.2f}"
        print(
            f"| {row['policy']} | {success} | {row['carried']:.2f} | {row['turns']:.1f} | {row['drops']:.2f} "
            f"| {row['ms']:.1f} |"
        )


if __name__ == "__main__":
    main()
