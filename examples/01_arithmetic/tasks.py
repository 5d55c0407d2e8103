"""Every addition of two two-digit numbers: 8,100 tasks, the same list at every run."""

from collections.abc import Iterator
from typing import Any


def addition() -> Iterator[dict[str, Any]]:
    for left in range(10, 100):
        for right in range(10, 100):
            yield {"id": f"{left}+{right}", "prompt": f"{left}+{right}=", "answer": str(left + right)}
