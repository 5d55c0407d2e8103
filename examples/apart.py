"""Runs a command in a session of its own: Ctrl-C at the terminal does not reach it, and whoever started it ends it."""

import ctypes
import os
import signal
import sys
from contextlib import suppress

DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG: on Linux the command also ends when a script is killed before it can see to that."""

if __name__ == "__main__":
    os.setsid()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGTERM)
    os.execvp(sys.argv[1], sys.argv[1:])
