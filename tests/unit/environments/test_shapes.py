"""Every shape of world plays the Environment role."""

import functools

import numpy as np
import pytest

from rlforge.environments.adapt import adapt
from rlforge.errors import ConfigError, EndpointBroken, EndpointRefused, ExtensionError
from rlforge.interfaces import Environment
from rlforge.types import ImagePart, Message, Observation, Task, TensorPart, ToolSpec
from tests.unit.environments.worlds import AsyncCounter, Counter, Docless, Own, Shop, call, say, start, text, value


async def opened(thing, begin=None):
    environment = adapt(thing)
    assert isinstance(environment, Environment)
    return await environment.open(begin or start())


def answering(given, **attributes):
    """A simulator whose step returns `given`."""
    members = {"reset": lambda self: "go", "step": lambda self, action: given, **attributes}
    return type("Answering", (), members)


async def shown(given):
    world, _ = await opened(answering((given, 0, False, False, {})))
    return await world.step(say(""))


@pytest.mark.parametrize(
    "thing",
    [Counter, Counter(), lambda: Counter(), functools.partial(Counter)],
    ids=["class", "object", "factory", "partial"],
)
async def test_a_simulator_is_given_as_class_object_or_factory(thing):
    world, first = await opened(thing)
    assert text(first) == "at 1"
    assert (await world.step(say("up"))).info == {"at": 2}
    last = await world.step(say("up"))
    assert (last.reward, last.terminated, last.truncated) == (0.5, True, False)
    with pytest.raises(EndpointRefused, match="over"):
        await world.step(say("up"))


async def test_coroutines_dicts_and_missing_rewards_are_fine():
    world, first = await opened(AsyncCounter)
    assert value(first) == {"at": 1}
    assert (await world.step(say("x"))).reward is None


async def test_what_plays_the_role_already_stays_as_it_is():
    own = Own()
    assert adapt(own) is own
    assert isinstance(adapt(Own), Own)
    assert (await adapt(Own, worlds=3).describe()).max_worlds == 3


async def test_the_same_seed_gives_the_same_world():
    assert (await adapt(Counter).describe()).deterministic
    said = []
    for _ in range(2):
        world, first = await opened(Counter, start(seed=7))
        said.append([first, await world.step(say("down")), await world.step(say("up"))])
    assert said[0] == said[1]


@pytest.mark.parametrize("thing", [Counter, Counter()], ids=["class", "object"])
async def test_worlds_share_no_state(thing):
    environment = adapt(thing)
    opened = [await environment.open(start(seed=seed)) for seed in (4, 6)]
    (one, _), (two, _) = opened
    for _ in range(3):
        await one.step(say("up"))
    assert text(await two.step(say("up"))) == "at 7"


async def test_reset_takes_what_it_names():
    class Named:
        step = Counter.step

        def reset(self, *, seed=None, options=None):
            return f"{seed} {options['task'].id}"

    class Everything(Named):
        def reset(self, **given):
            return f"{sorted(given)}"

    assert text((await opened(Named))[1]) == "1 t/1"
    assert text((await opened(Everything))[1]) == "['seed', 'task']"


async def test_step_is_given_the_whole_message_where_it_says_so():
    class Whole:
        tools = ({"type": "function", "function": {"name": "move", "parameters": {"type": "object"}}},)

        def reset(self): ...

        def step(self, reply: Message):
            return reply.tool_calls[0].name, 0, False, False, {}

    world, first = await opened(Whole)
    assert first.messages == ()
    assert text(await world.step(call("move"))) == "move"
    assert (await adapt(Whole).describe()).tools == (ToolSpec(name="move", parameters={"type": "object"}),)


