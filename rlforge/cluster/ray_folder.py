"""Where a private Ray keeps its sockets and logs: one folder a driver, removed with it or by the next."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import psutil

_NAME = re.compile(r"rlforge-ray-(\d+)-\w+")


def make_ray_folder() -> Path:
    """A folder that carries our process id. Short, because sockets lie in it and their paths may have 107 bytes."""
    sweep_ray_folders()
    return Path(tempfile.mkdtemp(prefix=f"rlforge-ray-{os.getpid()}-"))


def sweep_ray_folders() -> list[Path]:
    """Remove the folders of drivers that were killed; returns what went. Those of other users are not ours to judge."""
    swept: list[Path] = []
    for path in sorted(Path(tempfile.gettempdir()).glob("rlforge-ray-*")):
        named = _NAME.fullmatch(path.name)
        if named and not psutil.pid_exists(int(named.group(1))) and _ours(path):
            shutil.rmtree(path, ignore_errors=True)
            swept.append(path)
    return swept


def _ours(path: Path) -> bool:
    try:
        return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()
    except FileNotFoundError:
        return False
