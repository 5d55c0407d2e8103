"""The command line that has `bwrap` make the room."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def command(order: dict[str, Any], files: Mapping[str, int], inside: str) -> list[str]:
    """All but what to run. `files` are open files by their path in the working folder; `inside` is a script to show."""
    size = str(order["limits"]["disk_bytes"])
    flags = ["--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    flags += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--uid", "1000", "--gid", "1000"]
    room = ["--size", size, "--tmpfs", "/tmp", "--size", size, "--tmpfs", "/work", "--dev", "/dev", "--proc", "/proc"]
    shown = [part for path in order["readable"] for part in _shown(path)]
    put = [part for name, descriptor in files.items() for part in ("--file", str(descriptor), f"/work/{name}")]
    last = [
        "--ro-bind",
        inside,
        "/.inside.py",
        "--remount-ro",
        "/dev",
        "--remount-ro",
        "/",
        "--hostname",
        "sandbox",
        "--chdir",
        "/work",
    ]
    return [order["bwrap"], *flags, *room, *shown, *put, *last]


def _shown(path: str) -> list[str]:
    if os.path.islink(path):
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind-try", path, path]
