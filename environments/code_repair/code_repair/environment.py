"""The environment: a file with a bug, tests that can be run, and a submission that hidden tests decide on."""

from code_repair.tasks import tasks_of
from rlforge.sandbox.programs import Limits
from rlforge.sandbox.testing import run_tests
from rlforge.types import Task

LIMITS = Limits(wall_s=5.0, cpu_s=2.0, memory_bytes=256 << 20, output_bytes=16 << 10)
LARGEST = 10_000
"""Characters the code may grow to."""


class CodeRepair:
    """One world: the reward is 1 when submitted code passes every hidden test, else 0. Code runs in a sandbox alone."""

    name = "code_repair"
    version = "1"
    deterministic = True
    step_timeout_s = 60.0
    splits = ("train", "test")

    @staticmethod
    def tasks(split: str) -> list[Task]:
        """Functions of `train` are never in `test`."""
        return list(tasks_of(split))

    def reset(self, task: Task) -> None:
        """A file with the task's bug; the task's own message says all there is to say."""
        self._code, self._visible, self._hidden = (task.info[key] for key in ("broken", "visible", "tests"))
        self._share = 0.0
        self.done = False

    def read(self) -> str:
        """Show the code as it is now."""
        return self._code

    def replace(self, old: str, new: str) -> str:
        """Replace a piece of the code by another.

        Args:
            old: The piece as it stands in the code, which must occur exactly once.
            new: What takes its place.
        """
        found = self._code.count(old) if old else 0
        if found != 1:
            return f"Nothing was changed: the piece occurs {found} times; it must occur once."
        return self._take(self._code.replace(old, new))

    def write(self, code: str) -> str:
        """Put new code in the place of all of it.

        Args:
            code: The whole file.
        """
        return self._take(code)

    async def test(self) -> str:
        """Run the tests that may be seen, and show what fails."""
        report = await run_tests(self._code, self._visible, LIMITS)
        lines = [f"{len(report.passed)} of {len(report.passed) + len(report.failed)} tests passed."]
        return "\n".join(lines + [f"{name}: {why}" for name, why in report.failed])

    async def submit(self) -> str:
        """Hand the code in. Hidden tests decide; nothing can be changed afterwards."""
        if not self.done:
            self._share = (await run_tests(self._code, self._hidden, LIMITS)).share
            self.done = True
        return "The code was handed in."

    def reward(self) -> dict[str, float]:
        """1 for code that passes every hidden test, once it is handed in."""
        return {"reward": float(self._share == 1.0), "hidden_share": self._share, "submitted": float(self.done)}

    def _take(self, code: str) -> str:
        if len(code) > LARGEST:
            return f"Nothing was changed: the code would have more than {LARGEST} characters."
        self._code = code
        return "Changed."
