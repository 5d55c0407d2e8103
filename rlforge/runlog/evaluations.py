"""evaluations/<stage>-<step>-<name>.parquet: what became of each task, so that two models can be compared pairwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlforge.runlog import schema
from rlforge.runlog.atomic import atomic_file
from rlforge.runlog.rollouts import SCHEMA_KEY, read_table


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskResult:
    """One attempt at one held-out task."""

    task_id: str
    source: str = ""
    member: int = -1
    """-1 for the greedy attempt, else which of the sampled ones (pass@k)."""
    reward: float | None = None
    """None when it stayed unscored."""
    success: bool | None = None
    """Whether the reward reached what the evaluation calls a success; None when unscored."""
    reply: str = ""
    """Last reply of the policy."""
    reason: str = ""
    """What the scorers said."""


_COLUMNS = pa.schema(
    {
        "task_id": pa.string(),
        "source": pa.string(),
        "member": pa.int32(),
        "reward": pa.float64(),
        "success": pa.bool_(),
        "reply": pa.string(),
        "reason": pa.string(),
    },
    metadata={SCHEMA_KEY: str(schema.EVALUATIONS)},
)


def write_results(path: Path, results: Sequence[TaskResult]) -> None:
    """Write the results of one evaluation."""
    table = pa.Table.from_pylist([asdict(result) for result in results], schema=_COLUMNS)
    with atomic_file(path, durable=False) as temporary:
        pq.write_table(table, temporary)


def read_results(path: Path) -> list[TaskResult]:
    """The results of one evaluation. Raises RunError when the file is not there, torn, or newer than us."""
    rows = read_table(path, schema.EVALUATIONS).to_pylist()
    return [TaskResult(**{name: value for name, value in row.items() if value is not None}) for row in rows]
