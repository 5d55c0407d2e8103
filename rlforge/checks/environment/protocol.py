"""Whether an environment speaks the protocol: what it says of itself, its tasks, one observation for each action."""

from __future__ import annotations

import math

from rlforge.checks.environment.case import TURNS, EnvironmentCase, over
from rlforge.checks.fault import Fault
from rlforge.checks.hostile import healthy
from rlforge.checks.properties import Failed, Property, Skipped
from rlforge.wire.pb import environment_pb2
from rlforge.wire.version import PROTOCOL_VERSION

_ROLES = ("user", "tool", "system")
_LISTED = 100
"""Tasks of a split that are looked at."""
_QUIET_S = 0.1
_LONGEST = 64
"""Turns after which a world that is not over counts as one that does not end by itself."""


async def describes_itself(case: EnvironmentCase) -> str:
    """Describe answers twice alike, and with what a client can work with."""
    spec, again = case.spec, await case.line.describe()
    wrong = [told for told, is_wrong in _wrong_in(spec).items() if is_wrong]
    if spec != again:
        wrong.append("a second Describe says something else")
    if wrong:
        raise Failed("; ".join(wrong))
    rooms = f"{spec.max_worlds} worlds" if spec.max_worlds else "as many worlds as one likes"
    called = f"'{spec.name}' {spec.version}".rstrip()
    return f"{called}: {rooms}, {len(spec.tools)} tools, {len(spec.splits)} splits"


def _wrong_in(spec: environment_pb2.EnvironmentSpec) -> dict[str, bool]:
    seconds, splits = spec.step_timeout_s, [split.name for split in spec.splits]
    tools = [tool.name for tool in spec.tools]
    return {
        "name is empty": not spec.name,
        f"protocol_version is {spec.protocol_version}, not {PROTOCOL_VERSION}": spec.protocol_version
        != PROTOCOL_VERSION,
        f"step_timeout_s is {seconds}": not (math.isfinite(seconds) and seconds >= 0),
        f"splits are named {splits}": len(set(splits)) != len(splits) or "" in splits,
        f"tools are named {tools}": len(set(tools)) != len(tools) or "" in tools,
    }


async def lists_tasks(case: EnvironmentCase) -> str:
    """Every split lists as many tasks as it says, always the same, each with an id of its own."""
    if not case.spec.splits:
        raise Skipped("Describe names no splits: the tasks come from the recipe")
    for split in case.spec.splits:
        tasks = await case.line.tasks(split.name, 0, _LISTED)
        if tasks != await case.line.tasks(split.name, 0, _LISTED):
            raise Failed(f"'{split.name}' listed twice gives other tasks, or another order")
        if len(tasks) != min(split.tasks, _LISTED):
            raise Failed(f"'{split.name}' is to have {split.tasks} tasks; of the first {_LISTED}, {len(tasks)} came")
        if len({task.id for task in tasks}) != len(tasks) or not all(task.id for task in tasks):
            raise Failed(f"'{split.name}' lists tasks that share an id or have none")
        middle = len(tasks) // 2
        if tasks[middle : middle + 2] != await case.line.tasks(split.name, middle, 2):
            raise Failed(f"'{split.name}' listed from task {middle} on does not go on where the whole list does")
    return ", ".join(f"{split.name}: {split.tasks}" for split in case.spec.splits)


async def answers_each_action_once(case: EnvironmentCase) -> str:
    """Each action brings one observation with its own number."""
    start = case.start()
    async with case.world(start) as (world, first):
        observations, step = [first], 0
        while True:
            if observations[-1].step != step:
                raise Failed(f"the answer to step {step} says that it is of step {observations[-1].step}")
            if not over(observations[-1]) and not await world.quiet(_QUIET_S):
                raise Failed(f"after the answer to step {step} another one came that nobody asked for")
            action = case.action(start, step + 1)
            if action is None or over(observations[-1]) or step == TURNS:
                return f"{step + 1} actions, {len(observations)} observations"
            step += 1
            observations.append(await world.ask(action, f"the answer to step {step}"))


