"""What clients make of endpoints that are not ours: broken answers, dropped connections, statuses, secrets."""

import asyncio
import json
import socket
import threading
import time
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from rlforge.errors import (
    ConfigError,
    DeadlineExceeded,
    EndpointBroken,
    EndpointBusy,
    EndpointCancelled,
    EndpointRefused,
    EndpointUnavailable,
)
from rlforge.transports.config import SCHEMES, EndpointConfig
from rlforge.transports.connect import connect_environment, connect_reward
from rlforge.transports.secrets import Secret, read_secret, redacted
from rlforge.types import EnvironmentSpec, Message, Observation
from rlforge.wire.json import to_json
from rlforge.wire.pb import environment_pb2 as pb
from rlforge.wire.worlds import encode_observation, encode_spec
from tests.rollouts import rollout
from tests.worlds import say, start


class StrangeWorlds:
    """A gRPC server whose worlds answer each action as it is told to."""

    def __init__(self, answer, *, steps=100, protocol_version=1):
        self._answer = answer
        self._steps = steps
        self._protocol_version = protocol_version
        self._server = grpc.aio.server()
        handlers = {
            "Describe": grpc.unary_unary_rpc_method_handler(self._describe, None, pb.EnvironmentSpec.SerializeToString),
            "Interact": grpc.stream_stream_rpc_method_handler(self._interact),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("rlforge.v1.Environment", handlers),)
        )

    async def __aenter__(self):
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.environment = connect_environment(EndpointConfig(address=f"grpc://127.0.0.1:{port}"))
        return self.environment

    async def __aexit__(self, *_):
        await self.environment.close()
        await self._server.stop(0)

    async def _describe(self, _request, _context):
        return pb.EnvironmentSpec(name="strange", protocol_version=self._protocol_version)

    async def _interact(self, _requests, context):
        for _ in range(self._steps):
            sent = await context.read()
            if sent is grpc.aio.EOF:
                return
            step = pb.Action.FromString(sent).step
            for answer in await self._answer(step, context):
                await context.write(answer if isinstance(answer, bytes) else answer.SerializeToString())


def shown(step, text="go"):
    return pb.Observation(step=step, messages=[{"role": "user", "content": [{"text": text}]}])


async def test_an_answer_that_comes_twice_is_heard_once():
    async def twice(step, _context):
        return [shown(step, f"first {step}"), shown(step, f"again {step}")]

    async with StrangeWorlds(twice) as environment:
        world, first = await environment.open(start())
        texts = [first.messages[0].text, *[(await world.step(say("on"))).messages[0].text for _ in range(3)]]
        assert texts == ["first 0", "first 1", "first 2", "first 3"]


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([b"\xff\xff"], "makes no sense"),
        ([shown(7)], "was answered as step 7"),
        ([pb.Observation(step=1, messages=[{"role": "bystander"}])], "has the role 'bystander'"),
        ([pb.Observation(step=1, reward=float("nan"))], "nan"),
    ],
    ids=["garbage", "wrong number", "odd role", "nan"],
)
async def test_an_answer_that_makes_no_sense_is_a_broken_endpoint_and_no_reward(answers, why):
    async def strange(step, _context):
        return answers if step else [shown(0)]

    async with StrangeWorlds(strange) as environment:
        world, _ = await environment.open(start())
        with pytest.raises(EndpointBroken, match=why):
            await world.step(say("on"))
        with pytest.raises(EndpointUnavailable, match="the world is gone"):
            await world.step(say("on"))


