"""One prompt, one completion."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from pydantic import Field

from rlforge.config import PartConfig
from rlforge.deadlines import deadline
from rlforge.errors import ContextOverflow, DataError, DeadlineExceeded
from rlforge.interfaces import Renderer
from rlforge.seeds import derive_seed
from rlforge.types import (
    Completion,
    FinishReason,
    GenerateRequest,
    Message,
    Rollout,
    RolloutKey,
    Sampling,
    StopReason,
    Task,
    Turn,
)

_ENDS = {FinishReason.STOP: StopReason.COMPLETED, FinishReason.LENGTH: StopReason.MAX_TOKENS}


class SingleTurn:
    """Asks the policy once and takes its reply as the whole rollout."""

    class Config(PartConfig):
        """Settings of `single_turn`."""

        type: str = "single_turn"
        deadline_s: float = Field(600.0, gt=0)
        """Seconds to wait for the completion; past them the rollout ends with `timeout` and stays unscored."""

    def __init__(
        self, config: Config, *, generate: Callable[[GenerateRequest], Awaitable[Completion]], renderer: Renderer
    ) -> None:
        self._config = config
        self._generate = generate
        self._renderer = renderer

    async def start(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """Nothing to leave behind."""

    async def run(self, key: RolloutKey, task: Task, sampling: Sampling, seed: int) -> Rollout:
        """Play one rollout. A prompt beyond the context and a late completion end it with a stop reason.

        Raises DataError for a prompt the tokenizer cannot encode: that task is wrong at every attempt.
        """
        request = GenerateRequest(
            prompt_ids=self._prompt(task),
            sampling=sampling,
            seed=derive_seed(seed, key.task_id, key.epoch, key.member, key.attempt, 0),
            stop_ids=self._renderer.stop_ids,
        )
        started = time.perf_counter()
        turns: tuple[Turn, ...] = ()
        error = ""
        try:
            async with deadline(self._config.deadline_s, f"a completion for rollout '{key.rollout_id}'"):
                completion = await self._generate(request)
            turns = (self._turn(request, completion),)
            stop_reason = _ENDS[completion.finish_reason]
        except ContextOverflow as fault:
            stop_reason, error = StopReason.CONTEXT_OVERFLOW, str(fault)
        except DeadlineExceeded as fault:
            stop_reason, error = StopReason.TIMEOUT, str(fault)
        return Rollout(
            key=key,
            task=task,
            seed=seed,
            turns=turns,
            stop_reason=stop_reason,
            sampling=sampling,
            timings={"generate_s": time.perf_counter() - started},
            error=error,
        )

    def _prompt(self, task: Task) -> tuple[int, ...]:
        try:
            return self._renderer.prompt(task.messages)
        except DataError as error:
            raise DataError(f"task '{task.id}': {error}") from error

    def _turn(self, request: GenerateRequest, completion: Completion) -> Turn:
        reply = Message.of("assistant", self._renderer.decode(completion.token_ids))
        return Turn(prompt_ids=request.prompt_ids, completion=completion, message=reply)
