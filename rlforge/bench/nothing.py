"""An environment and a reward endpoint that do nothing, in a process of their own, written against gRPC alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import contextmanager
from functools import cache
from typing import Any

from rlforge.errors import SetupError
from rlforge.processes import die_with_owner, end_processes
from rlforge.wire.pb import environment_pb2, reward_pb2, types_pb2
from rlforge.wire.version import PROTOCOL_VERSION

ENVIRONMENT, REWARD = "rlforge.v1.Environment", "rlforge.v1.Reward"
INTERACT = f"/{ENVIRONMENT}/Interact"
SCORE = f"/{REWARD}/Score"
SHOWN = "you are in a small room; there is nothing to see"


@contextmanager
def serving_nothing() -> Generator[str]:
    """Start the process; gives `host:port`. Raises SetupError when it does not come up."""
    command = [sys.executable, "-m", "rlforge.bench.nothing"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline().strip() if process.stdout else ""
            if not port:
                raise SetupError("the do-nothing server of the bench ended before it said its port")
            yield f"127.0.0.1:{port}"
        finally:
            end_processes(_children(process.pid))


def _children(pid: int) -> list[Any]:
    import psutil

    return [psutil.Process(pid)] if psutil.pid_exists(pid) else []


async def _interact(actions: AsyncIterator[bytes], _context: Any) -> AsyncGenerator[bytes]:
    """A world that shows the same thing for as many turns as the task's `info` says, after as long as it says."""
    turns, delay_s = 0, 0.0
    async for sent in actions:
        action = environment_pb2.Action.FromString(sent)
        if action.HasField("start"):
            info = action.start.task.info.fields
            turns, delay_s = int(info["turns"].number_value), info["delay_s"].number_value
        elif delay_s:
            await asyncio.sleep(delay_s)
        yield _observation(action.step, over=action.step == turns)


@cache
def _observation(step: int, *, over: bool) -> bytes:
    shown = types_pb2.Message(role="user", content=[types_pb2.ContentPart(text=SHOWN)])
    return environment_pb2.Observation(step=step, messages=[shown], terminated=over).SerializeToString()


async def _score(sent: bytes, _context: Any) -> bytes:
    """The value 1 for each item."""
    request = reward_pb2.ScoreRequest.FromString(sent)
    one = types_pb2.Scored(value=1.0)
    scores = [types_pb2.Score(id=item.id, scored=one) for item in request.items]
    return reward_pb2.ScoreResponse(request_id=request.request_id, scores=scores).SerializeToString()


async def _describe_environment(_sent: bytes, _context: Any) -> bytes:
    return environment_pb2.EnvironmentSpec(name="nothing", protocol_version=PROTOCOL_VERSION).SerializeToString()


async def _describe_reward(_sent: bytes, _context: Any) -> bytes:
    return reward_pb2.ScorerSpec(name="nothing", protocol_version=PROTOCOL_VERSION).SerializeToString()


async def _serve() -> None:
    import grpc
    import grpc.aio

    environment = {
        "Describe": grpc.unary_unary_rpc_method_handler(_describe_environment),
        "Interact": grpc.stream_stream_rpc_method_handler(_interact),
    }
    reward = {
        "Describe": grpc.unary_unary_rpc_method_handler(_describe_reward),
        "Score": grpc.unary_unary_rpc_method_handler(_score),
    }
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 2**26)])
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(ENVIRONMENT, environment),
            grpc.method_handlers_generic_handler(REWARD, reward),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    die_with_owner()
    asyncio.run(_serve())
