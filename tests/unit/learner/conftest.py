from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rlforge.learner.config import ModelInitConfig
from rlforge.learner.model import initialize_model
from rlforge.tokens.tokenizer import TokenizerConfig, build_tokenizer
from rlforge.types import Trajectory

torch.set_num_threads(1)

SHAPE = ModelInitConfig(
    hidden_size=32, layers=2, heads=4, kv_heads=2, head_dim=8, intermediate_size=64, context=512, init_std=0.2
)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(TokenizerConfig(alphabet="0123456789+=abcdefgh"), [], folder, 512)
    return str(folder)


@pytest.fixture(scope="session")
def make_model(tokenizer_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    made: dict[tuple[object, ...], str] = {}

    def make(*, tied: bool = True, architecture: str = "qwen3", seed: int = 0) -> str:
        key = (tied, architecture, seed)
        if key not in made:
            folder = tmp_path_factory.mktemp("model")
            config = SHAPE.model_copy(update={"tie_embeddings": tied, "architecture": architecture})
            initialize_model(config, tokenizer_folder=tokenizer_folder, folder=str(folder), seed=seed)
            made[key] = str(folder)
        return made[key]

    return make


@pytest.fixture
def model(make_model: Callable[..., str]) -> str:
    return make_model()


def trajectory(
    prompt: int, completion: int, seed: int, *, group: str = "", prompt_seed: int | None = None, **facts: object
) -> Trajectory:
    """A random trajectory; members of a group that share `prompt_seed` share their prompt."""
    shared = np.random.default_rng(seed if prompt_seed is None else prompt_seed)
    own = np.random.default_rng(seed + 10_000)
    token_ids = np.concatenate([shared.integers(3, 20, prompt), own.integers(3, 20, completion)]).astype(np.int64)
    sampled = np.arange(prompt + completion) >= max(prompt, 1)
    values: dict[str, object] = {
        "behaviour_logprobs": np.where(sampled, own.normal(-2.5, 0.3, prompt + completion), 0).astype(np.float32),
        "advantages": np.where(sampled, own.normal(), 0).astype(np.float32),
        "prompt_length": prompt if group else 0,
        "group": group,
        "rollout": f"task/{seed}@0#0",
        **facts,
    }
    return Trajectory(token_ids=token_ids, sampled=sampled, **values)  # type: ignore[arg-type]


def groups(count: int = 4, size: int = 5, *, prompt: int = 9, longest: int = 8) -> list[Trajectory]:
    """Groups of members with a shared prompt and completions of 1 to `longest` tokens."""
    rng = np.random.default_rng(3)
    return [
        trajectory(prompt + g, int(rng.integers(1, longest + 1)), 100 * g + m, group=f"g{g}", prompt_seed=g)
        for g in range(count)
        for m in range(size)
    ]
