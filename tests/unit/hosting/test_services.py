"""What stands beside a service: health, reflection, the OpenAPI document; and what cannot be served."""

import asyncio

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from rlforge.errors import ConfigError, SetupError
from rlforge.hosting.openapi import openapi
from rlforge.hosting.serve import serving
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment
from rlforge.wire.json import to_json
from rlforge.wire.worlds import encode_start
from tests.worlds import Clockwork, start


def channel_to(address):
    return grpc.aio.insecure_channel(address.removeprefix("grpc://"))


async def health(stub, service=""):
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status


@pytest.mark.parametrize(
    ("thing", "service"),
    [(Clockwork, "rlforge.v1.Environment"), (lambda rollout: 1.0, "rlforge.v1.Reward")],
    ids=["environment", "reward"],
)
async def test_health_is_told_without_a_token(thing, service, monkeypatch):
    monkeypatch.setenv("TOKEN", "open-sesame")
    async with serving(thing, "grpc://127.0.0.1:0", token="env:TOKEN") as address, channel_to(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", service):
            assert await health(stub, name) == health_pb2.HealthCheckResponse.SERVING


async def test_a_server_that_drains_says_so():
    hosted = serving(Clockwork, "grpc://127.0.0.1:0", drain_s=5)
    address = await hosted.__aenter__()
    environment = connect_environment(EndpointConfig(address=address))
    world, _ = await environment.open(start())
    async with channel_to(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        stopping = asyncio.create_task(hosted.__aexit__(None, None, None))
        async with asyncio.timeout(5):
            while await health(stub) != health_pb2.HealthCheckResponse.NOT_SERVING:  # noqa: ASYNC110 (it is asked)
                await asyncio.sleep(0.01)
    await world.close()
    await stopping
    await environment.close()


async def test_reflection_names_the_service_and_gives_its_file():
    async with serving(Clockwork, "grpc://127.0.0.1:0") as address, channel_to(address) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(timeout=5)
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = {service.name for service in (await call.read()).list_services_response.service}
        assert {"rlforge.v1.Environment", "grpc.health.v1.Health"} <= listed
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="rlforge.v1.Environment"))
        assert (await call.read()).file_descriptor_response.file_descriptor_proto
        call.cancel()


async def test_health_over_http_turns_with_draining():
    hosted = serving(Clockwork, "http://127.0.0.1:0", drain_s=5)
    address = await hosted.__aenter__()
    async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
        opened = await client.post("/v1/worlds", json=to_json(encode_start(start())))
        assert (await client.get("/healthz")).status_code == 200
        stopping = asyncio.create_task(hosted.__aexit__(None, None, None))
        async with asyncio.timeout(5):
            while (said := await client.get("/healthz")).status_code != 503:  # noqa: ASYNC110 (it is asked)
                await asyncio.sleep(0.01)
        assert said.json() == {"status": "draining"}
        assert (await client.delete(opened.headers["location"])).status_code == 204
        await stopping


@pytest.mark.parametrize(
    ("thing", "paths"),
    [
        (
            Clockwork,
            {
                "/v1/environment",
                "/v1/tasks",
                "/v1/worlds",
                "/v1/worlds/{world}",
                "/v1/worlds/{world}/steps",
                "/healthz",
            },
        ),
        (lambda rollout: 1.0, {"/v1/reward", "/v1/score", "/healthz"}),
    ],
    ids=["environment", "reward"],
)
async def test_the_openapi_document_lists_what_is_served(thing, paths):
    async with serving(thing, "http://127.0.0.1:0") as address, httpx.AsyncClient(trust_env=False) as client:
        document = (await client.get(f"{address}/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == paths


@pytest.mark.parametrize("kind", ["environment", "reward"])
def test_every_reference_of_the_openapi_document_leads_somewhere(kind):
    document = openapi(kind, "thing", token=True)

    def references(node):
        if isinstance(node, dict):
            yield from ([node["$ref"]] if "$ref" in node else [])
            for child in node.values():
                yield from references(child)
        elif isinstance(node, list):
            for child in node:
                yield from references(child)

    found = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert found
    assert found <= set(document["components"]["schemas"])


def test_the_openapi_document_says_what_a_message_holds():
    schemas = openapi("environment", "thing")["components"]["schemas"]
    assert schemas["Action"]["properties"]["step"]["type"] == "integer"
    assert schemas["Observation"]["properties"]["components"] == {
        "type": "object",
        "additionalProperties": {"type": "number", "format": "double"},
    }
    assert schemas["Observation"]["properties"]["messages"]["items"] == {"$ref": "#/components/schemas/Message"}
    assert "at most one of start, message" in schemas["Action"]["description"]


@pytest.mark.parametrize(
    "address", ["grpc://127.0.0.1", "ftp://127.0.0.1:1", "127.0.0.1:1", "grpc://127.0.0.1:x", "http://:1"]
)
async def test_an_address_that_makes_no_sense_is_refused(address):
    with pytest.raises(ConfigError, match="cannot serve at"):
        await serving(Clockwork, address).__aenter__()


@pytest.mark.parametrize("scheme", ["grpc", "http"])
async def test_an_address_that_is_taken_is_said_plainly(scheme):
    async with serving(Clockwork, f"{scheme}://127.0.0.1:0") as address:
        with pytest.raises(SetupError, match=f"cannot serve at {address}"):
            await serving(Clockwork, address).__aenter__()


class Speechless(Clockwork):
    """Cannot say what it is."""

    closed = False

    async def describe(self):
        raise ValueError("no words")

    async def close(self):
        self.closed = True


async def test_what_cannot_say_what_it_is_is_closed():
    speechless = Speechless()
    with pytest.raises(ValueError, match="no words"):
        async with serving(speechless, "grpc://127.0.0.1:0"):
            pass
    assert speechless.closed
