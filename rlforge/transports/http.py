"""Environments and reward endpoints behind `http://` and `https://`: the messages of gRPC as JSON."""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlencode

from google.protobuf.message import Message as ProtoMessage

from rlforge.errors import (
    DataError,
    DeadlineExceeded,
    EndpointBroken,
    EndpointError,
    EndpointUnavailable,
)
from rlforge.transports.config import EndpointConfig
from rlforge.transports.http_connection import HttpConnection, NoSuchPath
from rlforge.transports.remote import RemoteEnvironment
from rlforge.transports.secrets import scores_redacted
from rlforge.types import EnvironmentSpec, Message, Observation, Rollout, Score, ScorerSpec, Task, WorldStart
from rlforge.wire.json import from_json, to_json
from rlforge.wire.pb import environment_pb2 as pb
from rlforge.wire.pb import reward_pb2, types_pb2
from rlforge.wire.plain_scores import read_scores
from rlforge.wire.rollouts import decode_task
from rlforge.wire.scores import decode_scorer_spec, encode_score_request
from rlforge.wire.worlds import decode_observation, decode_spec, encode_reply, encode_start

Kind = TypeVar("Kind", bound=ProtoMessage)

WORLDS = "/v1/worlds"
KEY = "idempotency-key"
"""Header of a request for a world: asked twice with the same key, a server opens one."""
TIMEOUT = "x-rlforge-timeout-s"
"""Header of a scoring request: seconds after which nobody waits for the answer."""
FREE_TIMEOUT_S = 5.0
"""Seconds to wait for the word that a world is freed; a server frees idle ones itself."""
DESCRIBE_TIMEOUT_S = 10.0
"""Seconds an endpoint has to say what it is, once connected."""
TASKS_A_PAGE = 256


class Http:
    """The transport of `http://` and `https://`."""

    def __init__(self, config: EndpointConfig) -> None:
        self._connection = HttpConnection(config)

    def environment(self) -> HttpEnvironment:
        """The environment at the address."""
        return HttpEnvironment(self._connection)

    def reward(self) -> HttpReward:
        """The reward endpoint at the address."""
        return HttpReward(self._connection)


class HttpEnvironment(RemoteEnvironment):
    """An environment over HTTP: a world has an address of its own."""

    def __init__(self, connection: HttpConnection) -> None:
        super().__init__(connection.config)
        self.connection = connection
        self.living: set[HttpWorld] = set()
        self._freeing: set[asyncio.Task[None]] = set()

    async def tasks(self, split: str, offset: int = 0, limit: int = 0) -> AsyncIterator[Task]:
        """The tasks of a split in their order, asked for in pages; each page must come within `connect_timeout_s`.

        A page may hold fewer than were asked for: the list ends with as many as `describe` says, or with an empty page.
        """
        said = (await self.describe()).splits.get(split)
        due = min(limit or math.inf, (said or math.inf) - offset)
        given, first = 0, None
        while given < due:
            count = int(min(TASKS_A_PAGE, due - given))
            page = (await self._page(split, offset + given, count))[:count]
            if not page:
                return
            if page[0].id == first:
                raise EndpointBroken(
                    f"the tasks of '{split}' at {self.config.address} from {offset + given} on begin with '{first}' "
                    "again; a page is to begin at `offset`"
                )
            for task in page:
                yield task
            given, first = given + len(page), page[0].id

    async def free(self, path: str) -> None:
        """Free a world; one that cannot be freed now is freed by its server when it idles."""
        with suppress(EndpointError, DeadlineExceeded):
            await self.connection.ask("DELETE", path, None, doing="freeing a world", timeout_s=FREE_TIMEOUT_S)

    def free_soon(self, path: str) -> None:
        """Free a world without waiting for it."""
        freeing = asyncio.get_running_loop().create_task(self.free(path))
        self._freeing.add(freeing)
        freeing.add_done_callback(self._freeing.discard)

    async def _describe(self) -> EnvironmentSpec:
        return decode_spec(await _get(self.connection, "/v1/environment", pb.EnvironmentSpec))

    async def _open(self, start: WorldStart) -> tuple[HttpWorld, Observation]:
        key = uuid.uuid4().hex
        timeout_s = self.step_timeout_s(start)
        who = start.rollout_id or start.task.id
        try:
            said, headers = await self.connection.ask(
                "POST",
                WORLDS,
                to_json(encode_start(start)),
                doing=f"step 0 of the world of {who}",
                timeout_s=timeout_s,
                attempts=2,
                headers={KEY: key},
            )
        except (asyncio.CancelledError, DeadlineExceeded, EndpointUnavailable, EndpointBroken):
            self.free_soon(f"{WORLDS}/{key}")  # where our servers put a world asked for with this key
            raise
        try:
            path = self.connection.path_of(headers.get("location", ""), WORLDS, f"the world of {who}")
        except EndpointBroken:
            self.free_soon(f"{WORLDS}/{key}")
            raise
        try:
            shown = _observation(said, 0, self.connection)
        except EndpointBroken:
            self.free_soon(path)
            raise
        return HttpWorld(self, path, who, timeout_s), shown

    async def _page(self, split: str, offset: int, limit: int) -> list[Task]:
        query = urlencode({"split": split, "offset": offset, "limit": limit})
        said, _ = await self.connection.ask(
            "GET",
            f"/v1/tasks?{query}",
            None,
            doing=f"listing tasks of '{split}'",
            timeout_s=self.config.connect_timeout_s,
            attempts=2,
        )
        try:
            return [decode_task(from_json(task, types_pb2.Task)) for task in json.loads(said)["tasks"]]
        except (DataError, ValueError, TypeError, KeyError, RecursionError) as error:
            why = self.connection.shown(error)
            raise EndpointBroken(f"the tasks of '{split}' at {self.config.address} make no sense: {why}") from error

    async def _close(self) -> None:
        for world in tuple(self.living):
            world.leave()
        if self._freeing:
            await asyncio.wait(tuple(self._freeing), timeout=FREE_TIMEOUT_S)
        await self.connection.close()


