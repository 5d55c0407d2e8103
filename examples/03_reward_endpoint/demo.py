"""Trains on two reward endpoints, kills both in the middle, starts them again, tells what became of the rollouts."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rlforge.runlog.folder import RunFolder

HERE = Path(__file__).parent
RUNS = HERE / "runs"
ADDRESSES = ("grpc://127.0.0.1:50151", "http://127.0.0.1:50152")
KILL_AT_STEP = 5
AWAY_S = 15.0
RIGHTLY = ("right, scored 1", "wrong, scored 0")
"""What a rollout and its reward may be; the demonstration fails at any other."""


def main() -> int:
    environment = {**os.environ, "REWARD_TOKEN": secrets.token_hex(16)}
    endpoints = start(environment)
    name = f"reward-endpoint-{time.strftime('%H%M%S')}"
    command = [str(Path(sys.executable).parent / "rlforge"), "train", str(HERE / "recipe.yaml")]
    training = subprocess.Popen([*command, f"runs_dir={RUNS}", f"name={name}", *sys.argv[1:]], env=environment)
    signal.signal(signal.SIGTERM, lambda *_: training.terminate())
    try:
        wait_for_step(training, RUNS / name, KILL_AT_STEP)
        for endpoint in endpoints:
            endpoint.kill()
        print(f"demo: step {KILL_AT_STEP}: both endpoints killed; they stay away for {AWAY_S:.0f} s", flush=True)
        time.sleep(AWAY_S)
        endpoints += start(environment)
        code = training.wait()
    except KeyboardInterrupt:
        return training.wait()  # it has heard Ctrl-C as well, and finishes its step
    finally:
        training.terminate()
        for endpoint in endpoints:
            endpoint.kill()
    wrong = tell(RunFolder.open(RUNS / name), environment["REWARD_TOKEN"])
    for what in wrong:
        print(f"demo: this must not be: {what}")
    return code or bool(wrong)


def start(environment: dict[str, str]) -> list[subprocess.Popen[bytes]]:
    serve = [sys.executable, str(HERE / "endpoint.py")]
    quiet: dict[str, Any] = {"stderr": subprocess.DEVNULL, "start_new_session": True}  # Ctrl-C is for the training
    return [subprocess.Popen([*serve, address], env=environment, **quiet) for address in ADDRESSES]


def wait_for_step(training: subprocess.Popen[bytes], run: Path, step: int) -> None:
    """Until the run collects the rollouts of that step of `grpo`."""
    while training.poll() is None:
        now = RunFolder.open(run).activity.read() if (run / "run.json").is_file() else None
        if now and now.stage == "grpo" and now.step >= step and now.doing == "collect":
            return
        time.sleep(0.02)
    raise SystemExit(f"training ended with {training.returncode} before step {step}")


def tell(folder: RunFolder, token: str) -> list[str]:
    """Prints what became of the run; what must not have become of it."""
    rollouts = [one for step in folder.rollout_steps("grpo") for one in folder.rollouts("grpo", step)]
    ids = Counter(one.id for one in rollouts)
    doubled = sum(count > 1 for count in ids.values())
    found = Counter(verdict(one) for one in rollouts)
    print(f"demo: {len(rollouts)} rollouts, {'each once' if not doubled else f'{doubled} more than once'}")
    print("demo: " + ", ".join(f"{count} {kind}" for kind, count in found.most_common()))
    for event in folder.events.read("endpoint_down"):
        print(f"demo: {event.message}")
    longest = max(folder.metrics.records("grpo"), key=lambda record: record.metrics["time/collect_s"])
    print(f"demo: step {longest.step} waited {longest.metrics['time/collect_s']:.1f} s for its rollouts")
    written = [path for path in folder.path.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    print(f"demo: files of the run that hold the token: {len(written)}")
    wrong = [f"{count} rollouts {kind}" for kind, count in found.items() if kind not in RIGHTLY]
    wrong += [f"{doubled} rollouts are there more than once"] * bool(doubled)
    return wrong + [f"{path} holds the token" for path in written]


def verdict(rollout) -> str:
    """What the reward of a rollout should have been, and what it is."""
    if rollout.reward is None or rollout.reward.value is None:
        return "unscored"
    right = rollout.text.strip() == rollout.task.answer
    return f"{'right' if right else 'wrong'}, scored {rollout.reward.value:g}"


if __name__ == "__main__":
    sys.exit(main())
