"""Files and folders that are there whole or not at all: temporary name, fsync, rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = ".tmp-"
_DISCARDED = ".old-"


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Generator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the body ends well, remove it when it raises.

    `durable` waits for the disk, so that the file survives a power cut and not only the death of the process.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        if durable:
            _sync(temporary)
        temporary.replace(path)
        if durable:
            _sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Generator[Path]:
    """Give an empty temporary folder; sync all that the body wrote and rename it to `path`, which is replaced."""
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for inner in (*temporary.rglob("*"), temporary):
            _sync(inner)
        discard(path)
        temporary.rename(path)
        _sync(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace the whole file at once."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def link(path: Path, target: str) -> None:
    """Point the symbolic link `path` at its sibling `target`, at once."""
    temporary = _temporary(path)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)
    _sync(path.parent)


def discard(path: Path) -> None:
    """Remove a folder; a kill halfway leaves nothing that looks like a whole one."""
    if path.exists():
        doomed = path.with_name(f"{_DISCARDED}{path.name}-{os.getpid()}")
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def sweep(root: Path) -> list[Path]:
    """Remove what killed writers left below `root`; returns what was removed. Only for the run's one writer."""
    left = [path for path in root.rglob(".*") if path.name.startswith((_TEMPORARY, _DISCARDED))]
    for path in left:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return left


def _temporary(path: Path) -> Path:
    return path.with_name(f"{_TEMPORARY}{path.name}-{os.getpid()}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
