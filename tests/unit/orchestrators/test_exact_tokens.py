"""The tokens a learner is handed are those the generator received and returned, whatever the policy samples.

The policy draws tokens at random from a tokenizer of byte pairs, so that hardly any reply is written as the tokenizer
would write it: a loop that encodes history again is found out at once.
"""

import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from rlforge.orchestrators.environment_loop import EnvironmentLoop
from rlforge.orchestrators.environments import EnvironmentConfig
from rlforge.seeds import derive_seed
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.trajectories import trajectories
from rlforge.types import (
    Completion,
    FinishReason,
    GenerateRequest,
    Message,
    Reward,
    Rollout,
    RolloutKey,
    Sampling,
    StopReason,
    Task,
    Turn,
)
from tests.exactness import Call, kept_in_prompts, learned_as_sampled
from tests.unit.tokens.templates import renderer_of

TASK = Task(id="t/0", messages=(Message.of("system", "play"),), answer=7, source="t")
TURNS = 5


@dataclass
class RandomPolicy:
    """Samples any token with equal probability, and thinks aloud where it is told to."""

    renderer: ChatRenderer
    thinks: bool = False
    calls: list[Call] = field(default_factory=list)

    async def __call__(self, request: GenerateRequest) -> Completion:
        draw = random.Random(request.seed)
        ids = self.thought * (self.thinks and draw.random() < 0.7) + tuple(
            draw.randrange(self.renderer.vocabulary) for _ in range(draw.randint(1, 20))
        )
        reason = draw.choice([FinishReason.STOP, FinishReason.STOP, FinishReason.LENGTH])
        ids += (self.renderer.eos_id,) * (reason == FinishReason.STOP and draw.random() < 0.7)
        completion = Completion(
            token_ids=ids,
            logprobs=tuple(-draw.random() for _ in ids),
            policy_versions=(draw.randrange(3),) * len(ids),
            finish_reason=reason,
        )
        self.calls.append((request, completion))
        return completion

    @property
    def thought(self) -> tuple[int, ...]:
        return tuple(i for letter in "<think>\nhm\n</think>\n\n" for i in self.renderer.encode(letter))


async def played(policy: RandomPolicy, world: str, seed: int) -> Rollout:
    config = EnvironmentLoop.Config(max_turns=TURNS, on_long_reply="step")
    environments = {"t": EnvironmentConfig(address=f"python:tests.unit.orchestrators.worlds:{world}")}
    loop = EnvironmentLoop(config, generate=policy, renderer=policy.renderer, environments=environments)
    await loop.start()
    try:
        rollout = await loop.run(RolloutKey(task_id=TASK.id), TASK, Sampling(max_new_tokens=1), seed)
    finally:
        await loop.close()
    assert rollout.stop_reason in {StopReason.MAX_TURNS, StopReason.COMPLETED}
    return replace(rollout, reward=Reward(value=1.0))


def encoded_again(policy: RandomPolicy, rollout: Rollout) -> Rollout:
    """What a loop would give that keeps messages and encodes all of them for each prompt."""
    messages = [*TASK.messages, Message.of("user", "which?")]
    turns: list[Turn] = []
    for turn in rollout.turns:
        turns.append(replace(turn, prompt_ids=policy.renderer.prompt(messages)))
        messages += [Message.of("assistant", policy.renderer.decode(turn.completion.token_ids)), *turn.observation]
    return replace(rollout, turns=tuple(turns))


@pytest.mark.parametrize("shape", ["chatml", "llama"])
async def test_a_template_that_keeps_history_gives_one_trajectory_of_what_was_sampled(
    shape: str, tmp_path: Path
) -> None:
    renderer = renderer_of(shape, tmp_path)
    not_canonical = 0
    for seed in range(30):
        policy = RandomPolicy(renderer)
        rollout = await played(policy, "Guess", seed)
        handed = trajectories(rollout)
        learned_as_sampled(policy.calls, handed)
        kept_in_prompts(policy.calls)
        assert len(handed) == 1
        said = [completion.token_ids for _, completion in policy.calls]
        not_canonical += sum(renderer.encode(renderer.decode(ids)) != ids for ids in said)
    assert not_canonical > 60


@pytest.mark.parametrize("shape", ["forgets", "opens"])
async def test_a_template_that_leaves_old_reasoning_out_gives_a_trajectory_for_each_history(
    shape: str, tmp_path: Path
) -> None:
    renderer = renderer_of(shape, tmp_path)
    forks = 0
    for seed in range(30):
        policy = RandomPolicy(renderer, thinks=True)
        handed = trajectories(await played(policy, "Guess", seed))
        learned_as_sampled(policy.calls, handed)
        forks += len(handed) - 1
    assert forks > 30


@pytest.mark.parametrize("shape", ["forgets", "opens"])
async def test_what_a_forgetful_template_keeps_of_a_reply_stays_as_it_was_sampled(shape: str, tmp_path: Path) -> None:
    renderer = renderer_of(shape, tmp_path)
    for seed in range(30):
        policy = RandomPolicy(renderer, thinks=True)
        await played(policy, "Guess", seed)
        kept_in_prompts(policy.calls, policy.thought)


@pytest.mark.parametrize("shape", ["chatml", "llama", "forgets", "opens"])
async def test_the_check_fails_when_history_is_encoded_again(shape: str, tmp_path: Path) -> None:
    renderer = renderer_of(shape, tmp_path)
    forgetful = shape in ("forgets", "opens")
    policy = RandomPolicy(renderer, thinks=forgetful)
    rollout = encoded_again(policy, await played(policy, "Guess", derive_seed(1)))
    calls = [
        (GenerateRequest(prompt_ids=turn.prompt_ids, sampling=Sampling(), seed=0), turn.completion)
        for turn in rollout.turns
    ]
    with pytest.raises(AssertionError, match="does not hold what was sampled"):
        kept_in_prompts(calls, policy.thought if forgetful else ())
    with pytest.raises(AssertionError, match="not behind the prompt it was sampled from"):
        learned_as_sampled(policy.calls, trajectories(rollout))
