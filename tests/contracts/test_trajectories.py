"""What `trajectories` promises of any rollout: exact tokens, learned under the context they were sampled in."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlforge.tokens.trajectories import trajectories
from rlforge.types import (
    Completion,
    FinishReason,
    Message,
    Reward,
    Rollout,
    RolloutKey,
    Sampling,
    StopReason,
    Task,
    Turn,
)

TASK = Task(id="addition/17", messages=(Message.of("user", "1+2="),))


def turn(prompt: list[int], sampled: list[int], version: int = 0) -> Turn:
    completion = Completion(
        token_ids=tuple(sampled),
        logprobs=tuple(-0.5 - index for index in range(len(sampled))),
        policy_versions=(version,) * len(sampled),
        finish_reason=FinishReason.STOP,
    )
    return Turn(prompt_ids=tuple(prompt), completion=completion, message=Message.of("assistant", ""))


def rollout(*turns: Turn, reward: float | None = 1.0, children: tuple[Rollout, ...] = (), **changes: object) -> Rollout:
    made = Rollout(
        key=RolloutKey(task_id=TASK.id, group="g", member=3),
        task=TASK,
        seed=0,
        turns=turns,
        stop_reason=StopReason.COMPLETED,
        children=children,
        reward=Reward(value=reward),
    )
    return dataclasses.replace(made, **changes)


def test_one_turn_is_one_trajectory() -> None:
    (one,) = trajectories(rollout(turn([5, 6, 7], [8, 2], version=4)))
    assert one.token_ids.tolist() == [5, 6, 7, 8, 2]
    assert one.sampled.tolist() == [False, False, False, True, True]
    assert one.behaviour_logprobs is not None
    assert one.policy_versions is not None
    assert one.behaviour_logprobs.tolist() == [0, 0, 0, -0.5, -1.5]
    assert one.policy_versions.tolist() == [-1, -1, -1, 4, 4]
    assert (one.prompt_length, one.weight, one.reward) == (3, 1.0, 1.0)
    assert (one.rollout, one.group, one.objective) == ("addition/17@0#3", "g", "policy")


def test_a_turn_that_continues_the_last_one_joins_its_trajectory() -> None:
    (one,) = trajectories(rollout(turn([5, 6], [7, 2]), turn([5, 6, 7, 2, 10, 11], [8, 2], version=1)))
    assert one.token_ids.tolist() == [5, 6, 7, 2, 10, 11, 8, 2]
    assert one.sampled.tolist() == [False, False, True, True, False, False, True, True]
    assert one.policy_versions is not None
    assert one.policy_versions.tolist() == [-1, -1, 0, 0, -1, -1, 1, 1]
    assert one.prompt_length == 2


def test_a_two_turn_rollout_with_a_rewritten_history_forks_into_two_that_weigh_one() -> None:
    first, second = trajectories(rollout(turn([5, 6], [7, 2]), turn([5, 6, 99, 2, 10], [8, 2], version=1)))
    assert first.token_ids.tolist() == [5, 6, 7, 2]
    assert second.token_ids.tolist() == [5, 6, 99, 2, 10, 8, 2]
    assert second.sampled.tolist() == [False] * 5 + [True, True]  # 99 is not what the policy sampled
    assert first.weight + second.weight == 1.0
    assert first.rollout == second.rollout
    assert (first.reward, second.reward) == (1.0, 1.0)


def test_two_conversations_kept_going_at_once_stay_two_trajectories() -> None:
    turns = turn([5], [7]), turn([6], [8]), turn([5, 7, 1], [9]), turn([6, 8, 1], [3])
    assert [t.token_ids.tolist() for t in trajectories(rollout(*turns))] == [[5, 7, 1, 9], [6, 8, 1, 3]]


def test_children_share_the_weight_and_the_reward_of_the_root() -> None:
    child = rollout(turn([1, 2], [3]), role="searcher", parent="addition/17@0#3", sampling=Sampling(temperature=0.7))
    tree = rollout(
        turn([5, 6], [7]), children=(child, rollout(turn([4], [9]), turn([8], [9]), reward=None)), reward=0.25
    )
    parts = trajectories(tree)
    assert len(parts) == 4
    assert sum(part.weight for part in parts) == pytest.approx(1.0)
    assert {part.reward for part in parts} == {0.25}
    assert {part.rollout for part in parts} == {tree.id}
    assert [part.temperature for part in parts] == [1.0, 0.7, 1.0, 1.0]


def test_unscored_rollout_gives_nothing_to_learn_from() -> None:
    assert trajectories(rollout(turn([5], [7]), reward=None)) == ()
    assert trajectories(dataclasses.replace(rollout(turn([5], [7])), reward=None)) == ()


def test_a_rollout_that_sampled_nothing_gives_nothing() -> None:
    assert trajectories(rollout()) == ()
    assert trajectories(rollout(turn([5], []))) == ()


def test_the_first_token_of_a_sequence_is_never_learned() -> None:
    (one,) = trajectories(rollout(turn([], [7, 8])))
    assert one.sampled.tolist() == [False, True]
    assert one.behaviour_logprobs is not None
    assert one.behaviour_logprobs.tolist() == [0.0, -1.5]


def test_cut_trajectories_keep_the_weight_of_one_rollout() -> None:
    long = rollout(turn([5, 6], [7, 2]), turn([1, 1, 1, 1], [8]))
    (one,) = trajectories(long, max_tokens=3)
    assert (one.token_ids.tolist(), one.weight) == ([5, 6, 7], 1.0)


tokens = st.lists(st.integers(0, 2), max_size=4)


@given(turns=st.lists(st.tuples(tokens, tokens, st.booleans()), max_size=6))
def test_every_sampled_token_is_learned_once_after_exactly_its_prompt(
    turns: list[tuple[list[int], list[int], bool]],
) -> None:
    history: list[int] = [1]
    made: list[Turn] = []
    for given_ids, sampled, continues in turns:
        prompt = (history if continues else [1]) + given_ids
        made.append(turn(prompt, sampled, version=len(made)))
        history = prompt + sampled
    parts = trajectories(rollout(*made))
    for version, played in enumerate(made):
        ids = list(played.completion.token_ids)
        if not ids:
            continue
        (home,) = [part for part in parts if part.policy_versions is not None and version in part.policy_versions]
        assert home.policy_versions is not None
        places = [index for index, found in enumerate(home.policy_versions.tolist()) if found == version]
        assert home.token_ids[places].tolist() == ids
        assert home.sampled[places].all()
        assert home.token_ids[: places[0]].tolist() == list(played.prompt_ids)
    assert sum(part.sampled.sum() for part in parts) == sum(len(played.completion.token_ids) for played in made)
    assert sum(part.weight for part in parts) == pytest.approx(1.0 if parts else 0.0)
