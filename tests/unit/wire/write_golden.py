"""Writes the golden files anew: `.venv/bin/python -m tests.unit.wire.write_golden`. Read what it changed.

Refuses to write a surface that would break peers of another age: such a change is a new protocol version, rlforge.v2.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from protos.reference import compiled
from rlforge.wire.json import to_json
from tests.unit.wire.examples import EXAMPLES
from tests.unit.wire.surface import broken, surface

GOLDEN = Path(__file__).parent / "golden"
SURFACE = GOLDEN / "rlforge_v1.txt"


def main() -> None:
    now = surface(compiled())
    lost = broken(SURFACE.read_text("utf-8").splitlines() if SURFACE.exists() else [], now)
    if lost:
        sys.exit("these are promised to peers and no longer so:\n" + "\n".join(lost))
    SURFACE.write_text("\n".join(now) + "\n", "utf-8")
    for name, message in EXAMPLES.items():
        (GOLDEN / f"{name}.json").write_text(json.dumps(to_json(message), indent=2, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
