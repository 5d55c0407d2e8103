from collections.abc import Callable

import pytest
import torch

from rlforge.learner.config import ModelInitConfig
from rlforge.learner.model import initialize_model
from rlforge.tokens.tokenizer import TokenizerConfig, build_tokenizer

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
