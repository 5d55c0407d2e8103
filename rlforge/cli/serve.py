"""`rlforge serve`: an environment or a reward behind an address, until Ctrl-C or SIGTERM."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rlforge.errors import ConfigError

app = typer.Typer(help="Serve an environment or a reward over gRPC or HTTP.", no_args_is_help=True)

Target = Annotated[str, typer.Argument(metavar="TARGET", help="FILE.py:Thing or package.module:Thing.")]
At = Annotated[str, typer.Option("--at", help="grpc://host:port or http://host:port; port 0 picks one.")]
Processes = Annotated[int, typer.Option("--processes", min=0, help="Worker processes; 0: none.")]
Token = Annotated[str | None, typer.Option("--token", help="Where the bearer token is: env:NAME or file:PATH.")]
SigningKey = Annotated[
    str | None, typer.Option("--signing-key", help="Where the key of signed HTTP requests is: env:NAME or file:PATH.")
]
Certificate = Annotated[str | None, typer.Option("--tls-cert", help="PEM file: the server's certificate.")]
Key = Annotated[str | None, typer.Option("--tls-key", help="PEM file: its key.")]
ClientCa = Annotated[
    str | None, typer.Option("--tls-client-ca", help="PEM file: who must have signed the clients' certificates.")
]
Drain = Annotated[float, typer.Option("--drain", min=0, help="Seconds that what is under way may take after SIGTERM.")]
Name = Annotated[str, typer.Option("--name", help="What it is called in logs.")]


@app.callback()
def serve() -> None:
    """Serve an environment or a reward until Ctrl-C or SIGTERM; events are JSON lines on standard error."""


@app.command("environment")
def environment(
    target: Target,
    at: At = "grpc://127.0.0.1:50051",
    worlds: Annotated[int, typer.Option("--worlds", min=0, help="Worlds that may live at once; 0: any number.")] = 0,
    processes: Processes = 0,
    step_timeout: Annotated[float, typer.Option("--step-timeout", min=0.001, help="Seconds a step may take.")] = 60.0,
    token: Token = None,
    signing_key: SigningKey = None,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    tls_client_ca: ClientCa = None,
    drain: Drain = 30.0,
    name: Name = "",
) -> None:
    """Serve a class with reset and step, a gymnasium.Env or what makes one, or a class of tools."""
    _serve(
        target,
        at,
        kind="environment",
        worlds=worlds,
        processes=processes,
        step_timeout_s=step_timeout,
        token=token,
        signing_key=signing_key,
        tls=_tls(tls_cert, tls_key, tls_client_ca),
        drain_s=drain,
        name=name,
    )


@app.command("reward")
def reward(
    target: Target,
    at: At = "grpc://127.0.0.1:50052",
    processes: Processes = 0,
    batch: Annotated[bool, typer.Option("--batch", help="The function takes a list of rollouts.")] = False,
    concurrency: Annotated[int, typer.Option("--concurrency", min=0, help="Requests at once; 0: any number.")] = 0,
    token: Token = None,
    signing_key: SigningKey = None,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    tls_client_ca: ClientCa = None,
    drain: Drain = 30.0,
    name: Name = "",
) -> None:
    """Serve a function of a rollout, plain or async."""
    _serve(
        target,
        at,
        kind="reward",
        processes=processes,
        batch=batch,
        concurrency=concurrency,
        token=token,
        signing_key=signing_key,
        tls=_tls(tls_cert, tls_key, tls_client_ca),
        drain_s=drain,
        name=name,
    )


def _serve(target: str, at: str, **settings: Any) -> None:
    # nothing of a server is needed for `--help`
    from rlforge.hosting.serve import serve as serve_it
    from rlforge.importing import import_function

    serve_it(import_function(target, str(settings["kind"])), at, **settings)


def _tls(certificate: str | None, key: str | None, client_ca: str | None) -> dict[str, str] | None:
    if certificate is None and key is None:
        if client_ca is not None:
            raise ConfigError("--tls-client-ca needs --tls-cert and --tls-key")
        return None
    if certificate is None or key is None:
        raise ConfigError("--tls-cert and --tls-key go together; one of them is missing")
    return {"certificate": certificate, "key": key} | ({"client_ca": client_ca} if client_ca else {})
