"""Many turns in a world: the policy speaks, the world answers, until one of them or a limit ends it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from rlforge.config import PartConfig
from rlforge.deadlines import deadline
from rlforge.errors import (
    ContextOverflow,
    DataError,
    DeadlineExceeded,
    EndpointBroken,
    EndpointBusy,
    EndpointCancelled,
    EndpointError,
    ExtensionError,
    boundary,
)
from rlforge.orchestrators.environments import EnvironmentConfig, Environments, Opened
from rlforge.registry import TOOL_FORMATS
from rlforge.seeds import derive_seed
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.tool_calls.format import ReadReply, ToolFormat, UnreadableToolCall
from rlforge.tokens.transcript import History, Transcript
from rlforge.types import (
    Completion,
    FinishReason,
    GenerateRequest,
    Message,
    Observation,
    Rollout,
    RolloutKey,
    Sampling,
    StopReason,
    Task,
    TextPart,
    Turn,
    WorldStart,
)

_NOTHING = Observation()
_CLOSE_S = 10.0
_A_WORLD = boundary("a step or the end of its world")


class EnvironmentLoop:
    """Plays each rollout in a world of its own; the members of a group start the same world."""

    class Config(PartConfig):
        """Settings of `environment_loop`; which environments there are is said once, in the recipe's `environments`."""

        type: str = "environment_loop"
        max_turns: int = Field(default=32, ge=1)
        """Replies of the policy at most; a rollout that reaches them ends with `max_turns`."""
        max_tokens: int | None = Field(default=None, ge=1)
        """Longest sequence in tokens, prompt, replies and observations together; unset: the generator's context."""
        open_timeout_s: float = Field(default=600.0, gt=0)
        """Seconds to wait for a world while the endpoint is busy or down, asking again and again."""
        step_timeout_s: float | None = Field(default=None, gt=0)
        """Seconds one step of the world may take; unset: what the environment says, else 60."""
        deadline_s: float = Field(default=600.0, gt=0)
        """Seconds to wait for each completion; past them the rollout ends with `timeout` and stays unscored."""
        tool_format: str = "hermes"
        """How the model writes tool calls, in worlds that have tools: `hermes`, or `package.module:Class`."""
        tell_tools: bool = True
        """Tell the model of a world's tools through the chat template; `false` where the task's own words say how to
        act. Calls are read either way."""
        on_parse_error: Literal["answer", "end"] = "answer"
        """A tool call that cannot be read is answered with what is wrong, as a turn that the world does not see; `end`
        ends the rollout with `parse_error`. Either way it is the policy's doing and the rollout is scored."""
        on_long_reply: Literal["end", "step"] = "end"
        """A reply cut at `max_new_tokens` ends the rollout with `max_tokens`; `step` hands it to the world as it is."""
        history: History = "template"
        """Replies that the chat template changes later on (it leaves out old reasoning) are changed in later prompts
        too, whose tokens then begin a trajectory of their own; `append` keeps every sampled token in every prompt."""

        @field_validator("tool_format")
        @classmethod
        def _is_known(cls, name: str) -> str:
            TOOL_FORMATS.load(name)
            return name

    wants: ClassVar[tuple[str, ...]] = ("environments",)

    def __init__(
        self,
        config: Config,
        *,
        generate: Callable[[GenerateRequest], Awaitable[Completion]],
        renderer: ChatRenderer,
        environments: Mapping[str, EnvironmentConfig],
    ) -> None:
        self._config = config
        self._generate = generate
        self._renderer = renderer
        self._environments = Environments(environments)
        self._format: ToolFormat = TOOL_FORMATS.load(config.tool_format)()

    async def start(self) -> None:
        """Make ready to connect. Raises ConfigError for a secret or a `python:` target that is not there."""
        await self._environments.start()

    async def close(self) -> None:
        """Free every world and every connection. May be called twice."""
        await self._environments.close()

    async def run(self, key: RolloutKey, task: Task, sampling: Sampling, seed: int) -> Rollout:
        """Play one rollout. Faults of the world and limits end it with a stop reason; its world is freed.

        Raises DataError for a beginning that the tokenizer cannot encode: that task is wrong at every attempt.
        """
        play = _Play(key, task, sampling, seed)
        error = ""
        try:
            stop_reason = await self._play(play)
        except ContextOverflow as fault:
            stop_reason, error = StopReason.CONTEXT_OVERFLOW, str(fault)
        except (DeadlineExceeded, EndpointBusy) as fault:
            stop_reason, error = StopReason.TIMEOUT, str(fault)
        except EndpointCancelled as fault:
            stop_reason, error = StopReason.CANCELLED, str(fault)
        except EndpointError as fault:
            stop_reason, error = StopReason.ENVIRONMENT_ERROR, str(fault)
        return Rollout(
            key=key,
            task=task,
            seed=seed,
            turns=tuple(play.turns),
            stop_reason=stop_reason,
            opening=play.opening,
            sampling=sampling,
            timings=play.timings,
            error=error,
        )

    async def _play(self, play: _Play) -> StopReason:
        with play.timed("open_s"):
            opened = await self._environments.open(
                play.start(), within_s=self._config.open_timeout_s, step_timeout_s=self._config.step_timeout_s
            )
        play.opening = opened.first.messages
        try:
            if opened.first.over:
                return _end(opened.first)
            transcript = self._transcript(play.task, opened)
            while (ended := await self._turn(play, opened, transcript)) is None:
                pass
            return ended
        finally:
            with suppress(EndpointError, DeadlineExceeded, ExtensionError), _A_WORLD:
                async with deadline(_CLOSE_S, f"the world of rollout '{play.key.rollout_id}' to close"):
                    await opened.world.close()

    def _transcript(self, task: Task, opened: Opened) -> Transcript:
        messages = (*task.messages, *opened.first.messages)
        told = opened.tools if self._config.tell_tools else ()
        try:
            return Transcript(self._renderer, messages, told, history=self._config.history)
        except DataError as error:
            raise DataError(f"task '{task.id}': {error}") from error

    async def _turn(self, play: _Play, opened: Opened, transcript: Transcript) -> StopReason | None:
        """One reply and what comes of it; why the rollout ends, or None when it goes on."""
        if len(play.turns) == self._config.max_turns:
            return StopReason.MAX_TURNS
        room = self._room(transcript)
        if room < 1:
            return StopReason.MAX_TOKENS
        prompt_ids = transcript.prompt_ids
        completion = await self._completion(play, prompt_ids, room)
        text = transcript.reply(completion)
        read, complaint = self._read(text, len(play.turns), opened)
        said, observation = _message(read), _NOTHING
        try:
            if completion.finish_reason == FinishReason.LENGTH and (cut := self._cut(completion, play.sampling, room)):
                return cut
            if complaint and self._config.on_parse_error == "end":
                return StopReason.PARSE_ERROR
            if complaint:
                observation = _told(complaint)
            else:
                observation = await self._step(play, opened, said)
        finally:  # what was said counts, whatever became of it
            play.turns.append(_lived(prompt_ids, completion, said, observation))
        if observation.over:
            return _end(observation)
        try:
            transcript.hear(observation.messages)
        except DataError as error:
            raise EndpointBroken(
                f"the world of rollout '{play.key.rollout_id}' showed what is no prompt: {error}"
            ) from error
        return None

    async def _step(self, play: _Play, opened: Opened, said: Message) -> Observation:
        try:
            with play.timed("world_s"), _A_WORLD:
                return await opened.world.step(said)
        except ExtensionError as error:  # an environment in this process raised what it likes
            raise EndpointBroken(f"rollout '{play.key.rollout_id}': {error}") from error
        except DataError as error:
            raise EndpointBroken(
                f"the reply of rollout '{play.key.rollout_id}' cannot be passed on: {error}"
            ) from error

    def _room(self, transcript: Transcript) -> int:
        """Tokens that the reply may have before the sequence is too long."""
        longest = self._config.max_tokens
        return 2**31 if longest is None else longest - len(transcript.prompt_ids)

    async def _completion(self, play: _Play, prompt_ids: tuple[int, ...], room: int) -> Completion:
        key, sampling = play.key, play.sampling
        if room < sampling.max_new_tokens:
            sampling = replace(sampling, max_new_tokens=room)
        request = GenerateRequest(
            prompt_ids=prompt_ids,
            sampling=sampling,
            seed=derive_seed(play.seed, key.task_id, key.epoch, key.member, key.attempt, len(play.turns)),
            stop_ids=self._renderer.stop_ids,
        )
        with play.timed("generate_s"):
            async with deadline(self._config.deadline_s, lambda: f"a completion for rollout '{key.rollout_id}'"):
                return await self._generate(request)

    def _read(self, text: str, turn: int, opened: Opened) -> tuple[ReadReply, str]:
        """The reply taken apart, and what to tell the model where that is not possible."""
        if not opened.tools:
            return ReadReply(text, ()), ""
        try:
            return self._format.read(text, turn), ""
        except UnreadableToolCall as error:
            return ReadReply(text, ()), str(error)

    def _cut(self, completion: Completion, sampling: Sampling, room: int) -> StopReason | None:
        """Why a reply that was cut ends the rollout; None when the world is to see it."""
        length = len(completion.token_ids)
        if length < min(room, sampling.max_new_tokens):
            return StopReason.CONTEXT_OVERFLOW
        return StopReason.MAX_TOKENS if length >= room or self._config.on_long_reply == "end" else None