@pytest.mark.parametrize(
    ("status", "details", "trailing", "expected"),
    [
        ("UNAVAILABLE", "starting", (), EndpointUnavailable),
        ("CANCELLED", "going down", (), EndpointCancelled),
        ("RESOURCE_EXHAUSTED", "no world is free", (("retry-after-ms", "100"),), EndpointBusy),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 4)", (), EndpointRefused),
        ("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4: 9", (), EndpointRefused),
        ("INVALID_ARGUMENT", "what?", (), EndpointRefused),
        ("UNAUTHENTICATED", "who?", (), EndpointRefused),
        ("UNIMPLEMENTED", "how?", (), EndpointRefused),
        ("ABORTED", "crash", (), EndpointBroken),
        ("INTERNAL", "bug", (), EndpointBroken),
        ("DEADLINE_EXCEEDED", "too slow", (), DeadlineExceeded),
    ],
)
async def test_every_status_has_its_meaning_and_its_message(status, details, trailing, expected):
    async def refuse(step, context):
        if step:
            await context.abort(grpc.StatusCode[status], details, trailing)
        return [shown(0)]

    async with StrangeWorlds(refuse) as environment:
        world, _ = await environment.open(start())
        with pytest.raises(expected) as raised:
            await world.step(say("on"))
        assert details in str(raised.value)
        assert "step 1 of the world of train/0@0#0 at grpc://" in str(raised.value)


async def test_a_stream_that_ends_without_an_answer_is_a_broken_endpoint():
    async def leave(step, _context):
        return [] if step else [shown(0)]

    async with StrangeWorlds(leave, steps=2) as environment:
        world, _ = await environment.open(start())
        with pytest.raises(EndpointBroken, match="ended without an answer to step 1"):
            await world.step(say("on"))


async def test_a_server_of_another_protocol_is_refused():
    async with StrangeWorlds(None, protocol_version=2) as environment:
        with pytest.raises(EndpointRefused, match="speaks protocol version 2"):
            await environment.describe()


