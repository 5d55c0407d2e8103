"""Replicas of one model behind one address: least-loaded routing, and the fence that keeps their weights the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rlforge.errors import WeightSyncError
from rlforge.interfaces import Generator
from rlforge.types import Completion, GenerateRequest, LoadReport, Manifest, Metrics


class GeneratorPool:
    """Plays the Generator role for its replicas.

    Every caller of a pool sees the load it causes itself, which is what it can act on at once; with several rollout
    workers the loads add up evenly because each spreads its own.
    """

    def __init__(self, replicas: Sequence[Generator]) -> None:
        self.replicas = list(replicas)
        self._running = [0] * len(self.replicas)

    async def start(self) -> None:
        """Start all replicas at once."""
        await asyncio.gather(*(replica.start() for replica in self.replicas))

    async def generate(self, request: GenerateRequest) -> Completion:
        """One completion from the replica with the fewest requests of ours; ties go to the first."""
        index = self._running.index(min(self._running))
        self._running[index] += 1
        try:
            return await self.replicas[index].generate(request)
        finally:
            self._running[index] -= 1

    async def load(self, manifest: Manifest) -> LoadReport:
        """Load everywhere; returns the slowest report. Raises WeightSyncError when a replica holds something else."""
        reports = await asyncio.gather(*(replica.load(manifest) for replica in self.replicas))
        for index, report in enumerate(reports):
            if (report.version, report.checksum) != (manifest.version, manifest.checksum):
                raise WeightSyncError(
                    f"loading policy version {manifest.version} (checksum {manifest.checksum}): generator {index} "
                    f"reports version {report.version} with checksum {report.checksum}; stopping the run, since "
                    "rollouts of other weights would be learnt from as if they were the policy's"
                )
        return max(reports, key=lambda report: report.load_s)

    async def metrics(self) -> Metrics:
        """Counters summed over replicas."""
        total: Metrics = {}
        for metrics in await asyncio.gather(*(replica.metrics() for replica in self.replicas)):
            for key, value in metrics.items():
                total[key] = total.get(key, 0.0) + value
        return total

    async def close(self) -> None:
        """Close all replicas."""
        await asyncio.gather(*(replica.close() for replica in self.replicas))
