"""The process that runs a customer's reward function, under its guardian; imports only the light core.

It reads frames of rollouts (`frames.py`) from a socket and writes one line per event, a word and a JSON object:
`ready` or `broken {reason}` once, then `scores` as they come to be known. When it ends, the guardian writes
`ended {status, words}`. Which rollouts the function has in hand stands in shared memory (`progress.py`).
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import resource
import signal
import socket
import sys
import traceback
from types import TracebackType
from typing import Any, cast

from rlforge.errors import ConfigError, ExtensionError, boundary
from rlforge.rewards.outcomes import unscored
from rlforge.rewards.python.customer import Customer, Instructions, Send, event
from rlforge.rewards.python.frames import HEADER, decode
from rlforge.rewards.python.printing import Prints
from rlforge.rewards.python.progress import Progress

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """`python -m rlforge.rewards.python.customer_process FD FD INSTRUCTIONS`: socket, shared memory, what to run."""
    owner = socket.socket(fileno=int(sys.argv[1]))
    instructions = Instructions(**json.loads(sys.argv[3]))
    _limit(instructions.memory_bytes)
    sys.stdout, sys.stderr = cast(Any, Prints(1)), cast(Any, Prints(2))
    sys.excepthook = _last_words
    try:
        customer = Customer(instructions, Progress(int(sys.argv[2])), owner.sendall)
    except ConfigError as error:
        owner.sendall(event("broken", {"reason": str(error)}))
        return
    owner.sendall(event("ready", {"asynchronous": customer.asynchronous}))
    frames = owner.makefile("rb", buffering=1 << 16)
    while header := frames.read(HEADER.size):
        count, size = HEADER.unpack(header)
        _judge(customer, frames.read(size), count, owner.sendall)


def _last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends the process is for the guardian to hear, not part of what the function printed."""
    traceback.print_exception(kind, error, trace, file=sys.__stderr__)


def _limit(memory_bytes: int) -> None:
    if sys.platform == "linux":  # should the guardian itself be killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's to answer
    faulthandler.enable(2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def _judge(customer: Customer, body: bytes, count: int, send: Send) -> None:
    try:
        with boundary("reading rollouts in the function's process"):
            rollouts = decode(body)
    except ExtensionError as error:
        fault = unscored("malformed", str(error))
        send(event("scores", {"scores": [(index, fault) for index in range(count)]}))
        return
    customer.judge(rollouts)


if __name__ == "__main__":
    main()
    os._exit(0)  # threads that the function left running do not hold the process
