"""A line of JSON that somebody wrote for us."""

from __future__ import annotations

import json
from typing import Any

from rlforge.errors import DataError


def parse_line(line: bytes) -> Any:
    """What the line says. Raises DataError that names the column or the byte; which line it is, the caller knows."""
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON: {error.msg} at column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"not valid UTF-8 at byte {error.start} of the line") from error
