"""Environments of gymnasium run as they are."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rlforge.environments.actions import MalformedAction, action_of, how_to_act
from rlforge.environments.adapt import adapt
from rlforge.errors import ConfigError
from tests.unit.environments.worlds import say, start, text


async def test_frozen_lake_is_walked_to_its_goal():
    environment = adapt(lambda: gymnasium.make("FrozenLake-v1", is_slippery=False))
    assert (await environment.describe()).name == "FrozenLake-v1"
    world, first = await environment.open(start())
    assert text(first).endswith("Reply with a whole number from 0 to 3.")
    for action in ["1", "1", "2", "2", '{"action": 1}']:
        seen = await world.step(say(action))
        assert (seen.reward, seen.over) == (0.0, False)
    last = await world.step(say(" 2\n"))
    assert (last.reward, last.terminated) == (1.0, True)


async def test_cart_pole_is_the_same_world_for_the_same_seed():
    environment = adapt(lambda: gymnasium.make("CartPole-v1"))
    assert (await environment.describe()).deterministic
    seen = []
    for _ in range(2):
        world, first = await environment.open(start(seed=5))
        seen.append([first, *[await world.step(say(str(step % 2))) for step in range(4)]])
        await world.close()
    assert seen[0] == seen[1]
    assert len(seen[0][0].messages[0].content[0].value) == 4


async def test_one_object_becomes_many_worlds():
    environment = adapt(gymnasium.make("CartPole-v1"))
    (one, first), (two, _) = [await environment.open(start(seed=seed)) for seed in (1, 2)]
    await two.step(say("1"))
    again, same = await environment.open(start(seed=1))
    assert first == same
    assert await one.step(say("0")) == await again.step(say("0"))


async def test_a_continuous_action_is_a_number():
    world, first = await adapt(lambda: gymnasium.make("Pendulum-v1")).open(start())
    assert "a number from -2 to 2" in text(first)
    assert (await world.step(say("0.5"))).reward < 0


async def test_a_reply_that_is_no_action_is_told_so_and_moves_nothing():
    environment = adapt(lambda: gymnasium.make("CartPole-v1"))
    (one, _), (two, _) = [await environment.open(start(seed=3)) for _ in range(2)]
    told = await one.step(say("push left"))
    assert "neither a number nor JSON" in text(told)
    assert (told.reward, told.over, dict(told.components)) == (None, False, {"malformed_actions": 1.0})
    assert await one.step(say("1")) == await two.step(say("1"))


async def test_a_class_of_the_users_own_has_tasks():
    class Own(gymnasium.Env):
        action_space = spaces.Text(8)
        observation_space = spaces.Discrete(2)
        tasks = {"train": ["a", "b"]}  # noqa: RUF012
        deterministic = True

        def reset(self, *, seed=None, options=None):
            return options["task"].id, {"seed": seed}

        def step(self, action):
            return action, 1, True, False, {}

    environment = adapt(Own)
    spec = await environment.describe()
    assert (spec.name, spec.splits, spec.deterministic) == ("Own", {"train": 2}, True)
    world, first = await environment.open(start(seed=4))
    assert text(first).startswith("t/1")
    assert first.info == {"seed": 4}
    assert text(await world.step(say("hello"))) == "hello"


@pytest.mark.parametrize(
    ("space", "said", "action"),
    [
        (spaces.Discrete(3, start=5), "7", 7),
        (spaces.Discrete(3), "[1]", 1),
        (spaces.Box(-1, 1, (2,), np.float32), "[0.5, -1]", [0.5, -1]),
        (spaces.Box(0, 255, (2,), np.uint8), '{"action": [255, 0]}', [255, 0]),
        (spaces.MultiDiscrete([2, 3]), "[1, 2]", [1, 2]),
        (spaces.MultiBinary(2), "[1, 0]", [1, 0]),
        (spaces.Text(5), " ab ", "ab"),
    ],
)
def test_replies_become_actions(space, said, action):
    assert np.array_equal(action_of(said, space), action)
    assert space.contains(action_of(said, space))
    assert how_to_act(space).startswith("Reply with")


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (spaces.Discrete(3), "3"),
        (spaces.Discrete(3), "-1"),
        (spaces.Discrete(3), "1.5"),
        (spaces.Discrete(3), "true"),
        (spaces.Discrete(3), "1e400"),
        (spaces.Discrete(3), "99999999999999999999999"),
        (spaces.Discrete(3), '"1"'),
        (spaces.Discrete(3), "{}"),
        (spaces.Discrete(3), "null"),
        (spaces.Box(-1, 1, (2,), np.float32), "[0.5]"),
        (spaces.Box(-1, 1, (2,), np.float32), "[0.5, 2]"),
        (spaces.Box(-1, 1, (2,), np.float32), "[[1], [1, 2]]"),
        (spaces.Box(-1, 1, (2,), np.float32), "[NaN, 0]"),
        (spaces.Box(0, 255, (2,), np.uint8), "[256, 0]"),
        (spaces.Box(0, 255, (2,), np.uint8), "[-1, 0]"),
        (spaces.Text(2), "abcdef"),
        (spaces.Discrete(3), "[" * 5000),
    ],
)
def test_what_is_no_action_is_malformed(space, said):
    with pytest.raises(MalformedAction):
        action_of(said, space)


def test_a_space_that_no_reply_can_name_is_refused():
    class Nested(gymnasium.Env):
        action_space = spaces.Dict({"a": spaces.Discrete(2)})

        def reset(self, *, seed=None, options=None): ...

        def step(self, action): ...

    with pytest.raises(ConfigError, match="no reply of a model can name an action of Dict"):
        adapt(Nested)
