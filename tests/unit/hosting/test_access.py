"""Encrypted connections, certificates of clients, signed requests."""

import logging
import os
import time

import httpx
import pytest

from rlforge.errors import ConfigError, EndpointBroken, EndpointRefused, EndpointUnavailable
from rlforge.hosting.access import WINDOW_S
from rlforge.hosting.serve import serving
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment, connect_reward
from rlforge.transports.secrets import Secret
from rlforge.transports.signing import SIGNATURE, TIMESTAMP, signature
from rlforge.types import Observation
from tests.certificates import Authority
from tests.worlds import Clockwork, say, start, until


@pytest.fixture(params=["grpc", "http"])
def scheme(request):
    return request.param


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


async def meet(address, **config):
    environment = connect_environment(EndpointConfig(address=address, **config))
    try:
        world, _ = await environment.open(start())
        shown = await world.step(say("hello"))
        await world.close()
        return shown.messages[0].text
    finally:
        await environment.close()


async def test_an_encrypted_connection_trusts_the_authority_it_is_given_and_no_other(scheme, authority, tmp_path):
    async with serving(Clockwork(), f"{scheme}://127.0.0.1:0", tls=authority.issue("server")) as address:
        assert address.startswith(f"{scheme}s://127.0.0.1:")
        assert await meet(address, tls={"ca": authority.file}) == "1: hello"
        with pytest.raises(EndpointUnavailable):
            await meet(address, tls={"ca": Authority(tmp_path, "stranger").file}, connect_timeout_s=1)
        with pytest.raises(EndpointUnavailable):
            await meet(address.replace("s://", "://"), connect_timeout_s=1)


async def test_a_server_may_ask_for_the_clients_certificate(scheme, authority, tmp_path):
    tls = authority.issue("server") | {"client_ca": authority.file}
    async with serving(Clockwork(), f"{scheme}s://127.0.0.1:0", tls=tls) as address:
        ours = authority.issue("client")
        assert await meet(address, tls={"ca": authority.file, **ours}) == "1: hello"
        theirs = Authority(tmp_path, "stranger").issue("stranger")
        for tls in ({"ca": authority.file}, {"ca": authority.file, **theirs}):
            with pytest.raises(EndpointUnavailable):
                await meet(address, tls=tls, connect_timeout_s=1)


async def test_the_name_in_a_certificate_may_differ_from_the_address(authority):
    async with serving(Clockwork(), "grpcs://127.0.0.1:0", tls=authority.issue("server")) as address:
        tls = {"ca": authority.file, "server_name": "simulator.test"}
        assert await meet(address.replace("127.0.0.1", "localhost"), tls=tls) == "1: hello"


async def test_missing_or_lonely_certificates_are_found_before_anything_starts(scheme, authority, tmp_path):
    with pytest.raises(ConfigError, match="needs tls"):
        await serving(Clockwork(), f"{scheme}s://127.0.0.1:0").__aenter__()
    absent = {"certificate": str(tmp_path / "absent"), "key": str(tmp_path / "absent")}
    with pytest.raises(ConfigError, match=r"cannot read '.*absent'"):
        await serving(Clockwork(), f"{scheme}://127.0.0.1:0", tls=absent).__aenter__()
    lonely = {"certificate": authority.issue("client")["certificate"]}
    with pytest.raises(ConfigError, match="go together"):
        connect_environment(EndpointConfig(address=f"{scheme}s://127.0.0.1:1", tls=lonely))


KEY = Secret("shared")


async def asked(address, *, age_s=0.0, key=KEY, body=b"{}", signed=b"{}"):
    now = str(int(time.time() - age_s))
    headers = {TIMESTAMP: now, SIGNATURE: signature(key, now, signed)}
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(f"{address}/v1/score", content=body, headers=headers)


async def test_a_signed_request_is_taken_and_any_other_refused(monkeypatch):
    monkeypatch.setenv("KEY", "shared")
    monkeypatch.setenv("OTHER", "unshared")
    async with serving(lambda rollout: 1.0, "http://127.0.0.1:0", signing_key="env:KEY") as address:
        endpoint = connect_reward(EndpointConfig(address=address, signing_key="env:KEY"))
        assert (await endpoint.describe()).name == "<lambda>"
        await endpoint.close()
        for config in ({}, {"signing_key": "env:OTHER"}):
            stranger = connect_reward(EndpointConfig(address=address, **config))
            with pytest.raises(EndpointRefused, match=r"x-rlforge-(timestamp|signature)"):
                await stranger.describe()
            await stranger.close()
        assert (await asked(address)).status_code == 200
        assert (await asked(address, age_s=WINDOW_S - 10)).status_code == 200
        for wrong in (
            {"age_s": WINDOW_S + 10},
            {"age_s": -WINDOW_S - 10},
            {"key": Secret("unshared")},
            {"body": b'{"request_id": "forged"}'},
        ):
            assert (await asked(address, **wrong)).status_code == 401


