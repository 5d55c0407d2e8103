"""When an HTTP server that has no room wants to be asked again."""

from __future__ import annotations

from collections.abc import Mapping


def advice_s(headers: Mapping[str, str]) -> float:
    """Seconds to wait: `retry-after-ms` where a server is that exact, else `retry-after` in seconds; else 0.

    `headers` are found by names in lower case.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        said = headers.get(name, "")
        if said.replace(".", "", 1).isdigit():
            return float(said) / unit
    return 0.0
