"""A reward endpoint of a few lines that answers numbers over HTTP is checked as far as its answers go."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rlforge.checks.properties import Outcome
from rlforge.checks.report import Report
from rlforge.checks.reward.check import RewardChecks, check_reward
from rlforge.transports.config import EndpointConfig

MOST = 2 * 2**20


class Numbers(BaseHTTPRequestHandler):
    """Answers a list of numbers to `POST /v1/score`; knows nothing else."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        if length > MOST:
            self.close_connection = True
            return self.say(413, "too long")
        try:
            items = json.loads(self.rfile.read(length))["items"]
        except ValueError:
            return self.say(400, "no JSON")
        return self.say(200, [self.value(item) for item in items])

    def do_GET(self) -> None:
        self.say(404, "no such path")

    def value(self, item: Any) -> float | None:
        turns = item["rollout"].get("turns")
        if not turns:
            return None
        said = "".join(part.get("text", "") for part in turns[-1]["message"].get("content", []))
        return float(said == item["rollout"]["task"]["answer"])

    def say(self, status: int, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


class NotANumber(Numbers):
    def value(self, item: Any) -> float | None:
        return float("nan")


@contextmanager
def listening(handler: type[Numbers]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def checked(handler: type[Numbers], **settings: Any) -> Report:
    with listening(handler) as address:
        quick = {"patience_s": 10.0, "seconds": 0.2, "batch": 4, "requests": 2} | settings
        return await check_reward(EndpointConfig(address=address), RewardChecks.parse(quick))


async def test_numbers_in_order_pass_and_what_is_missing_is_told() -> None:
    report = await checked(Numbers)
    assert report.named(Outcome.FAILED) == []
    assert report.named(Outcome.WARNED) == ["tells its health"]
    assert "answers every item once" in report.named(Outcome.PASSED)


async def test_an_answer_that_is_no_number_fails() -> None:
    report = await checked(NotANumber, only="finite")
    assert report.named(Outcome.FAILED) == ["values are finite"]
