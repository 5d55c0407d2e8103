"""`make demo`: trains recipe.yaml, or goes on with it, and ends with one line that says what came of it."""

import subprocess
import sys
import time
from pathlib import Path

from rlforge.runlog.folder import RunFolder

RECIPE = Path(__file__).parent / "recipe.yaml"
RUNS = Path(__file__).parent / "runs"
RUN = RUNS / "arithmetic"
ACCURACY = "eval/held_out/accuracy"


def main() -> int:
    began = time.monotonic()
    finished = (RUN / "run.json").exists() and RunFolder.open(RUN).status == "finished"
    if finished:
        print(f"demo: found a finished run in {RUN}; remove that folder to train again", flush=True)
        rlforge("runs", "show", str(RUN))
    else:
        code = train()
        if code != 0:
            return code
    result = RunFolder.open(RUN).result()
    assert result is not None
    grpo = result.stages[-1]
    before, after = grpo.before[ACCURACY], grpo.after[ACCURACY]
    seconds = result.seconds if finished else time.monotonic() - began
    print(f"demo: held-out greedy accuracy {before:.2f} -> {after:.2f} in {seconds:.0f} s")
    return 0


def train() -> int:
    if (RUN / "run.json").exists():
        return rlforge("train", "--resume", str(RUN))
    return rlforge("train", str(RECIPE), f"runs_dir={RUNS}")


def rlforge(*arguments: str) -> int:
    command = [str(Path(sys.executable).parent / "rlforge"), *arguments]
    running = subprocess.Popen(command)
    while True:
        try:
            return running.wait()
        except KeyboardInterrupt:  # the run heard it too and is finishing its step
            continue


if __name__ == "__main__":
    sys.exit(main())