def test_a_signature_can_be_computed_with_any_library():
    # printf '1700000000.{}' | openssl dgst -sha256 -hmac shared
    assert signature(KEY, "1700000000", b"{}").startswith("v1=")
    assert len(signature(KEY, "1700000000", b"{}")) == 3 + 64
    assert signature(KEY, "1700000000", b"{}") != signature(KEY, "1700000001", b"{}")


def test_signing_is_for_http():
    with pytest.raises(ConfigError, match="signs HTTP requests"):
        connect_reward(EndpointConfig(address="grpc://127.0.0.1:1", signing_key="env:HOME"))


@pytest.mark.parametrize("scheme", ["grpc", "grpcs"])
async def test_a_grpc_server_with_a_signing_key_does_not_start_because_it_would_let_everybody_in(
    scheme, authority, monkeypatch
):
    monkeypatch.setenv("KEY", "shared")
    settings = {"signing_key": "env:KEY", "tls": authority.issue("server") if scheme == "grpcs" else None}
    with pytest.raises(ConfigError, match="signs HTTP requests; use a token and tls"):
        await serving(lambda rollout: 1.0, f"{scheme}://127.0.0.1:0", **settings).__aenter__()


async def test_the_openapi_document_asks_for_what_the_server_asks_for(monkeypatch):
    monkeypatch.setenv("KEY", "shared")
    now = str(int(time.time()))
    headers = {TIMESTAMP: now, SIGNATURE: signature(KEY, now, b"")}
    async with (
        serving(Clockwork(), "http://127.0.0.1:0", signing_key="env:KEY") as address,
        httpx.AsyncClient(trust_env=False, base_url=address, headers=headers) as client,
    ):
        document = (await client.get("/openapi.json")).json()
    assert document["security"] == [{"timestamp": [], "signature": []}]
    named = {scheme["name"] for scheme in document["components"]["securitySchemes"].values()}
    assert named == {TIMESTAMP, SIGNATURE}


class Parrot:
    def reset(self, task, seed):
        return "go"

    def step(self, action):
        raise ValueError(f"the token is {os.environ['TOKEN']}")


async def test_what_an_endpoint_says_back_is_shown_without_the_token(scheme, monkeypatch):
    monkeypatch.setenv("TOKEN", "open-sesame")
    async with serving(Parrot, f"{scheme}://127.0.0.1:0", token="env:TOKEN") as address:
        with pytest.raises(EndpointBroken, match=r"the token is [*]{3}") as raised:
            await meet(address, token="env:TOKEN")
        assert "open-sesame" not in str(raised.value)
    assert "open-sesame" not in repr(Secret("open-sesame"))


class Indiscreet(Clockwork):
    """Its worlds tell all they know, at every step and when they close."""

    async def open(self, start):
        return IndiscreetWorld(), Observation(messages=())


class IndiscreetWorld:
    async def step(self, reply):
        raise ValueError(f"the secrets are {os.environ['TOKEN']} and {os.environ['KEY']}")

    async def close(self):
        await self.step(None)


async def test_the_log_of_a_server_shows_neither_its_token_nor_its_key(scheme, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "rlforge.hosting")
    monkeypatch.setenv("TOKEN", 'open "sesame"')  # JSON writes the quotes in another way
    monkeypatch.setenv("KEY", "hidden-key")
    secrets = {"token": "env:TOKEN"} | ({"signing_key": "env:KEY"} if scheme == "http" else {})
    async with serving(Indiscreet(), f"{scheme}://127.0.0.1:0", **secrets) as address:
        with pytest.raises(EndpointBroken):
            await meet(address, **secrets)
        await until(lambda: "closing a world" in caplog.text)
    assert caplog.text.count("the secrets are ***") == 2
    assert "sesame" not in caplog.text
    assert scheme == "grpc" or "hidden-key" not in caplog.text


async def test_health_needs_no_token_and_everything_else_does(monkeypatch):
    monkeypatch.setenv("TOKEN", "open-sesame")
    async with (
        serving(Clockwork(), "http://127.0.0.1:0", token="env:TOKEN") as address,
        httpx.AsyncClient(trust_env=False, base_url=address) as client,
    ):
        assert (await client.get("/healthz")).json() == {"status": "serving"}
        for path in ("/openapi.json", "/v1/environment", "/v1/tasks"):
            refused = await client.get(path)
            assert (refused.status_code, refused.json()["error"]["kind"]) == (401, "not_allowed")
