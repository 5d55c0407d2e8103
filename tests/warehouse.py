"""The Node.js warehouse with its packages, for the tests that start it."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "environments" / "warehouse_js"
_OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")


def node_with_packages() -> str:
    """The path of Node.js, once the warehouse has its packages; the test is skipped where either is not to be had.

    One process installs, others wait for it.
    """
    if shutil.which("npm") is None:
        pytest.skip("there is no Node.js on this machine")
    with (FOLDER / "package.json").open() as shared:
        fcntl.flock(shared, fcntl.LOCK_EX)
        _install()
    return shutil.which("node") or "node"


def _install() -> None:
    if not (FOLDER / "node_modules" / ".package-lock.json").is_file():
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=240)
        if done.returncode and any(word in done.stderr for word in _OFFLINE):
            pytest.skip(f"npm cannot reach its registry: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
