"""rlforge: reinforcement learning for language models in the user's own environment.

Importing the package loads neither torch, ray, vllm, transformers nor grpc: names are resolved on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlforge.errors import RlforgeError as RlforgeError
    from rlforge.types import Message as Message
    from rlforge.types import Rollout as Rollout
    from rlforge.types import Score as Score
    from rlforge.types import Task as Task

__version__ = "0.1.0"

_EXPORTS = {
    "Message": "rlforge.types",
    "RlforgeError": "rlforge.errors",
    "Rollout": "rlforge.types",
    "Score": "rlforge.types",
    "Task": "rlforge.types",
    "serve": "rlforge.hosting.serve",
}
__all__ = ["Message", "RlforgeError", "Rollout", "Score", "Task", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'rlforge' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
