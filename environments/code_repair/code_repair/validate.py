"""Shows that reference answers earn the reward and the code as it was does not: `python -m code_repair.validate`."""

import argparse
import asyncio
import sys

from code_repair.environment import LIMITS
from code_repair.tasks import tasks_of
from rlforge.sandbox.testing import run_tests
from rlforge.types import Task


async def judged(task: Task, slots: asyncio.Semaphore) -> tuple[bool, bool, bool]:
    """Whether the reference passes, the broken code fails, and it fails a test that may be seen."""
    async with slots:
        right = await run_tests(task.answer, task.info["tests"], LIMITS)
        wrong = await run_tests(task.info["broken"], task.info["tests"], LIMITS)
        seen = await run_tests(task.info["broken"], task.info["visible"], LIMITS)
        return right.all_passed, not wrong.all_passed, not seen.all_passed


async def validate(split: str, count: int) -> bool:
    """Judge the first `count` tasks of a split and print how many were as they should be."""
    tasks = tasks_of(split)[:count]
    slots = asyncio.Semaphore(2)
    results = await asyncio.gather(*(judged(task, slots) for task in tasks))
    bad = [task.id for task, result in zip(tasks, results, strict=True) if not all(result)]
    right, wrong, seen = (sum(column) for column in zip(*results, strict=True))
    print(f"{split}: {len(tasks)} tasks; reference passes {right}, bug fails {wrong}, and visibly {seen}", *bad)
    return not bad


def main() -> None:
    """Exit code 1 when a task is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="tasks of each split to judge; all without it")
    count = parser.parse_args().count
    sound = [asyncio.run(validate(split, count)) for split in ("train", "test")]
    sys.exit(not all(sound))


if __name__ == "__main__":
    main()
