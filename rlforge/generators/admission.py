"""What every generator checks before it works: the prompt fits, and the weights are the ones that were published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from rlforge.errors import ContextOverflow, GenerationError, WeightSyncError
from rlforge.types import GenerateRequest, LoadReport, Manifest


def admit(request: GenerateRequest, context: int) -> None:
    """Refuse what cannot be answered. Raises ContextOverflow when there is no room for a prompt and one token."""
    length = len(request.prompt_ids)
    if length == 0:
        raise GenerationError("generating from a prompt of 0 tokens: the prompt needs at least one token")
    if length >= context:
        raise ContextOverflow(
            f"generating from a prompt of {length} tokens: the generator's context is {context} tokens, prompt and "
            "completion together; shorten the prompt or raise `context` (never above what the model was made for)"
        )
    if request.sampling.max_new_tokens < 1:
        raise GenerationError(f"max_new_tokens={request.sampling.max_new_tokens}: a completion has at least one token")


class Fence:
    """Which policy version a generator holds, and whether it may be used at all."""

    def __init__(self) -> None:
        self.version = 0
        self._refusal = ""
        self._one_load = asyncio.Lock()
        self._settled = asyncio.Event()
        self._settled.set()

    async def enter(self) -> None:
        """Wait for a load under way; raises WeightSyncError while the weights held cannot be vouched for."""
        await self._settled.wait()
        self.check()

    def check(self) -> None:
        """Raises WeightSyncError while the weights held cannot be vouched for."""
        if self._refusal:
            raise WeightSyncError(f"{self._refusal}; the generator answers nothing until a load succeeds")

    @asynccontextmanager
    async def loading(self, manifest: Manifest) -> AsyncGenerator[None]:
        """Holds new requests back while the body loads; shut afterwards unless the body came to `settle`.

        Raises WeightSyncError for an older version than the one held.
        """
        async with self._one_load:
            if manifest.version < self.version:
                raise WeightSyncError(
                    f"loading policy version {manifest.version}: this generator already holds version {self.version}; "
                    "versions only grow within a run, start a fresh generator to go back"
                )
            self._settled.clear()
            self._refusal = f"loading policy version {manifest.version} from {manifest.location} failed"
            try:
                yield
            finally:
                self._settled.set()

    def settle(self, manifest: Manifest, reports: Sequence[LoadReport]) -> None:
        """Open if every report is of what was published, else raise WeightSyncError and stay shut."""
        for report in reports:
            if (report.version, report.checksum) != (manifest.version, manifest.checksum):
                raise WeightSyncError(
                    f"loading policy version {manifest.version} from {manifest.location}: published with checksum "
                    f"{manifest.checksum[:16]}…, but version {report.version} with checksum {report.checksum[:16]}… "
                    "was read; publish again"
                )
        self.version, self._refusal = manifest.version, ""
