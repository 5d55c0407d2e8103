import pytest

from rlforge.errors import ConfigError
from rlforge.learner.config import LearnerConfig, ModelInitConfig, ScheduleConfig
from rlforge.learner.schedule import learning_rate, phase


def test_warmup_rises_to_lr_and_the_anneal_ends_at_min_lr() -> None:
    schedule = ScheduleConfig(warmup_steps=4, anneal="linear", anneal_fraction=0.2, min_lr=0.1)
    rates = [learning_rate(schedule, 1.0, step, 20) for step in range(20)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[15] == 1.0
    assert rates[16:] == pytest.approx([0.775, 0.55, 0.325, 0.1])
    assert [phase(schedule, step, 20) for step in (0, 4, 16)] == ["warmup", "constant", "anneal"]


def test_cosine_anneal_is_halfway_down_halfway_through() -> None:
    schedule = ScheduleConfig(anneal="cosine", anneal_steps=10)
    assert learning_rate(schedule, 1.0, 14, 20) == pytest.approx(0.5)
    assert learning_rate(schedule, 1.0, 25, 20) == 0.0


def test_min_lr_above_lr_is_refused() -> None:
    with pytest.raises(ConfigError, match="above lr"):
        LearnerConfig.parse({"lr": 1e-5, "schedule": {"min_lr": 1e-4}})


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="does not divide"):
        ModelInitConfig.parse({"heads": 4, "kv_heads": 3})