@dataclass(slots=True)
class _Play:
    """A rollout on its way."""

    key: RolloutKey
    task: Task
    sampling: Sampling
    seed: int
    opening: tuple[Message, ...] = ()
    turns: list[Turn] = field(default_factory=lambda: list[Turn]())
    timings: dict[str, float] = field(default_factory=lambda: {"open_s": 0.0, "generate_s": 0.0, "world_s": 0.0})

    def start(self) -> WorldStart:
        """What the world begins with: the same for all members of the group and all their attempts."""
        key, task = self.key, self.task
        return WorldStart(
            task=replace(task, id=task.id.removeprefix(f"{task.source}/")),  # as its own list or row names it
            seed=derive_seed(self.seed, "world", key.task_id, key.epoch, key.group),
            rollout_id=key.rollout_id,
            group=key.group,
            member=key.member,
            attempt=key.attempt,
        )

    def timed(self, name: str) -> _Lap:
        """Add the seconds of the body to a timing."""
        return _Lap(self.timings, name)


class _Lap:
    """Adds up seconds; a class, because a generator would cost several times as much in every turn."""

    __slots__ = ("_began", "_name", "_timings")

    def __init__(self, timings: dict[str, float], name: str) -> None:
        self._timings = timings
        self._name = name

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._timings[self._name] += time.perf_counter() - self._began


def _message(read: ReadReply) -> Message:
    content = (TextPart(text=read.text),) if read.text or not read.calls else ()
    return Message(role="assistant", content=content, tool_calls=read.calls)


def _told(complaint: str) -> Observation:
    return Observation(messages=(Message.of("tool", complaint),))


def _lived(prompt_ids: tuple[int, ...], completion: Completion, said: Message, observation: Observation) -> Turn:
    return Turn(
        prompt_ids=prompt_ids,
        completion=completion,
        message=said,
        observation=observation.messages,
        reward=observation.reward,
        components=observation.components,
        info=observation.info,
    )


def _end(observation: Observation) -> StopReason:
    """A limit of the world's own is a limit on turns, whatever it is made of."""
    return StopReason.COMPLETED if observation.terminated else StopReason.MAX_TURNS
