"""`python -m pick_and_place.traces`: conversations of the expert with the table, to imitate before reinforcement."""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pick_and_place.environment import PickAndPlace
from pick_and_place.expert import at_random, expert
from rlforge.types import Task


def traces(
    count: int, split: str = "train", slips: float = 0.0, turns: int = 0, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL source: `count` tasks of a split, from number `seed` on, played to their end.

    `slips` is the share of turns in which the expert does something at random instead, and then has to make good for
    it: whoever imitates such traces is no master yet, but has seen mistakes mended. With `turns` each conversation is
    cut into pieces of so many: a state says all there is to know, and short pieces are the easier lesson.
    """
    tasks = PickAndPlace.tasks(split)
    for number in range(count):
        task = tasks[(number + seed) % len(tasks)]
        opening = [{"role": message.role, "content": message.text} for message in task.messages]
        played = _played(task, number + seed, slips)
        for first in range(0, len(played), 2 * turns or len(played)):
            messages = opening + played[first : first + 2 * turns or None]
            yield {"id": f"{task.id}/{number}/{first // 2}", "messages": messages}


def _played(task: Task, seed: int, slips: float) -> list[dict[str, str]]:
    world, chance, slip = PickAndPlace(), random.Random(seed), at_random(seed)
    messages: list[dict[str, str]] = []
    seen, over = world.reset(task, seed), False
    while not over:
        said = slip(seen) if chance.random() < slips else expert(seen)
        messages += [{"role": "user", "content": seen}, {"role": "assistant", "content": said}]
        seen, _, over, _, _ = world.step(said)
    return messages


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("--count", type=int, default=500, help="tasks to play")
    parser.add_argument("--split", default="train", help="whose tasks: train, train_easy, train_hard")
    parser.add_argument("--slips", type=float, default=0.0, help="share of turns that go wrong, 0 to 1")
    parser.add_argument("--turns", type=int, default=0, help="turns of a piece; 0: whole conversations")
    parser.add_argument("--seed", type=int, default=0, help="which tasks, and which slips")
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("w") as file:
        for row in traces(given.count, given.split, given.slips, given.turns, given.seed):
            file.write(json.dumps(row) + "\n")
    print(f"traces of {given.count} tasks in {given.out}")


if __name__ == "__main__":
    main()
