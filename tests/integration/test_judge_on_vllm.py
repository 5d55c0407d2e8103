"""The judge asks vLLM's own server, as `vllm serve` starts it, over a random model that keeps to no form."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from rlforge.rewards.judge.scorer import JudgeScorer
from rlforge.types import Metrics, Score
from tests.integration.test_vllm_serve import wait_until_healthy
from tests.rollouts import rollout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_reply_of_a_model_that_babbles_is_unscored_and_its_tokens_are_counted(tiny_model: Callable[..., str]) -> None:
    folder = tiny_model(context=4096)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    serve = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", f"--model={folder}"]
    options = ["--dtype=float32", "--enforce-eager", "--max-model-len=2048", "--kv-cache-memory-bytes=67108864"]
    server = subprocess.Popen([*serve, "--host=127.0.0.1", f"--port={port}", *options])
    try:
        wait_until_healthy(server, f"http://127.0.0.1:{port}/health")
        scores, metrics = asyncio.run(judged(f"http://127.0.0.1:{port}/v1", folder))
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
    assert [(score.value, score.error_kind) for score in scores] == [(None, "malformed")] * 2, scores
    assert metrics["scorer_judge/judge_tokens"] > 200


async def judged(address: str, model: str) -> tuple[list[Score], Metrics]:
    asked = {"rubric": "is it right?", "address": address, "model": model, "max_tokens": 16, "structured": "none"}
    scorer = JudgeScorer(JudgeScorer.Config.parse({"type": "judge", "timeout_s": 120, **asked}))
    await scorer.start()
    try:
        return await scorer.score([rollout("46"), rollout("47")]), scorer.metrics()
    finally:
        await scorer.close()