class DroppingServer:
    """An HTTP server that drops connections: a list says for each request whether it is answered."""

    def __init__(self, *answered):
        self._answered = list(answered)
        self.requests = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _talk(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                (int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length")), 0
            )
            body = json.loads(await reader.readexactly(length)) if length else {}
            path = head.split()[1]
            self.requests.append((path, body))
            if self._answered.pop(0):
                writer.write(self._answer(path, body))
                await writer.drain()
        finally:
            writer.close()

    def _answer(self, path, body):
        if path == "/v1/environment":
            said = to_json(encode_spec(EnvironmentSpec(name="dropping")))
        else:
            said = to_json(encode_observation(body["step"], Observation(messages=(Message.of("user", "go"),))))
        content = json.dumps(said).encode()
        head = (
            f"HTTP/1.1 200 OK\r\nlocation: /v1/worlds/w\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
        )
        return head.encode() + content


async def test_a_step_is_sent_again_once_when_its_connection_drops():
    async with DroppingServer(True, True, False, True) as server:
        environment = connect_environment(EndpointConfig(address=server.address))
        world, _ = await environment.open(start())
        assert (await world.step(say("on"))).messages[0].text == "go"
        assert server.requests[2] == server.requests[3]
        assert [path for path, _ in server.requests[2:]] == ["/v1/worlds/w/steps"] * 2
        await environment.connection.close()


async def test_a_connection_that_drops_twice_is_unavailable():
    async with DroppingServer(True, True, False, False, False) as server:
        environment = connect_environment(EndpointConfig(address=server.address))
        world, _ = await environment.open(start())
        with pytest.raises(EndpointUnavailable, match="step 1"):
            await world.step(say("on"))
        await environment.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_naming_an_address_imports_nothing(scheme):
    assert EndpointConfig(address=f"{scheme}://127.0.0.1:1").scheme == scheme


def test_a_python_target_that_is_not_there_is_said_plainly():
    with pytest.raises(ConfigError, match="there is no file"):
        connect_reward(EndpointConfig(address="python:absent.py:reward"))


def test_secrets_come_from_the_environment_or_a_file_and_show_as_stars(monkeypatch, tmp_path):
    monkeypatch.setenv("TOKEN", " open-sesame\n")
    (tmp_path / "token").write_text("open-barley\n")
    here, there = read_secret("env:TOKEN", "token"), read_secret(f"file:{tmp_path}/token", "token")
    assert (here.reveal(), there.reveal()) == ("open-sesame", "open-barley")
    assert "open" not in f"{here} {here!r} {[there]}"
    assert redacted("said open-sesame, then open-barley", (here, None, there)) == "said ***, then ***"
    assert read_secret(None, "token") is None
    slashed = [Secret('a/b"c')]
    assert redacted(r'said a/b"c, a/b\"c and a\/b\"c', slashed) == "said ***, *** and ***"


@asynccontextmanager
async def answering(body):
    """The address of an HTTP server that answers every request with what `body` makes of its path."""

    async def answer(request):
        return Response(body(request.url.path), media_type="application/json")

    listening = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


async def test_an_answer_that_cannot_be_read_or_that_quotes_us_does_not_show_our_token(monkeypatch):
    monkeypatch.setenv("TOKEN", "open-sesame")
    answers = [
        {"scores": [{"id": "a", "unscored": {"reason": "you sent Bearer open-sesame", "kind": "not open-sesame"}}]},
        {"scores": "Bearer open-sesame"},
        ["Bearer open-sesame"],
    ]
    async with answering(lambda path: json.dumps(answers.pop(0)).encode()) as address:
        endpoint = connect_reward(EndpointConfig(address=address, token="env:TOKEN"))
        told = [await endpoint.score({"a": rollout()}, request_id="1", timeout_s=5)]
        with pytest.raises(EndpointBroken) as raised:
            await endpoint.score({"a": rollout()}, request_id="2", timeout_s=5)
        told += [await endpoint.score({"a": rollout()}, request_id="3", timeout_s=5)]
        await endpoint.close()
    assert (told[0]["a"].reason, told[0]["a"].error_kind) == ("you sent Bearer ***", "not ***")
    assert "***" in told[1]["a"].reason
    assert "sesame" not in f"{told}{raised.value}"


async def test_all_who_wait_for_a_connection_wait_no_longer_than_it_may_take():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"grpc://127.0.0.1:{nobody.getsockname()[1]}"
        endpoint = connect_reward(EndpointConfig(address=address, connect_timeout_s=0.3))
        began = time.monotonic()
        asking = [endpoint.score({"a": rollout()}, request_id=str(number), timeout_s=5) for number in range(12)]
        told = await asyncio.gather(*asking, return_exceptions=True)
        await endpoint.close()
    assert {type(each) for each in told} == {EndpointUnavailable}
    assert time.monotonic() - began < 3  # one after another they take 3.6 s


class PostAlone(BaseHTTPRequestHandler):
    """An endpoint of a few lines on Python's own server, which says 501 to GET."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "3")
        self.end_headers()
        self.wfile.write(b"0.5")

    def log_message(self, *said):
        pass


async def test_an_endpoint_that_only_scores_is_asked_whatever_it_says_to_a_question_who_it_is():
    with ThreadingHTTPServer(("127.0.0.1", 0), PostAlone) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        endpoint = connect_reward(EndpointConfig(address=address))
        assert (await endpoint.describe()).name == address
        scores = await endpoint.score({"a": rollout()}, request_id="1", timeout_s=5)
        await endpoint.close()
        environment = connect_environment(EndpointConfig(address=address))
        with pytest.raises(EndpointRefused) as told:
            await environment.describe()
        await environment.close()
        await asyncio.to_thread(server.shutdown)
    assert scores["a"].value == 0.5
    assert "HTTP 501" in str(told.value)
    assert "\n" not in str(told.value)


async def test_an_answer_nested_without_end_makes_no_sense():
    async with answering(lambda path: b"[" * 100_000) as address:
        environment, reward = (
            connect(EndpointConfig(address=address)) for connect in (connect_environment, connect_reward)
        )
        with pytest.raises(EndpointBroken, match="makes no sense"):
            await environment.describe()
        with pytest.raises(EndpointBroken, match="makes no sense"):
            await reward.score({"a": rollout()}, request_id="1", timeout_s=5)
        await environment.close()
        await reward.close()


@pytest.mark.parametrize(
    "where", ["open-sesame", "open:sesame", "env:NOT_THERE", "file:/not/there", "env:EMPTY", "env:LINES"]
)
def test_a_secret_that_cannot_be_read_is_an_error_that_does_not_show_it(where, monkeypatch):
    monkeypatch.setenv("EMPTY", " ")
    monkeypatch.setenv("LINES", "open\nsesame")
    with pytest.raises(ConfigError) as raised:
        read_secret(where, "token of the judge")
    assert "token of the judge" in str(raised.value)
    assert "sesame" not in str(raised.value)
    assert "Secret" not in repr(Secret("x"))
