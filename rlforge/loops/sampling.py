"""How a stage samples: the recipe's form of `types.Sampling`."""

from pydantic import Field

from rlforge.config import BaseConfig
from rlforge.types import Sampling


class SamplingConfig(BaseConfig):
    """How the policy samples."""

    temperature: float = Field(default=1.0, ge=0)
    """1 samples the model's own distribution; the learner divides its logits by the same number. 0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Below 1 the tail is cut off, which is wrong under importance weights."""
    top_k: int = Field(default=0, ge=0)
    """Keep the k likeliest tokens; 0 keeps all."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest completion, in tokens."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion besides the end-of-sequence token and the chat template's end of turn."""

    def sampling(self) -> Sampling:
        """The value that travels with each request."""
        return Sampling(**self.model_dump())
