"""The tasks that a user's class offers: `tasks`, a method of the split's name or a dict of lists."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast, get_args

from rlforge.environments.calls import Caller
from rlforge.environments.observations import plain
from rlforge.environments.origin import Origin
from rlforge.errors import EndpointBroken, EndpointRefused
from rlforge.types import Message, Task
from rlforge.wire.messages import Role

_USUAL_SPLITS = ("train", "test")
_KEYS = {"id", "prompt", "messages", "answer", "info", "source"}


class TaskLists:
    """Asks once for each split and remembers."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._given: Any = getattr(origin.example, "tasks", None)
        self._known: dict[str, tuple[Task, ...]] = {}

    async def sizes(self, call: Caller) -> dict[str, int]:
        """Number of tasks in each split."""
        return {split: len(await self._list(split, call)) for split in await self._names(call)}

    async def tasks(self, split: str, call: Caller) -> Sequence[Task]:
        """The tasks of a split. Raises EndpointRefused when there is none of that name."""
        names = await self._names(call)
        if split not in names:
            has = ", ".join(names) or "none, its tasks come from elsewhere"
            raise EndpointRefused(f"environment '{self._origin.name}' has no split '{split}'; it has {has}")
        return await self._list(split, call)

    async def _names(self, call: Caller) -> list[str]:
        if self._given is None:
            return []
        declared = getattr(self._origin.example, "splits", None)
        if declared is None and isinstance(self._given, Mapping):
            declared = cast(Mapping[str, Any], self._given)
        if declared is not None:
            return [str(name) for name in declared]
        return [name for name in _USUAL_SPLITS if await self._usual(name, call)]

    async def _usual(self, split: str, call: Caller) -> bool:
        """Whether a method that does not say which splits it has knows this one."""
        try:
            return bool(await self._list(split, call))
        except EndpointBroken as error:
            if isinstance(_root(error), LookupError | ValueError):
                return False
            raise

    async def _list(self, split: str, call: Caller) -> tuple[Task, ...]:
        if split not in self._known:
            if isinstance(self._given, Mapping):
                given: object = cast(Mapping[str, object], self._given)[split]
            else:
                given = await call(await self._method(call), split)
            name = self._origin.name
            self._known[split] = tuple(_task(item, name, split, index) for index, item in enumerate(_items(given)))
        return self._known[split]

    async def _method(self, call: Caller) -> Any:
        """`tasks` bound to an object, unless the class itself can be asked."""
        if inspect.isclass(self._origin.example) and len(inspect.signature(self._given).parameters) > 1:
            return getattr(await call(self._origin.make), "tasks")  # noqa: B009  its type is unknown
        return self._given


def _items(given: object) -> Iterable[object]:
    if given is None:
        return ()
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise EndpointBroken(f"tasks must give a list, not {type(given).__name__}")
    return cast(Iterable[object], given)


def _task(item: object, name: str, split: str, index: int) -> Task:
    """A task as it is, a text to put to the model, or a dict with `prompt` or `messages`."""
    unnamed = f"{name}/{split}/{index}"
    if isinstance(item, Task):
        return item
    if isinstance(item, str):
        return Task(id=unnamed, messages=(Message.of("user", item),), source=name)
    if not isinstance(item, Mapping):
        raise EndpointBroken(f"task {unnamed} is of type {type(item).__name__}; give a Task, a text or a dict")
    row = cast(Mapping[str, Any], item)
    if unknown := set(row) - _KEYS:
        raise EndpointBroken(
            f"task {unnamed} has the unknown key '{min(unknown)}'; known: {', '.join(sorted(_KEYS))}; "
            "what is the world's own goes into info"
        )
    messages = row.get("messages", [{"role": "user", "content": row["prompt"]}] if "prompt" in row else [])
    return Task(
        id=str(row.get("id", unnamed)),
        messages=tuple(_message(message, unnamed) for message in messages),
        answer=plain(row.get("answer")),
        info=plain(row.get("info", {})),
        source=str(row.get("source", name)),
    )


def _message(item: Any, task: str) -> Message:
    if isinstance(item, Message):
        return item
    if not isinstance(item, Mapping):
        raise EndpointBroken(f"task {task} has a message of type {type(item).__name__}; give role and content")
    row = cast(Mapping[str, Any], item)
    role, content = row.get("role"), row.get("content")
    if role not in get_args(Role) or not isinstance(content, str):
        raise EndpointBroken(f"task {task} has the message {dict(row)!r:.120}; give a known role and content as text")
    return Message.of(cast(Role, role), content)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
