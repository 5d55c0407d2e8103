"""vLLM's own server on a checkpoint as a run leaves it, asked as any client would.

The module behind `vllm serve`: the command itself asks for a package named `vllm`, which the CPU wheels are not.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.models import save_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_a_checkpoint_is_served_unmodified(
    tiny_model: Callable[..., str], tmp_path: Path, free_port: Callable[[], int]
) -> None:
    folder = asyncio.run(save_checkpoint(tiny_model(), tmp_path))
    port = free_port()
    serve = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", f"--model={folder}"]
    options = ["--dtype=float32", "--enforce-eager", "--max-model-len=128", "--kv-cache-memory-bytes=67108864"]
    server = subprocess.Popen([*serve, "--host=127.0.0.1", f"--port={port}", *options])
    try:
        wait_until_healthy(server, f"http://127.0.0.1:{port}/health")
        question = {"model": folder, "messages": [{"role": "user", "content": "1+2="}], "max_tokens": 4}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=question, timeout=120).json()
        assert answer["usage"]["completion_tokens"] in range(1, 5), answer
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


def wait_until_healthy(server: subprocess.Popen[bytes], address: str) -> None:
    give_up = time.monotonic() + 240
    while time.monotonic() < give_up:
        assert server.poll() is None, f"vllm serve ended with {server.returncode}"
        try:
            if httpx.get(address, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(1)
    raise AssertionError("vllm serve did not come up in 240 s")
