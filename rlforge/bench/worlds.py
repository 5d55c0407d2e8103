"""Worlds of the do-nothing environment as the benches play them: by hand, and in the environment loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

from rlforge.bench.nothing import INTERACT, SHOWN
from rlforge.generators.scripted import ScriptedGenerator
from rlforge.orchestrators.environment_loop import EnvironmentLoop
from rlforge.orchestrators.environments import EnvironmentConfig
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.tokenizer import TokenizerConfig, build_tokenizer
from rlforge.types import Completion, GenerateRequest, Message, Rollout, RolloutKey, Sampling, Task
from rlforge.wire.pb import environment_pb2, types_pb2

QUESTION = "find the way out"
REPLY = "go north and look around"
_CONTEXT = 100_000

Generate: TypeAlias = Callable[[GenerateRequest], Awaitable[Completion]]
Think: TypeAlias = Callable[[], Awaitable[object]]


def task(turns: int, delay_s: float) -> Task:
    """A task whose world ends after so many turns and answers each after `delay_s`."""
    info = {"turns": turns, "delay_s": delay_s}
    return Task(id="room", messages=(Message.of("user", QUESTION),), info=info, source="nothing")


# --- the raw part ------------------------------------------------------------------------------------------------


async def bare_world(channel: Any, turns: int, delay_s: float, think: Think) -> int:
    """One world by hand: a stream, a message out, a message in; returns the turns."""
    call = channel.stream_stream(
        INTERACT, environment_pb2.Action.SerializeToString, environment_pb2.Observation.FromString
    )()
    await call.write(_bare_start(turns, delay_s))
    observation = await call.read()
    while not observation.terminated:
        await think()
        said = types_pb2.Message(role="assistant", content=[types_pb2.ContentPart(text=REPLY)])
        await call.write(environment_pb2.Action(step=observation.step + 1, message=said))
        observation = await call.read()
    return observation.step


def _bare_start(turns: int, delay_s: float) -> environment_pb2.Action:
    asked = types_pb2.Message(role="user", content=[types_pb2.ContentPart(text=QUESTION)])
    first = types_pb2.Task(id="room", messages=[asked])
    first.info.update({"turns": turns, "delay_s": delay_s})
    return environment_pb2.Action(step=0, start=environment_pb2.WorldStart(task=first, seed=1))


# --- the environment loop ----------------------------------------------------------------------------------------


class Player:
    """The environment loop with the scripted generator, whose only reply is the one that is played by hand."""

    def __init__(self, address: str, folder: str) -> None:
        texts = [f"{QUESTION}. {SHOWN}. {REPLY}. user assistant"] * 2
        build_tokenizer(TokenizerConfig(type="bpe", vocab_size=512), texts, folder, _CONTEXT)
        self.renderer = ChatRenderer.from_folder(folder)
        ids = (*self.renderer.encode(REPLY), self.renderer.eos_id)
        scripted = ScriptedGenerator.Config(replies=(ids,), context=_CONTEXT)
        self.generator = ScriptedGenerator(scripted, model=str(Path(folder)), seed=0, run_id="bench")
        self._address = address

    async def loop(self, generate: Generate | None = None) -> EnvironmentLoop:
        """Started; close it when done. `generate` stands between it and the generator where given."""
        await self.generator.start()
        loop = EnvironmentLoop(
            EnvironmentLoop.Config(max_turns=10_000),
            generate=generate or self.generator.generate,
            renderer=self.renderer,
            environments={"nothing": EnvironmentConfig(address=f"grpc://{self._address}")},
        )
        await loop.start()
        return loop


async def played(loop: EnvironmentLoop, worlds: int, turns: int, delay_s: float, spread_s: float = 0.0) -> int:
    """All worlds at once, the first turn of each put off by up to `spread_s`; returns the turns."""
    rollouts = await asyncio.gather(
        *(_later(spread_s * number / worlds, loop, number, task(turns, delay_s)) for number in range(worlds))
    )
    return sum(len(rollout.turns) for rollout in rollouts)


async def _later(wait_s: float, loop: EnvironmentLoop, number: int, what: Task) -> Rollout:
    await asyncio.sleep(wait_s)
    key = RolloutKey(task_id=what.id, group=what.id, member=number)
    return await loop.run(key, what, Sampling(max_new_tokens=64), seed=0)
