"""Two real steps of every example, on Ray and vLLM, as `rlforge train --dry-run` does them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).parents[2]
RLFORGE = Path(sys.executable).parent / "rlforge"


SERVED = {"02_robot_over_grpc", "03_reward_endpoint", "05_judge", "06_warehouse_js"}
"""Their environment or rewards are served by processes of their own: test_served_examples.py starts those."""


@pytest.mark.parametrize(
    "example", sorted({path.parent.name for path in (ROOT / "examples").glob("*/recipe.yaml")} - SERVED)
)
def test_two_steps_of_the_example_run_from_start_to_checkpoint(example: str, tmp_path: Path) -> None:
    command = [str(RLFORGE), "train", "--dry-run", "--json", "--runs-dir", str(tmp_path)]
    command.append(str(ROOT / "examples" / example / "recipe.yaml"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=560, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [stage["steps"] for stage in result["stages"]] == [2] * len(result["stages"])
    for stage in result["stages"]:
        assert (Path(stage["checkpoint"]) / "model.safetensors").is_file()
    assert (Path(result["run"]) / "metrics.jsonl").read_text().count("\n") >= 2
