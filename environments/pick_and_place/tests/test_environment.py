"""Tasks, turns, rewards and the words they are told in."""

from pathlib import Path

import pytest
from pick_and_place import Explained, PickAndPlace
from pick_and_place import environment as module
from pick_and_place.environment import PARTS, layout
from pick_and_place.expert import expert
from pick_and_place.language import Action, Package, State
from pick_and_place.measure import play, table
from pick_and_place.traces import traces

from rlforge.types import Task


def task(**info: object) -> Task:
    return Task(id="it", messages=(), info={"layout": 3, "packages": 2, "span": 5, **info})


def test_the_expert_carries_everything_and_those_who_do_not_look_carry_nothing() -> None:
    rows = {row["policy"]: row for row in table(seeds=20)}
    assert rows["expert"]["reward"] >= 0.95
    assert all(row["reward"] <= 0.05 for name, row in rows.items() if name != "expert")


@pytest.mark.parametrize("split", ["test_easy", "test_hard"])
def test_the_expert_masters_every_level(split: str) -> None:
    assert all(play(expert, each, seed=5)["reward"] == 1 for each in PickAndPlace.tasks(split)[:6])


def test_the_same_task_and_seed_show_the_same_world_again() -> None:
    def story(seed: int) -> list[str]:
        world = PickAndPlace()
        seen = [world.reset(task(), seed)]
        for _ in range(8):
            seen.append(world.step(expert(seen[-1]))[0])
        return seen

    assert story(1) == story(1)


def test_worlds_of_one_process_do_not_touch_one_another() -> None:
    one, other = PickAndPlace(), PickAndPlace()
    one.reset(task(), 1)
    before = other.reset(task(), 1)
    one.step("move 1 -1")
    one.step("down")
    assert other.step("open")[0] == before


@pytest.mark.parametrize("level", ["", "_hard"])
def test_layouts_to_measure_on_are_never_trained_on(level: str) -> None:
    def layouts(part: str) -> set[str]:
        told = [each.info for each in PickAndPlace.tasks(f"{part}{level}")]
        return {repr(layout(info["packages"], info["span"], info["layout"])) for info in told}

    train, validation, test = map(layouts, PARTS)
    assert not train & (validation | test)
    assert not validation & test
    assert len({each.id for each in PickAndPlace.tasks(f"train{level}")}) == 4096


def test_the_reward_is_for_the_outcome_alone_and_the_last_turn_allowed_is_the_end() -> None:
    world = PickAndPlace()
    world.reset(task(turns=2), 0)
    assert world.step("up")[1:4] == ({"reward": 0, "carried": 0, "turns": 1, "drops": 0, "unclear": 0}, False, False)
    assert world.step("up")[1:4] == ({"reward": 0, "carried": 0, "turns": 2, "drops": 0, "unclear": 0}, True, False)


def test_turn_rewards_add_up_to_the_share_that_came_home() -> None:
    world, earned = PickAndPlace(), 0.0
    seen, over = world.reset(task(per_turn=True), 0), False
    while not over:
        seen, reward, over, _, _ = world.step(expert(seen))
        earned += reward["reward"]
    assert earned == pytest.approx(1.0)


def test_a_reply_that_is_no_action_costs_a_turn_and_is_told() -> None:
    world = PickAndPlace()
    before = world.reset(task(turns=1), 0)
    seen, reward, over, _, _ = world.step("please fetch A")
    assert (seen, over) == (f"unclear; {before}", True)
    assert reward["unclear"] == 1
    assert State.read(seen) == State.read(before)


def test_a_package_let_go_in_the_air_counts_as_dropped() -> None:
    world = PickAndPlace()
    seen = world.reset(task(per_turn=True), 0)
    while not seen.startswith("up grip"):
        seen = world.step(expert(seen))[0]
    reward = world.step("open")[1]
    assert reward["drops"] == 1


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ("move 3 -1", Action("move", (3, -1))),
        (" Up\n", Action("up")),
        ("I see the package.\nclose", Action("close")),
        ("move 3", None),
        ("move 1 1 1", None),
        ("move 12 0", None),
        ("", None),
        ("jump", None),
    ],
)
def test_the_last_line_of_a_reply_is_the_action(reply: str, action: Action | None) -> None:
    assert Action.read(reply) == action


def test_a_state_is_read_as_it_was_written() -> None:
    state = State(True, "grip", (None, Package((-1, 4), (2, 0)), Package(None, (0, -3))))
    assert str(state) == "up grip; A home; B -1 4 to 2 0; C held to 0 -3"
    assert State.read(str(state)) == state
    with pytest.raises(ValueError, match="no state of the table in 'hello'"):
        State.read("hello")


def test_traces_are_conversations_that_end_with_a_reply_and_slips_make_them_longer() -> None:
    def turns(slips: float) -> int:
        rows = list(traces(6, slips=slips))
        assert all(row["messages"][-1]["role"] == "assistant" for row in rows)
        return sum(len(row["messages"]) for row in rows)

    assert turns(0.3) > turns(0.0)


def test_a_trace_cut_into_pieces_says_the_same_in_the_same_order() -> None:
    (whole,) = traces(1)
    pieces = list(traces(1, turns=3))
    assert all(len(piece["messages"]) <= 6 for piece in pieces)
    assert [message for piece in pieces for message in piece["messages"]] == whole["messages"]


def test_rules_stand_before_the_task_only_where_they_are_wanted() -> None:
    assert PickAndPlace.tasks("test")[0].messages == ()
    assert "move X Y" in Explained.tasks("test")[0].messages[0].text


def test_only_the_light_core_is_needed() -> None:
    sources = [path.read_text() for path in Path(module.__file__).parent.glob("*.py")]
    lines = [line for source in sources for line in source.splitlines() if "rlforge" in line and "import" in line]
    assert lines
    assert all("rlforge.types" in line or "from rlforge import serve" in line for line in lines)
