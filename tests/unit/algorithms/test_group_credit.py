"""Credit over a batch: once per rollout, within its group, and never for an unscored one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlforge.algorithms.grpo import GRPO
from rlforge.algorithms.objectives import OBJECTIVES, REDUCTIONS, TokenInputs
from rlforge.algorithms.rloo import RLOO
from rlforge.config import build
from rlforge.errors import ConfigError, LearnerError
from rlforge.registry import ALGORITHMS
from rlforge.types import Batch, Trajectory


def trajectory(reward, *, rollout, group="g", weight=1.0, sampled=(0, 1, 1), objective="policy"):
    mask = np.array(sampled, bool)
    return Trajectory(
        token_ids=np.arange(len(mask)),
        sampled=mask,
        behaviour_logprobs=np.zeros(len(mask), np.float32),
        rollout=rollout,
        group=group,
        reward=reward,
        weight=weight,
        objective=objective,
    )


def rollouts(rewards, group="g"):
    return tuple(trajectory(r, rollout=f"{group}{i}", group=group) for i, r in enumerate(rewards))


def credit(trajectories, algorithm=None, **facts):
    algorithm = algorithm or RLOO(RLOO.Config())
    return algorithm.credit(Batch(trajectories=tuple(trajectories), objectives={}, **facts))


def advantages(batch):
    return {t.rollout: t.advantages.max(initial=0) + t.advantages.min(initial=0) for t in batch.trajectories}


def test_advantage_falls_on_sampled_tokens_only():
    batch = credit([trajectory(1.0, rollout="a", sampled=(0, 1, 0, 1)), trajectory(0.0, rollout="b")])
    assert batch.trajectories[0].advantages.tolist() == [0, 1, 0, 1]
    assert batch.trajectories[1].advantages.tolist() == [0, -1, -1]
    assert batch.trajectories[0].advantages.dtype == np.float32


def test_a_forked_rollout_counts_once_in_the_baseline_of_its_group():
    forked = [trajectory(1.0, rollout="a", weight=0.25) for _ in range(4)]
    batch = credit([*forked, trajectory(0.0, rollout="b"), trajectory(0.0, rollout="c")])
    assert advantages(batch) == pytest.approx({"a": 1.0, "b": -0.5, "c": -0.5})
    assert len(batch.trajectories) == 6


def test_the_same_rollout_id_in_another_group_is_another_rollout():
    batch = credit([trajectory(r, rollout="a", group=g) for r, g in [(1.0, "x"), (0.0, "y")]])
    assert batch.metrics["groups/zero_signal"] == 2


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_unscored_rollout_is_never_trained_on(missing):
    drawn = [*rollouts([1.0, 0.0, 0.0]), trajectory(missing, rollout="lost")]
    with_it, without_it = credit(drawn), credit(drawn[:-1])
    assert [t.rollout for t in with_it.trajectories] == [t.rollout for t in without_it.trajectories]
    assert advantages(with_it) == advantages(without_it)
    assert with_it.metrics == without_it.metrics | {"credit/unscored": 1}


def test_a_batch_without_a_single_score_is_empty():
    batch = credit(rollouts([None, None]))
    assert batch.trajectories == ()
    assert batch.metrics["credit/unscored"] == 2
    assert batch.metrics["groups/scored"] == 0


def test_credit_reports_its_groups():
    batch = credit([*rollouts([1.0, 0.0]), *rollouts([0.1] * 7, "same"), *rollouts([0.5, None], "alone")])
    assert batch.metrics == {
        "groups/count": 3,
        "groups/scored": 3,
        "groups/zero_signal": 2,
        "credit/unscored": 1,
        "credit/truncated": 0,
        "credit/advantage_max": pytest.approx(1.0),
    }


def test_other_objectives_pass_through_untouched():
    replayed = trajectory(None, rollout="book", objective="imitation")
    batch = credit([replayed, *rollouts([1.0, 0.0])], metrics={"data/count": 1.0})
    assert batch.trajectories[0] is replayed
    assert batch.metrics["credit/unscored"] == 0
    assert batch.metrics["data/count"] == 1


def test_trajectories_of_one_rollout_that_disagree_on_its_reward_are_refused():
    with pytest.raises(LearnerError, match=r"rollout 'a': its trajectories carry the rewards 1\.0 and 0\.0"):
        credit([trajectory(1.0, rollout="a"), trajectory(0.0, rollout="a")])


def test_rollouts_may_come_in_any_order():
    drawn = [*rollouts([1.0, 0.0, 0.0], "x"), *rollouts([0.2, 0.4], "y")]
    assert advantages(credit(drawn[::-1])) == pytest.approx(advantages(credit(drawn)))


def test_a_forked_rollout_pulls_on_shared_parameters_as_much_as_one_that_did_not_fork():
    def slope(trajectories):
        batch = credit(trajectories)
        goal = batch.objectives["policy"]
        lengths = torch.tensor([int(t.sampled.sum()) for t in batch.trajectories])
        weights = torch.tensor([t.weight for t in batch.trajectories], dtype=torch.float64)
        per_token = REDUCTIONS[goal.reduction](lengths, weights, torch.zeros(len(lengths)).long())
        sequence = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        logprobs = torch.zeros(len(sequence), dtype=torch.float64, requires_grad=True)
        token_advantages = np.concatenate([t.advantages[t.sampled] for t in batch.trajectories])
        inputs = TokenInputs(
            logprobs=logprobs,
            behaviour_logprobs=torch.zeros_like(logprobs),
            advantages=torch.from_numpy(token_advantages).double(),
            sequence=sequence,
        )
        (OBJECTIVES[goal.loss](inputs, **goal.options).loss * per_token[sequence]).sum().backward()
        return [logprobs.grad[sequence == s].sum().item() for s in range(len(lengths))]

    a, b = rollouts([1.0, 0.0])
    whole = slope([a, b])
    forked = slope([replace(a, weight=0.5), replace(a, weight=0.5), b])
    assert forked[0] + forked[1] == pytest.approx(whole[0])
    assert forked[2] == pytest.approx(whole[1])


# --- turns and truncation ----------------------------------------------------------------------------------------


def played(name, turn_rewards, reward=None, *, group="g", truncated=False):
    """A rollout of one token a turn, with something given before each."""
    count = len(turn_rewards)
    reward = sum(r or 0.0 for r in turn_rewards) if reward is None else reward
    whole = trajectory(reward, rollout=name, group=group, sampled=(0, 1) * count)
    turns = np.array([-1 if position % 2 == 0 else position // 2 for position in range(2 * count)], np.int32)
    return replace(whole, turns=turns, turn_rewards=tuple(turn_rewards), truncated=truncated)


def per_turn(batch):
    return {t.rollout: [round(float(a), 5) for a in t.advantages[t.sampled]] for t in batch.trajectories}


BY_TURNS = RLOO(RLOO.Config(credit="turns"))


def test_a_turn_is_credited_with_what_came_from_it_on():
    # returns to go: a 3, 2, 0 and b 1, 0, 1 -> c = a - b for a, its negative for b
    batch = credit([played("a", (1.0, 2.0, 0.0)), played("b", (1.0, -1.0, 1.0))], BY_TURNS)
    assert per_turn(batch) == {"a": [2.0, 2.0, -1.0], "b": [-2.0, -2.0, 1.0]}


def test_a_discount_counts_later_rewards_less():
    # a: 0 + 0.5 * (0 + 0.5 * 4) = 1, 2, 4; b: 0, 0, 0
    by_turns = RLOO(RLOO.Config(credit="turns", discount=0.5))
    batch = credit([played("a", (None, 0.0, 4.0)), played("b", (0.0, 0.0, 0.0))], by_turns)
    assert per_turn(batch) == {"a": [1.0, 2.0, 4.0], "b": [-1.0, -2.0, -4.0]}


def test_a_member_that_has_ended_has_nothing_to_come():
    # turn 0: a 1, b 1, c 0; turn 1: a 1, the others 0
    batch = credit([played("a", (0.0, 1.0)), played("b", (1.0,)), played("c", (0.0,))], BY_TURNS)
    assert per_turn(batch) == {"a": [0.5, 1.0], "b": [0.5], "c": [-1.0]}


def test_what_other_scorers_added_to_the_reward_falls_on_the_last_turn():
    # a: rewards 1, 0 and a reward of 3 -> 1, 2 -> returns 3, 2; b: 1, 0 -> returns 1, 0
    batch = credit([played("a", (1.0, None), 3.0), played("b", (1.0, 0.0))], BY_TURNS)
    assert per_turn(batch) == {"a": [2.0, 2.0], "b": [-2.0, -2.0]}


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_one_reward_at_the_end_of_rollouts_of_one_length_makes_turns_and_outcome_the_same(algorithm):
    part = ALGORITHMS.load(algorithm)
    drawn = [played(f"{n}", (None, None, r)) for n, r in enumerate((1.0, 0.0, 0.0, 0.25))]
    by_turns, by_outcome = (credit(drawn, part(part.Config(credit=how))) for how in ("turns", "outcome"))
    assert per_turn(by_turns) == per_turn(by_outcome)
    assert by_turns.metrics == by_outcome.metrics


def test_rounding_in_the_sum_of_rewards_is_no_signal():
    drawn = [played("a", (0.1, 0.2, 0.0), 0.1 + 0.2), played("b", (0.3, 0.0, 0.0), 0.3)]
    by_turns = GRPO(GRPO.Config(credit="turns"))
    assert per_turn(credit(drawn, by_turns)) == {"a": [0.0, 0.70711, 0.0], "b": [0.0, -0.70711, 0.0]}


def test_an_unscored_member_is_in_no_turns_baseline():
    drawn = [played("a", (0.0, 1.0)), played("b", (0.0, 0.0))]
    lost = replace(played("lost", (5.0,) * 4), reward=None)
    with_it, without_it = credit([*drawn, lost], BY_TURNS), credit(drawn, BY_TURNS)
    assert per_turn(with_it) == per_turn(without_it)
    assert with_it.metrics == without_it.metrics | {"credit/unscored": 1}


def test_groups_of_different_depth_do_not_mix():
    one = [played("a", (0.0, 1.0)), played("b", (0.0, 0.0))]
    two = [played("c", (1.0, 1.0, 1.0), group="h"), played("d", (0.0,), group="h")]
    together = per_turn(credit([*one, *two], BY_TURNS))
    assert together == per_turn(credit(one, BY_TURNS)) | per_turn(credit(two, BY_TURNS))


def test_a_truncated_rollout_can_be_left_out_as_an_unscored_one_is():
    drawn = [played("a", (1.0,)), played("b", (0.0,)), played("cut", (0.0,), truncated=True)]
    masked = credit(drawn, RLOO(RLOO.Config(truncated="leave_out")))
    assert per_turn(masked) == per_turn(credit(drawn[:2]))
    assert masked.metrics == credit(drawn[:2]).metrics | {"credit/truncated": 1}
    assert per_turn(credit(drawn)) == {"a": [1.0], "b": [-0.5], "cut": [-0.5]}


def test_a_discount_without_turns_is_refused():
    with pytest.raises(ConfigError, match="credit: turns"):
        RLOO.Config.parse({"type": "rloo", "discount": 0.9})


# --- configuration -----------------------------------------------------------------------------------------------


def test_grpo_divides_by_the_deviation_unless_told_not_to():
    drawn = rollouts([1.0, 0.0, 0.0, 0.0])
    assert credit(drawn, GRPO(GRPO.Config())).trajectories[0].advantages[1] == pytest.approx(1.5)
    assert credit(drawn, GRPO(GRPO.Config(std=False))).trajectories[0].advantages[1] == pytest.approx(0.75)


def test_each_correction_names_its_objective_and_its_options():
    clip = credit(rollouts([1.0, 0.0]), GRPO(GRPO.Config())).objectives["policy"]
    assert (clip.loss, dict(clip.options)) == ("ppo_clip", {"clip_low": 0.2, "clip_high": 0.28})
    dual = credit(rollouts([1.0, 0.0]), GRPO(GRPO.Config(dual_clip=3.0))).objectives["policy"]
    assert dual.options["dual_clip"] == 3.0
    whole = credit(rollouts([1.0, 0.0]), GRPO(GRPO.Config(correction="sequence"))).objectives["policy"]
    assert (whole.loss, dict(whole.options)) == ("importance_sampling", {"cap": 2.0, "per_sequence": True})


def test_dr_grpo_takes_a_constant_length():
    config = GRPO.Config(std=False, reduction="constant_length", length=64)
    goal = credit(rollouts([1.0, 0.0]), GRPO(config)).objectives["policy"]
    assert (goal.reduction, dict(goal.reduction_options)) == ("constant_length", {"length": 64})


@pytest.mark.parametrize("wrong", [{"reduction": "constant_length"}, {"length": 64}])
def test_length_and_constant_length_come_together(wrong):
    with pytest.raises(ConfigError, match="hint: set both, with length = max_new_tokens, or neither"):
        GRPO.Config.parse(wrong)


def test_a_misspelt_setting_is_answered_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"unknown key 'clip_hihg'\. Did you mean 'clip_high'\?"):
        GRPO.Config.parse({"clip_hihg": 0.3})


def test_an_algorithm_is_built_from_its_registered_name():
    assert isinstance(build(ALGORITHMS, GRPO.Config()), GRPO)
    assert isinstance(build(ALGORITHMS, RLOO.Config()), RLOO)
