"""Endpoints that answer with a number, an object or a list."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from rlforge.errors import DataError
from rlforge.rewards.router import Router
from rlforge.wire.plain_scores import read_scores
from tests.rollouts import rollout


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        (0.5, [0.5]),
        (True, [1.0]),
        ({"format": 0.25, "right": 1}, [1.25]),
        ({"reward": 0.7, "length": 12}, [0.7]),
        ([1, 0.0], [1.0, 0.0]),
        ([{"reward": 1}, None], [1.0, None]),
        ([{"scored": {"value": 1}}, {"unscored": {"kind": "declined"}}], [1.0, None]),
        ({"scores": [{"id": "b", "scored": {"value": 2}}, {"id": "a", "scored": {"value": 1}}]}, [1.0, 2.0]),
        ([{"id": "b", "scored": {"value": 2}}, {"id": "a", "scored": {"value": 1}}], [1.0, 2.0]),
        (["1", float("nan")], [None, None]),
        ([10**400, {"a": 10**400}], [None, None]),
        ([{}, {"a": "x"}], [None, None]),
    ],
)
def test_answer_is_read_by_its_shape(answer, values):
    ids = ["a", "b"][: len(values)]
    scores = read_scores(answer, ids, "s")
    assert [scores[id].value for id in ids] == values
    assert all(score.error_kind for score in scores.values() if score.value is None)


@pytest.mark.parametrize("answer", [[1], 1.0, [1, 2, 3], {"right": 1}])
def test_answer_that_fits_no_number_of_items_is_refused(answer):
    with pytest.raises(DataError, match="for 2 items"):
        read_scores(answer, ["a", "b"], "s")


async def test_endpoint_of_a_few_lines_is_enough():
    async def score(request):
        items = json.loads(await request.body())["items"]
        texts = [item["rollout"]["turns"][-1]["message"]["content"][0]["text"] for item in items]
        return JSONResponse([float(text == "46") for text in texts])

    listening = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[Route("/v1/score", score, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    router = Router(Router.Config.parse({"scorers": [{"type": "http", "address": address}]}))
    await router.start()
    rewards = await router.reward([rollout("46"), rollout("47")])
    await router.close()
    server.should_exit = True
    await task
    assert [reward.value for reward in rewards] == [1.0, 0.0]