async def ends_the_stream(case: EnvironmentCase) -> str:
    """After the last observation the server ends the stream by itself, without an error."""
    start = case.start()
    async with case.world(start) as (world, observation):
        for step in range(1, _LONGEST):
            if over(observation):
                end = await world.ending()
                if end.code != "OK":
                    raise Failed(f"the world was over after step {step - 1}, and the stream ended in {end.told}")
                return f"over after step {step - 1}, then the stream ended"
            action = case.action(start, step)
            if action is None:
                break
            observation = await world.ask(action, f"the answer to step {step}")
    raise Skipped(f"no world came to its end (replies: {case.replies.source}); give replies with --actions")


async def rewards_are_finite(case: EnvironmentCase) -> str:
    """Rewards and their components are numbers; observations have roles that a model may be shown."""
    seen = await case.play(case.start())
    for observation in seen:
        numbers = {"reward": observation.reward, **observation.components}
        odd = [f"{name} {number}" for name, number in numbers.items() if not math.isfinite(number)]
        odd += [f"role '{message.role}'" for message in observation.messages if message.role not in _ROLES]
        if odd:
            raise Failed(f"step {observation.step} shows {', '.join(odd)}")
    rewarded = sum(observation.HasField("reward") for observation in seen)
    return f"{len(seen)} observations, {rewarded} with a reward"


async def refuses_steps_out_of_order(case: EnvironmentCase) -> str:
    """A step that skips one ahead is refused, and the world with it."""
    start = case.start()
    reply = case.replies.at(start.start.task, 0)
    for number in (2, 17):
        async with case.world(start) as (world, _):
            await world.send(environment_pb2.Action(step=number, message=reply))
            try:
                answer = await world.answer(f"a refusal of step {number} right after step 0")
            except Fault as fault:
                if fault.code != "FAILED_PRECONDITION":
                    raise Failed(
                        f"step {number} right after step 0 ended in {fault.told}, not FAILED_PRECONDITION"
                    ) from fault
                continue
            raise Failed(f"step {number} right after step 0 was answered with an observation of step {answer.step}")
    return "steps 2 and 17 right after step 0 were refused"


async def tells_its_health(case: EnvironmentCase) -> str:
    """`grpc.health.v1`, or `/healthz` over HTTP, says that it serves."""
    return await healthy(case.line)


PROPERTIES = (
    Property(
        "describes itself",
        describes_itself,
        why="a client plans by it: how many worlds, which tools, which protocol",
        remedy="answer Describe at once and always alike, with a name and protocol_version 1",
    ),
    Property(
        "lists its tasks in one order",
        lists_tasks,
        why="rollouts, seeds and resumed runs go by task id and place",
        remedy="list tasks from a fixed sequence; `offset` and `limit` cut it; ids never change",
    ),
    Property(
        "one observation for each action",
        answers_each_action_once,
        why="a reply would be paired with the answer to another",
        remedy="send exactly one Observation for each Action, and copy its `step`",
    ),
    Property(
        "shows what can be trained on",
        rewards_are_finite,
        why="a NaN, or a message of no known role, ends the rollout as a fault",
        remedy="look for divisions by zero; leave `reward` out where there is none; show messages as `user` or `tool`",
    ),
    Property(
        "ends the stream when the world is over",
        ends_the_stream,
        why="a finished world would keep its place for ever",
        remedy="return from Interact after an observation that is terminated or truncated",
    ),
    Property(
        "refuses steps out of order",
        refuses_steps_out_of_order,
        why="a lost action would go unnoticed and the rollout would be another than the world played",
        remedy="end the stream with FAILED_PRECONDITION unless `step` is the last one or the next",
    ),
    Property(
        "tells its health",
        tells_its_health,
        why="load balancers and orchestrators ask before they send anything",
        remedy="over gRPC register grpc.health.v1 and set the empty name to SERVING; over HTTP answer GET /healthz",
    ),
)
"""In the order in which they are examined."""