async def test_an_observation_may_be_text_messages_json_an_array_or_parts():
    assert text(await shown("plain")) == "plain"
    assert (await shown(None)).messages == ()
    assert value(await shown({"a": np.float32(0.1), "b": {1}, "c": float("nan")})) == {"a": 0.1, "b": [1], "c": "nan"}
    assert value(await shown(np.array([[1, 2], [3, 4]]))) == [[1, 2], [3, 4]]
    assert value(await shown(np.array([0.1, 2], dtype=np.float32))) == [0.1, 2.0]
    message = Message.of("user", "hello")
    assert (await shown(message)).messages == (message,)
    assert (await shown([message, message])).messages == (message, message)
    picture = ImagePart(data=b"x", mime="image/png")
    assert (await shown([picture])).messages[0].content == (picture,)
    (large,) = (await shown(np.zeros((64, 64), np.uint8))).messages[0].content
    assert isinstance(large, TensorPart)
    assert (large.shape, large.dtype, len(large.data)) == ((64, 64), "uint8", 4096)


async def test_step_may_return_an_observation_of_ours():
    ours = Observation(reward=1.0, truncated=True, info={"n": np.int64(3)})
    world, _ = await opened(answering(ours))
    seen = await world.step(say(""))
    assert (seen.reward, seen.truncated, seen.info) == (1.0, True, {"n": 3})


async def test_a_dict_of_rewards_becomes_components_and_their_sum():
    world, _ = await opened(answering(("", {"a": 1, "b": 0.5}, False, False, None)))
    seen = await world.step(say(""))
    assert (seen.reward, dict(seen.components)) == (1.5, {"a": 1.0, "b": 0.5})


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("seen", 1.0, True, {}), "a tuple of 4"),
        ("seen", "five|reward, terminated"),
        (("", float("nan"), False, False, {}), "finite"),
        (("", "much", False, False, {}), "finite number"),
        (("", {}, False, False, {}), "empty dict"),
        (("", 0, False, False, [1]), "info must be a dict"),
    ],
)
async def test_an_answer_that_makes_no_sense_breaks_the_world(given, why):
    world, _ = await opened(answering(given))
    with pytest.raises(EndpointBroken, match=why):
        await world.step(say(""))
    with pytest.raises(EndpointRefused, match="closed"):
        await world.step(say(""))


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_exception_names_the_last_line_of_the_users_code(asynchronous):
    class Raises:
        def reset(self): ...

        def step(self, action):
            return self.fall(action)

        def fall(self, action):
            return int(action)

    if asynchronous:

        async def step(self, action):
            return self.fall(action)

        Raises.step = step
    world, _ = await opened(Raises)
    with pytest.raises(EndpointBroken, match=r"task 't/1', seed 1 .*ValueError: .*'x'.*test_shapes\.py:\d+ in fall"):
        await world.step(say("x"))


@pytest.mark.parametrize("error", [SystemExit, StopIteration, KeyError, ConfigError, KeyboardInterrupt])
async def test_whatever_is_raised_breaks_only_the_world(error):
    class Raises:
        def reset(self): ...

        def step(self, action):
            raise error("why")

    world, _ = await opened(Raises)
    with pytest.raises(EndpointBroken):
        await world.step(say("x"))


class NeedsMore:
    def __init__(self, size): ...

    reset, step = Counter.reset, Counter.step


class NoReset:
    step = Counter.step


class Odd(Counter):
    def reset(self, level): ...


@pytest.mark.parametrize(
    ("thing", "why"),
    [
        (NeedsMore, "'size'"),
        (lambda size: Counter(), "'size'"),
        (Docless, "move would be tools if they had docstrings"),
        (NoReset, r"no reset\(\)"),
        (object(), "neither reset.. nor step"),
        (Odd, "wants 'level'"),
        (3, "'int' is no environment"),
    ],
)
def test_what_fits_nothing_is_refused_with_what_is_missing(thing, why):
    with pytest.raises(ConfigError, match=why):
        adapt(thing)


def test_a_factory_that_raises_is_attributed():
    with pytest.raises(ExtensionError, match="ZeroDivisionError"):
        adapt(lambda: 1 / 0)


