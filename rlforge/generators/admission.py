"""What every generator checks before it works: the prompt fits, and the weights are the ones that were published."""

from __future__ import annotations

from collections.abc import Sequence

from rlforge.errors import GenerationError, WeightSyncError
from rlforge.types import GenerateRequest, LoadReport, Manifest


def admit(request: GenerateRequest, context: int) -> None:
    """Refuse what cannot be answered. Raises GenerationError when there is no room for a prompt and one token."""
    length = len(request.prompt_ids)
    if length == 0:
        raise GenerationError("generating from a prompt of 0 tokens: the prompt needs at least one token")
    if length >= context:
        raise GenerationError(
            f"generating from a prompt of {length} tokens: the generator's context is {context} tokens, prompt and "
            "completion together; shorten the prompt or raise `context` (never above what the model was made for)"
        )
    if request.sampling.max_new_tokens < 1:
        raise GenerationError(f"max_new_tokens={request.sampling.max_new_tokens}: a completion has at least one token")


class Fence:
    """Which policy version a generator holds, and whether it may be used at all."""

    def __init__(self) -> None:
        self.version = 0
        self.checksum = ""
        self._refusal = ""

    def check(self) -> None:
        """Raises WeightSyncError while the generator does not hold weights it can vouch for."""
        if self._refusal:
            raise WeightSyncError(f"{self._refusal}; the generator answers nothing until a load succeeds")

    def expect(self, manifest: Manifest) -> None:
        """Refuse to go back. Raises WeightSyncError for an older version than the one held."""
        if manifest.version < self.version:
            raise WeightSyncError(
                f"loading policy version {manifest.version}: this generator already holds version {self.version}; "
                "versions only grow within a run, start a fresh generator to go back"
            )

    def close(self, reason: str) -> None:
        """Shut until the next successful load."""
        self._refusal = reason

    def settle(self, manifest: Manifest, reports: Sequence[LoadReport]) -> None:
        """Compare what was read with what was published; opens on a match, else shuts and raises WeightSyncError."""
        for report in reports:
            if (report.version, report.checksum) != (manifest.version, manifest.checksum):
                self.close(
                    f"loading policy version {manifest.version} from {manifest.location}: published checksum "
                    f"{manifest.checksum[:16]}…, but version {report.version} with checksum {report.checksum[:16]}… "
                    "was read"
                )
                self.check()
        self.version, self.checksum, self._refusal = manifest.version, manifest.checksum, ""
