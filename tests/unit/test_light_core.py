"""What is loaded by whoever only imports rlforge, or only hosts a world or a reward."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LARGE = {"torch", "ray", "vllm", "transformers"}
TRAINING = LARGE | {"tokenizers", "jinja2", "safetensors", "reasoning_gym"}
"""What the light core does not install."""

HOSTS = """
import asyncio
from rlforge import serve
from rlforge.hosting import grpc_server, http_server
from rlforge.hosting.serve import serving

class World:
    def reset(self, task, seed):
        return "go"

    def step(self, action):
        return "on", 1.0, True, False, {}

async def host():
    for scheme in ("grpc", "http"):
        for thing in (World, lambda rollout: 1.0):
            async with serving(thing, f"{scheme}://127.0.0.1:0"):
                pass

asyncio.run(host())
"""


def loaded_by(code: str) -> set[str]:
    """Packages that a new process has loaded after some code."""
    code += "\nimport sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_rlforge_loads_nothing_large() -> None:
    loaded = loaded_by("import rlforge")
    assert "rlforge" in loaded
    assert not loaded & (LARGE | {"grpc"})


def test_hosting_a_world_or_a_reward_loads_nothing_that_only_training_needs() -> None:
    loaded = loaded_by(HOSTS)
    assert {"rlforge", "grpc", "uvicorn"} <= loaded
    assert not loaded & TRAINING
