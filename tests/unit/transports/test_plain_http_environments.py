"""HTTP environments that are not ours: pages as short as they like, worlds named as they like."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rlforge.errors import EndpointBroken, EndpointRefused
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment
from rlforge.transports.http_connection import HttpConnection
from rlforge.wire.json import to_json
from rlforge.wire.pb import types_pb2
from tests.checks.broken import environments as over_grpc
from tests.checks.broken.http_environments import RightOverHttp, listening_over_http
from tests.worlds import start


class Pages(RightOverHttp):
    """Lists 500 tasks in pages of 100 at most, and says how many there are or not."""

    said = 500
    there = 500
    asked = 0

    def lets_in(self, request: Request) -> bool:
        return True

    async def describe(self, request: Request) -> Response:
        spec = over_grpc.Right().spec()
        spec.splits[0].tasks = self.said
        return JSONResponse(to_json(spec))

    async def tasks(self, request: Request) -> Response:
        self.asked += 1
        first, last = self.page(*(int(request.query_params[name]) for name in ("offset", "limit")))
        tasks = [types_pb2.Task(id=str(n)) for n in range(first, min(last, self.there))]
        return JSONResponse({"tasks": [MessageToDict(task) for task in tasks]})

    def page(self, offset: int, limit: int) -> tuple[int, int]:
        return offset, offset + min(limit, 100)


class SaysNothing(Pages):
    said = 0


class HasFewer(Pages):
    there = 250


class HeedsNoLimit(Pages):
    def page(self, offset: int, limit: int) -> tuple[int, int]:
        return offset, 10**6


class HeedsNoOffset(Pages):
    said, there = 0, 3

    def page(self, offset: int, limit: int) -> tuple[int, int]:
        return 0, 10**6


async def listed(server: Pages, **asked: int) -> list[str]:
    async with listening_over_http(server) as address:
        environment = connect_environment(EndpointConfig(address=address))
        try:
            return [task.id async for task in environment.tasks("train", **asked)]
        finally:
            await environment.close()


@pytest.mark.parametrize(
    ("kind", "count", "requests"), [(Pages, 500, 5), (SaysNothing, 500, 6), (HasFewer, 250, 4), (HeedsNoLimit, 500, 2)]
)
async def test_a_short_page_does_not_end_a_list(kind: type[Pages], count: int, requests: int) -> None:
    server = kind()
    assert await listed(server) == [str(n) for n in range(count)]
    assert server.asked == requests


async def test_an_offset_and_a_limit_go_across_pages() -> None:
    assert await listed(Pages(), offset=130, limit=270) == [str(n) for n in range(130, 400)]
    assert await listed(Pages(), offset=490, limit=270) == [str(n) for n in range(490, 500)]
    assert await listed(Pages(), offset=500) == []


async def test_a_server_that_begins_anew_with_each_page_is_found_out() -> None:
    with pytest.raises(EndpointBroken, match="from 3 on begin with '0' again"):
        await listed(HeedsNoOffset())


class Locates(RightOverHttp):
    """Says where a world is as it is told to; `{}` stands for its own path."""

    def __init__(self, location: str) -> None:
        super().__init__()
        self.location = location

    def lets_in(self, request: Request) -> bool:
        return True

    async def start(self, request: Request) -> Response:
        answer: Any = await super().start(request)
        path = answer.headers["location"]
        answer.headers["location"] = self.location.format(path=path, origin=str(request.base_url).rstrip("/"))
        return answer


@pytest.mark.parametrize("location", ["{path}", "{origin}{path}"])
async def test_a_world_is_found_by_its_path_or_its_whole_address_and_freed(location: str) -> None:
    server = Locates(location)
    async with listening_over_http(server) as address:
        environment = connect_environment(EndpointConfig(address=address))
        world, _ = await environment.open(with_actions())
        assert len(server.worlds) == 1
        await world.close()
        assert not server.worlds
        await environment.close()


@pytest.mark.parametrize("location", ["", "http://elsewhere.example{path}", "//elsewhere.example{path}", "http://["])
async def test_a_world_at_a_strangers_is_refused_and_freed_here(location: str) -> None:
    server = Locates(location)
    async with listening_over_http(server) as address:
        environment = connect_environment(EndpointConfig(address=address))
        with pytest.raises(EndpointBroken, match="has no address there: send its path as `Location`"):
            await environment.open(with_actions())
        await environment.close()
        assert not server.worlds


def test_a_location_below_a_prefix_is_the_same_world_with_the_prefix_and_without() -> None:
    connection = HttpConnection(EndpointConfig(address="https://proxy.example/robot/"))
    for location in ("/v1/worlds/7", "/robot/v1/worlds/7", "https://proxy.example:443/robot/v1/worlds/7"):
        assert connection.path_of(location, "/v1/worlds", "a world") == "/v1/worlds/7"
    with pytest.raises(EndpointBroken):
        connection.path_of("http://proxy.example/robot/v1/worlds/7", "/v1/worlds", "a world")


async def test_a_split_that_is_not_there_is_still_asked_for() -> None:
    class Refuses(Pages):
        async def tasks(self, request: Request) -> Response:
            return JSONResponse({"error": {"message": "no such split"}}, 404)

    with pytest.raises(EndpointRefused, match="no such split"):
        await listed(Refuses())


def with_actions() -> Any:
    begun = start()
    begun.task.info["actions"] = ["1", "2", "3"]
    return begun