class Listed(Counter):
    splits = ("train", "held_out")

    def tasks(self, split):
        return [{"prompt": f"{split} {i}", "info": {"goal": i}} for i in range(3)]


class Dicts(Counter):
    tasks = {"test": ["one", Task(id="mine", messages=())]}  # noqa: RUF012


class Usual(Counter):
    @staticmethod
    def tasks(split):
        return {"train": ["a", "b"]}[split]


async def listed(environment, *where):
    return [task async for task in environment.tasks(*where)]


async def test_tasks_come_from_a_method_or_a_dict():
    environment = adapt(Listed)
    assert (await environment.describe()).splits == {"train": 3, "held_out": 3}
    tasks = await listed(environment, "held_out", 1, 1)
    assert [(task.id, task.messages[0].text) for task in tasks] == [("Listed/held_out/1", "held_out 1")]
    assert [task.id for task in await listed(adapt(Dicts), "test")] == ["Dicts/test/0", "mine"]
    assert (await adapt(Usual).describe()).splits == {"train": 2}
    assert (await adapt(Counter).describe()).splits == {}
    with pytest.raises(EndpointRefused, match="has train, held_out"):
        await listed(environment, "tset")


async def test_tools_are_public_methods_with_docstrings():
    spec = await adapt(Shop).describe()
    assert [tool.name for tool in spec.tools] == ["add", "look"]
    assert spec.name == "shop"
    add = spec.tools[0]
    assert add.description == "Put something into the basket."
    assert add.parameters == {
        "type": "object",
        "properties": {"item": {"type": "string"}, "count": {"type": "integer", "default": 1}},
        "required": ["item"],
        "additionalProperties": False,
    }


async def test_a_tool_call_is_answered_and_a_reply_without_one_ends_the_world():
    world, first = await opened(Shop)
    assert text(first) == "Buy bread."
    seen = await world.step(call("add", '{"item": "milk"}', id="a"))
    assert (seen.messages[0].role, seen.messages[0].tool_call_id, text(seen)) == ("tool", "a", "1 in the basket")
    assert (seen.reward, seen.over) == (0.0, False)
    assert value(await world.step(call("look"))) == {"basket": ["milk"]}
    assert (await world.step(call("add", '{"item": "bread"}'))).reward == 1.0
    last = await world.step(say("done"))
    assert (last.terminated, last.reward) == (True, 0.0)


async def test_done_ends_a_world_of_tools():
    world, _ = await opened(Shop)
    last = await world.step(call("add", '{"item": "bread", "count": 6}'))
    assert (last.terminated, last.reward) == (True, 0.9)


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("ad", "{}", "Did you mean 'add'"),
        ("unlisted", "{}", "no tool 'unlisted'"),
        ("add", "{item", "not JSON"),
        ("add", "[" * 5000, "not JSON"),
        ("add", "[]", "JSON object"),
        ("add", "{}", "item: Field required"),
        ("add", '{"item": "x", "count": "many"}', "count: .*integer"),
        ("add", '{"item": "x", "colour": 1}', "colour: Extra"),
    ],
)
async def test_a_malformed_call_is_told_to_the_model_and_moves_nothing(name, arguments, told):
    import re

    world, _ = await opened(Shop)
    seen = await world.step(call(name, arguments))
    assert re.search(told, text(seen))
    assert seen.components["malformed_actions"] == 1.0
    assert not seen.over
    assert value(await world.step(call("look"))) == {"basket": []}


def test_a_tool_that_json_cannot_call_is_refused():
    class Star:
        def add(self, *items):
            """Add."""

    with pytest.raises(ConfigError, match=r"'add': .*no name in a JSON object"):
        adapt(Star)


def test_the_import_of_adapt_loads_no_gymnasium():
    import subprocess
    import sys

    code = "import sys, rlforge.environments.adapt; assert not {'gymnasium', 'torch', 'grpc'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
