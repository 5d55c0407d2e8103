"""Fixtures for every room: tiny models made on the spot."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Some tests start a program as another user, for which Python forks: gRPC would wake its threads in that child, and
# abort it when they find their files closed.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# A busy machine must not fail a property, and two runs of the suite try the same examples.
settings.register_profile("rlforge", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("rlforge")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first: the files that compare with the long run that nobody disturbed."""
    items.sort(key=lambda item: "truth" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """`tiny_model(tied=False, seed=0, context=1024)` is a folder with a random Qwen3 of 30 thousand parameters."""
    from tests.models import save_tiny_model

    made: dict[tuple[bool, int, int], str] = {}

    def make(tied: bool = True, seed: int = 0, context: int = 1024) -> str:
        key = (tied, seed, context)
        if key not in made:
            folder: Path = tmp_path_factory.mktemp(f"tiny-{'tied' if tied else 'untied'}-{seed}")
            made[key] = save_tiny_model(folder, tied=tied, seed=seed, context=context)
        return made[key]

    return make


@pytest.fixture
def free_port() -> Iterator[Callable[[], int]]:
    """`free_port()` is a port that is nobody else's while the test runs, for a server that must be told one."""
    held: list[socket.socket] = []

    def take() -> int:
        held.append(
            socket.socket()
        )  # bound and never listening: servers may, and no port that is asked for is this one
        held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held[-1].bind(("127.0.0.1", 0))
        return held[-1].getsockname()[1]

    yield take
    for each in held:
        each.close()
