"""`rlforge check environment | reward`: an endpoint of yours held to its protocol, before any training."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from rlforge.cli.output import AsJson, messages, print_json, results
from rlforge.errors import ConfigError, RlforgeError

if TYPE_CHECKING:
    from rlforge.checks.report import Report
    from rlforge.transports.config import EndpointConfig

app = typer.Typer(help="Hold an endpoint of yours to its protocol.", no_args_is_help=True)

Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="grpc://host:port, grpcs://, http://, https://, or python:FILE.py:Name.")
]
Token = Annotated[str | None, typer.Option(help="Where the bearer token is: env:NAME or file:PATH.")]
SigningKey = Annotated[
    str | None, typer.Option(help="Where the key is that signs HTTP requests: env:NAME or file:PATH.")
]
Ca = Annotated[str | None, typer.Option("--tls-ca", help="PEM file: authorities that may have signed its certificate.")]
Certificate = Annotated[str | None, typer.Option("--tls-cert", help="PEM file: our certificate, for mTLS.")]
Key = Annotated[str | None, typer.Option("--tls-key", help="PEM file: the key of our certificate.")]
ServerName = Annotated[str | None, typer.Option("--tls-server-name", help="Name in its certificate, if not the host.")]
Actions = Annotated[str | None, typer.Option(help="Replies to step with: a file, one a line, or the text itself.")]
On = Annotated[str | None, typer.Option(help="Rollouts to judge: JSONL, as for `rlforge reward check`.")]
Only = Annotated[str | None, typer.Option(help="Examine the properties whose names contain this, and no others.")]
Seconds = Annotated[float, typer.Option(help="Seconds of load.")]
Patience = Annotated[float, typer.Option(help="Seconds to wait for any one answer.")]
_STYLES = {"passed": "green", "warned": "yellow", "skipped": "dim", "failed": "bold red"}


@app.command("environment")
def environment(
    target: Target,
    split: Annotated[str | None, typer.Option(help="Split whose tasks are played; the first if left out.")] = None,
    worlds: Annotated[int, typer.Option(help="Worlds played side by side.")] = 8,
    actions: Actions = None,
    only: Only = None,
    seconds: Seconds = 4.0,
    patience: Patience = 10.0,
    token: Token = None,
    tls_ca: Ca = None,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    tls_server_name: ServerName = None,
    signing_key: SigningKey = None,
    as_json: AsJson = False,
) -> None:
    """Seeds, leaks, freed worlds, deadlines, load and more. Exit code 1: something failed, 2: could not run."""
    tls = {"ca": tls_ca, "certificate": tls_cert, "key": tls_key, "server_name": tls_server_name}

    def begin(config: EndpointConfig) -> Coroutine[Any, Any, Report]:
        from rlforge.checks.environment.check import EnvironmentChecks, check_environment

        given = {
            "split": split,
            "worlds": worlds,
            "actions": actions,
            "only": only,
            "seconds": seconds,
            "patience_s": patience,
        }
        return check_environment(config, EnvironmentChecks.parse(given))

    _check(begin, {"address": target, "token": token, "signing_key": signing_key, "tls": tls}, as_json)


@app.command("reward")
def reward(
    target: Target,
    on: On = None,
    batch: Annotated[int, typer.Option(help="Items in one request.")] = 16,
    requests: Annotated[int, typer.Option(help="Requests at once under load.")] = 8,
    only: Only = None,
    seconds: Seconds = 4.0,
    patience: Patience = 10.0,
    token: Token = None,
    tls_ca: Ca = None,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    tls_server_name: ServerName = None,
    signing_key: SigningKey = None,
    as_json: AsJson = False,
) -> None:
    """Items judged once, alike, by themselves; load and more. Exit code 1: something failed, 2: could not run."""
    tls = {"ca": tls_ca, "certificate": tls_cert, "key": tls_key, "server_name": tls_server_name}

    def begin(config: EndpointConfig) -> Coroutine[Any, Any, Report]:
        from rlforge.checks.reward.check import RewardChecks, check_reward

        given = {
            "on": on,
            "batch": batch,
            "requests": requests,
            "only": only,
            "seconds": seconds,
            "patience_s": patience,
        }
        return check_reward(config, RewardChecks.parse(given))

    _check(begin, {"address": target, "token": token, "signing_key": signing_key, "tls": tls}, as_json)


def _check(
    begin: Callable[[EndpointConfig], Coroutine[Any, Any, Report]], endpoint: dict[str, Any], as_json: bool
) -> None:
    # gRPC and HTTP are loaded when something is checked
    from rlforge.transports.config import EndpointConfig

    try:
        report = asyncio.run(begin(EndpointConfig.parse(endpoint)))
    except ConfigError:
        raise
    except RlforgeError as error:
        messages().print(Text(f"rlforge: nothing was checked: {error}"), soft_wrap=True)
        raise typer.Exit(2) from error
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report)
    raise typer.Exit(report.exit_code)


def _show(report: Report) -> None:
    table = Table(title=f"{report.kind} '{report.name}' at {report.target}", title_justify="left", show_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("property", no_wrap=True)
    table.add_column("seen", overflow="fold")
    for finding in report.findings:
        seen = Text(finding.told)
        if finding.outcome in ("failed", "warned"):
            seen.append(f"\nwhy: {finding.why}\ndo: {finding.remedy}", style="dim")
        table.add_row(Text(finding.outcome, style=_STYLES[finding.outcome]), Text(finding.name), seen)
    console = results()
    console.print(table)
    for label, fact in report.facts:
        console.print(Text(f"{label}: {fact}"))
    for advice in report.advice:
        console.print(Text(f"advice: {advice}"))
    console.print(Text(report.summary(), style="bold"))
