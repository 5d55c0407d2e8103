"""Seeds are derived, never drawn: the same place in the same run always gets the same one."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**31) from what identifies the draw. Example: `derive_seed(run, task_id, epoch, member, turn)`."""
    text = "\x1f".join([str(part) for part in parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
