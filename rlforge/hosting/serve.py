"""`rlforge.serve`: a world or a reward of yours behind an address."""

from __future__ import annotations

import asyncio
import inspect
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

from rlforge.deadlines import deadline
from rlforge.environments.adapt import adapt
from rlforge.errors import ConfigError, SetupError
from rlforge.hosting.access import Access, ServerTls
from rlforge.hosting.judging import Judging
from rlforge.hosting.log import EventLog, log_to_stderr
from rlforge.hosting.scorers import as_reward_endpoint, reward_in_processes
from rlforge.hosting.worlds import WorldLimits, Worlds
from rlforge.interfaces import Environment, RewardEndpoint
from rlforge.registry import import_object
from rlforge.transports.secrets import Secret, read_secret

Kind: TypeAlias = Literal["environment", "reward"]
Secrets: TypeAlias = tuple[Secret | None, ...]
DESCRIBE_TIMEOUT_S = 60.0
"""Seconds that what is served may take to say what it is; its first import may be slow."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_SERVERS = {
    "grpc": "rlforge.hosting.grpc_server:GrpcServer",
    "grpcs": "rlforge.hosting.grpc_server:GrpcServer",
    "http": "rlforge.hosting.http_server:HttpServer",
    "https": "rlforge.hosting.http_server:HttpServer",
}


class Server(Protocol):
    """What listens on an address."""

    async def start(self, host: str, port: int) -> int:
        """Listen; the port it is. Raises OSError when the address cannot be had."""
        ...

    async def drain(self, within_s: float) -> None:
        """Take nothing new, let what is under way end within `within_s` seconds, then stop."""
        ...


@asynccontextmanager
async def serving(
    thing: Any,
    address: str,
    *,
    kind: Kind | None = None,
    worlds: int = 0,
    processes: int = 0,
    batch: bool = False,
    concurrency: int = 0,
    name: str = "",
    tls: ServerTls | Mapping[str, Any] | None = None,
    token: str | None = None,
    signing_key: str | None = None,
    step_timeout_s: float = 60.0,
    lifetime_s: float = 0.0,
    idle_s: float = 600.0,
    drain_s: float = 0.0,
    max_message_bytes: int = 16 * 2**20,
) -> AsyncGenerator[str]:
    """Serve while the block runs, and yield the address with the port it really has. What it takes: see `serve`."""
    scheme, host, port = _place(address)
    certificates = _tls(tls, scheme, address)
    if signing_key is not None and scheme in ("grpc", "grpcs"):
        raise ConfigError(f"cannot serve at {address} with a signing_key: it signs HTTP requests; use a token and tls")
    secrets = read_secret(token, "server's token"), read_secret(signing_key, "server's signing key")
    access = Access(*secrets)
    limits = WorldLimits(worlds=worlds, step_timeout_s=step_timeout_s, lifetime_s=lifetime_s, idle_s=idle_s)
    if (kind or kind_of(thing)) == "environment":
        served = await _environment(adapt(thing, worlds=worlds, processes=processes), name, limits, secrets)
    else:
        if processes:
            endpoint = reward_in_processes(thing, processes, name=name, batch=batch)
        else:
            endpoint = as_reward_endpoint(thing, name=name, batch=batch)
        served = await _reward(endpoint, name, concurrency, secrets)
    try:
        server: Server = import_object(_SERVERS[scheme], "server")(served, access, certificates, max_message_bytes)
        try:
            bound = await server.start(host, port)
        except OSError as error:
            raise SetupError(f"cannot serve at {address}: {error}; is the port taken, the host one of ours?") from error
        real = f"{_secured(scheme, certificates)}://{f'[{host}]' if ':' in host else host}:{bound}"
        log = EventLog(served.spec.name, secrets)
        log.server("serving", address=real, access="open" if access.open else "guarded")
        if host not in LOOPBACK and certificates is None:
            log.trouble(f"{real} is not encrypted: whoever is on the way reads what passes, tokens too; serve with tls")
        try:
            yield real
        finally:
            log.server("draining")
            await server.drain(drain_s)
            log.server("stopped")
    finally:
        await served.close()


def serve(thing: Any, address: str, *, drain_s: float = 30.0, **settings: Any) -> None:
    """Serve a world or a reward until SIGTERM or Ctrl-C, then drain: end what is under way, take nothing new.

    `thing` is an environment (a class with `reset` and `step`, a `gymnasium.Env` or what makes one, a class whose
    methods with docstrings are tools) or a reward (a function of a rollout). `address` is `grpc://host:port` or
    `http://host:port`; port 0 picks one. Settings:

    `worlds`: worlds that may live at once (0: any number); beyond them clients are told when to ask again.
    `processes`: worker processes for the worlds or the function (0: none). `batch`: the reward function takes a list of
    rollouts. `concurrency`: scoring requests at once (0: any number). `token`, over HTTP also `signing_key`: where the
    secret is, `env:NAME` or `file:PATH`. `tls`: `{"certificate": …, "key": …, "client_ca": …}`, PEM files; `client_ca`
    asks for certificates of clients. `step_timeout_s`, `lifetime_s`, `idle_s`, `drain_s`: seconds a step may take, a
    world may live (0: any), a world over HTTP may wait for its next step, and what is under way may take after SIGTERM.
    `max_message_bytes`: size of a message at most. `name`: what it is called in logs. `kind`: `environment` or
    `reward`, where the thing itself does not tell.

    Raises ConfigError for what cannot be served. Example: `rlforge.serve(Arm, "grpc://0.0.0.0:50051", worlds=64)`.
    """
    log_to_stderr()
    with suppress(KeyboardInterrupt):
        asyncio.run(_until_signal(thing, address, drain_s, settings))


def kind_of(thing: Any) -> Kind:
    """Whether something is an environment or a reward: a function that takes a rollout judges, one that takes nothing
    makes worlds."""
    if inspect.isclass(thing) or isinstance(thing, Environment) or hasattr(thing, "reset"):
        return "environment"
    if isinstance(thing, RewardEndpoint):
        return "reward"
    if not callable(thing):
        return "environment"
    needed = [
        each
        for each in inspect.signature(thing).parameters.values()
        if each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    return "reward" if needed else "environment"


async def _until_signal(thing: Any, address: str, drain_s: float, settings: dict[str, Any]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(thing, address, drain_s=drain_s, **settings):
        await stop.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)  # a second one ends it at once


async def _environment(environment: Environment, name: str, limits: WorldLimits, secrets: Secrets) -> Worlds:
    async with _asked_what_it_is(environment, "the environment"):
        spec = await environment.describe()
    spec = replace(spec, name=name or spec.name, max_worlds=limits.worlds or spec.max_worlds)
    return Worlds(environment, spec, limits, EventLog(spec.name, secrets))


async def _reward(endpoint: RewardEndpoint, name: str, concurrency: int, secrets: Secrets) -> Judging:
    async with _asked_what_it_is(endpoint, "the reward"):
        spec = await endpoint.describe()
    spec = replace(spec, name=name or spec.name, max_concurrency=concurrency or spec.max_concurrency)
    return Judging(endpoint, spec, EventLog(spec.name, secrets))


@asynccontextmanager
async def _asked_what_it_is(thing: Environment | RewardEndpoint, what: str) -> AsyncGenerator[None]:
    """A wait for its answer; without one it is closed, since it may have processes."""
    try:
        async with deadline(DESCRIBE_TIMEOUT_S, f"{what} to say what it is"):
            yield
    except BaseException:
        await thing.close()
        raise


def _place(address: str) -> tuple[str, str, int]:
    parts = urlsplit(address)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in _SERVERS or not parts.hostname or port is None:
        raise ConfigError(f"cannot serve at '{address}'; write grpc://host:port or http://host:port (port 0 picks one)")
    return parts.scheme, parts.hostname, port


def _tls(given: ServerTls | Mapping[str, Any] | None, scheme: str, address: str) -> ServerTls | None:
    if given is None:
        if scheme in ("grpcs", "https"):
            raise ConfigError(f"serving at {address} needs tls: a certificate and its key")
        return None
    return given if isinstance(given, ServerTls) else ServerTls.parse(given, "tls")


def _secured(scheme: str, certificates: ServerTls | None) -> str:
    return {"grpc": "grpcs", "http": "https"}.get(scheme, scheme) if certificates else scheme
