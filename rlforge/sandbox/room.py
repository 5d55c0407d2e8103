"""Builds the room a program runs in: Linux namespaces, and a root of its own in which little can be seen.

Works as root and as an ordinary user. Root gives the program the identity of `nobody`, whose processes the kernel
counts; an ordinary user keeps their own, without any privilege. Every function raises OSError where the system does
not allow it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAM_USER = 1000
"""User and group id of the program as it sees itself."""
NOBODY = 65534
WORK = "/work"
DEVICES = ("null", "zero", "full", "random", "urandom")

_NEW_NS, _NEW_CGROUP, _NEW_UTS, _NEW_IPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
_NEW_USER, _NEW_PID, _NEW_NET = 0x10000000, 0x20000000, 0x40000000
_NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_DETACH = 2
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV, _ATTR_NOEXEC = 1, 2, 4, 8
_AT_FDCWD, _AT_RECURSIVE, _MOUNT_SETATTR = -100, 0x8000, 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
_BASE = "/tmp"
"""Where the new root is put together: seen by nobody else, because the mount namespace is our own by then."""
_libc = ctypes.CDLL(None, use_errno=True)


def enter() -> None:
    """Leave the machine's namespaces, mounts apart; the next child is the first process of the new ones."""
    user, group = os.geteuid(), os.getegid()
    mapper = _Mapper() if user == 0 else None
    flags = _NEW_USER | _NEW_PID | _NEW_NET | _NEW_IPC | _NEW_UTS | _NEW_CGROUP
    _check(_libc.unshare(flags), "unshare")
    if mapper:
        mapper.map()
    else:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{PROGRAM_USER} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{PROGRAM_USER} {group} 1")
    with suppress(OSError):  # one lock more, where /proc may be written: no namespaces inside these
        Path("/proc/sys/user/max_user_namespaces").write_text("0")


def furnish(readable: Iterable[str], files: dict[str, bytes], disk_bytes: int) -> None:
    """Give this process a root of its own: readable paths, devices, /proc, and a working folder, where it then is."""
    _check(_libc.unshare(_NEW_NS), "unshare mounts")
    _mount(None, "/", None, _REC | _PRIVATE)
    _mount("tmpfs", _BASE, "tmpfs", _NOSUID | _NODEV, "mode=755,size=1m")
    os.mkdir(f"{_BASE}/old")
    _pivot(_BASE, f"{_BASE}/old")
    os.chdir("/")
    os.mkdir("/new")
    _mount("tmpfs", "/new", "tmpfs", _NOSUID | _NODEV, "mode=755,size=1m")
    _folders(disk_bytes)
    for path in readable:
        _show(path)
    for name in DEVICES:
        _bind(f"/old/dev/{name}", f"/new/dev/{name}", _ATTR_NOSUID | _ATTR_NOEXEC)
    os.symlink("/proc/self/fd", "/new/dev/fd")
    os.mkdir("/new/proc")
    with suppress(OSError):  # refused inside containers that hide parts of theirs; then there is none
        _mount("proc", "/new/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    _attributes("/new", _ATTR_RDONLY, 0)
    _check(_libc.umount2(b"/old", _DETACH), "unmount the machine's root")
    os.chdir("/new")
    _pivot(".", ".")
    _check(_libc.umount2(b".", _DETACH), "unmount the scaffold")
    os.chdir(WORK)
    put(files, Path(WORK), _program_user())
    with suppress(OSError):
        socket.sethostname("sandbox")


def put(files: dict[str, bytes], folder: Path, user: int | None) -> None:
    """Write files below a folder, for a user to own."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if user is not None:
            for each in (path, *path.parents):
                if each == folder:
                    break
                os.chown(each, user, user)


class _Mapper:
    """A process that stays outside to say who is who inside: only it may name more than one user."""

    def __init__(self) -> None:
        read, self._go = os.pipe()
        target = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._go)
            os._exit(_write_maps(target) if os.read(read, 1) else 1)
        os.close(read)

    def map(self) -> None:
        os.write(self._go, b"+")
        os.close(self._go)
        _, status = os.waitpid(self._pid, 0)
        if status:
            raise PermissionError(f"root may not map user {NOBODY} into a user namespace")


def _write_maps(pid: int) -> int:
    both = f"0 0 1\n{PROGRAM_USER} {NOBODY} 1\n"
    try:
        Path(f"/proc/{pid}/uid_map").write_text(both)
        Path(f"/proc/{pid}/gid_map").write_text(both)
    except OSError:
        return 1
    return 0


def _program_user() -> int | None:
    return PROGRAM_USER if os.geteuid() == 0 else None


def _show(path: str) -> None:
    """Make a path of the machine readable at the same place; links on the way are followed, a last one is kept."""
    source, target = Path(f"/old{path}"), Path(f"/new{path}")
    if target.exists() or target.is_symlink() or not (source.exists() or source.is_symlink()):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
    else:
        _bind(str(source), str(target), _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV)


def _bind(source: str, target: str, attributes: int) -> None:
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    if os.path.isdir(source):
        os.mkdir(target)
    else:
        Path(target).touch()
    _mount(source, target, None, _BIND | _REC)
    _attributes(target, attributes, _AT_RECURSIVE)


def _folders(disk_bytes: int) -> None:
    """The working folder and /tmp, which share one bounded file system in memory."""
    os.mkdir("/scratch")
    _mount("tmpfs", "/scratch", "tmpfs", _NOSUID | _NODEV, f"mode=755,size={disk_bytes},nr_inodes=4096")
    for name in ("work", "tmp"):
        os.mkdir(f"/scratch/{name}", 0o700)
        user = _program_user()
        if user is not None:
            os.chown(f"/scratch/{name}", user, user)
        os.mkdir(f"/new/{name}")
        _mount(f"/scratch/{name}", f"/new/{name}", None, _BIND)


def _attributes(path: str, attributes: int, flags: int) -> None:
    given = struct.pack("QQQQ", attributes, 0, 0, 0)
    result = _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, path.encode(), flags, given, len(given))
    _check(result, f"set attributes of mount {path}")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    def encode(text: str | None) -> Any:
        return None if text is None else text.encode()

    result = _libc.mount(encode(source), encode(target), encode(kind), ctypes.c_ulong(flags), encode(data))
    _check(result, f"mount {source} on {target}")


def _pivot(new: str, old: str) -> None:
    machine = os.uname().machine
    if machine not in _PIVOT_ROOT:
        raise OSError(f"the number of pivot_root is not known for {machine}")
    _check(_libc.syscall(_PIVOT_ROOT[machine], new.encode(), old.encode()), "pivot_root")


def _check(result: int, doing: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{doing}: {os.strerror(number)}")
