"""Code without an event loop asks endpoints too."""

import asyncio
import time

import pytest

from rlforge.errors import DeadlineExceeded, EndpointError
from rlforge.transports.blocking import blocking
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment

NOBODY = EndpointConfig(address="grpc://127.0.0.1:9", connect_timeout_s=0.2)


async def asked() -> None:
    environment = connect_environment(NOBODY)
    try:
        await environment.describe()
    finally:
        await environment.close()


def test_asking_again_and_again_leaves_no_complaint_about_a_loop_that_is_gone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    for _ in range(3):
        with pytest.raises((EndpointError, DeadlineExceeded)):
            blocking(asked())
    time.sleep(0.2)
    assert "Event loop is closed" not in capfd.readouterr().err


async def test_it_may_be_called_while_a_loop_runs() -> None:
    with pytest.raises((EndpointError, DeadlineExceeded)):
        blocking(asked())
    assert asyncio.get_running_loop().is_running()