class HttpWorld:
    """A world with an address: every step is a request, sent again when its connection drops."""

    __slots__ = ("_environment", "_path", "_step", "_timeout_s", "_who")

    def __init__(self, environment: HttpEnvironment, path: str, who: str, timeout_s: float) -> None:
        self._environment: HttpEnvironment | None = environment
        self._path = path
        self._who = who
        self._timeout_s = timeout_s
        self._step = 0
        environment.living.add(self)

    async def step(self, reply: Message) -> Observation:
        """What the world shows after the model's reply. Raises EndpointError or DeadlineExceeded; then it is gone."""
        environment = self._environment
        self._step += 1
        doing = f"step {self._step} of the world of {self._who}"
        if environment is None:
            raise EndpointUnavailable(f"{doing}: the world is gone")
        try:
            action = to_json(encode_reply(self._step, reply))
            said, _ = await environment.connection.ask(
                "POST", f"{self._path}/steps", action, doing=doing, timeout_s=self._timeout_s, attempts=2
            )
            observation = _observation(said, self._step, environment.connection)
        except BaseException:
            self.leave()
            raise
        if observation.over:
            self._give_back()  # the server frees it by itself
        return observation

    async def close(self) -> None:
        """Free the world. May be called twice."""
        environment = self._give_back()
        if environment is None:
            return
        try:
            await environment.free(self._path)
        except asyncio.CancelledError:
            environment.free_soon(self._path)
            raise

    def leave(self) -> None:
        """Free the world without waiting for it."""
        environment = self._give_back()
        if environment is not None:
            environment.free_soon(self._path)

    def _give_back(self) -> HttpEnvironment | None:
        environment, self._environment = self._environment, None
        if environment is not None:
            environment.living.discard(self)
            environment.freed()
        return environment


class HttpReward:
    """A reward endpoint over HTTP."""

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection

    async def describe(self) -> ScorerSpec:
        """What it is; one that only scores is called by its address. Raises EndpointError or DeadlineExceeded."""
        try:
            return decode_scorer_spec(await _get(self._connection, "/v1/reward", reward_pb2.ScorerSpec))
        except NoSuchPath:
            return ScorerSpec(name=self._connection.config.address)

    async def score(self, items: Mapping[str, Rollout], *, request_id: str, timeout_s: float) -> Mapping[str, Score]:
        """Scores by item id, see `read_scores`. Raises EndpointError or DeadlineExceeded."""
        said, _ = await self._connection.ask(
            "POST",
            "/v1/score",
            to_json(encode_score_request(items, request_id)),
            doing=f"scoring {len(items)} rollouts",
            timeout_s=timeout_s,
            headers={TIMEOUT: f"{timeout_s:g}"},
        )
        address = self._connection.config.address
        try:
            return scores_redacted(read_scores(json.loads(said), list(items), address), self._connection.secrets)
        except (DataError, ValueError, RecursionError) as error:
            why = self._connection.shown(error)
            raise EndpointBroken(f"the answer of {address} makes no sense: {why}") from error

    async def close(self) -> None:
        """Disconnect. May be called twice."""
        await self._connection.close()


async def _get(connection: HttpConnection, path: str, kind: type[Kind]) -> Kind:
    timeout_s = connection.config.connect_timeout_s + DESCRIBE_TIMEOUT_S
    said, _ = await connection.ask("GET", path, None, doing=f"asking {path}", timeout_s=timeout_s, attempts=2)
    return _read(said, kind, connection)


def _observation(said: bytes, step: int, connection: HttpConnection) -> Observation:
    address = connection.config.address
    observation = _read(said, pb.Observation, connection)
    if observation.step != step:
        raise EndpointBroken(f"step {step} at {address} was answered as step {observation.step}")
    try:
        return decode_observation(observation)
    except DataError as error:
        why = connection.shown(error)
        raise EndpointBroken(f"the observation of step {step} at {address} makes no sense: {why}") from error


def _read(said: bytes, kind: type[Kind], connection: HttpConnection) -> Kind:
    try:
        data: Any = json.loads(said)
        return from_json(data, kind)
    except (DataError, ValueError, RecursionError) as error:
        why = connection.shown(error)
        raise EndpointBroken(f"the answer of {connection.config.address} makes no sense: {why}") from error
