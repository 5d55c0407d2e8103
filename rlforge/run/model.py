"""Step 0: whatever the recipe says of the model becomes a folder in Hugging Face layout, once per run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from rlforge.data.rows import texts_of
from rlforge.errors import ConfigError
from rlforge.interfaces import Source
from rlforge.model_folder import is_model_folder
from rlforge.recipe import ModelConfig
from rlforge.seeds import derive_seed
from rlforge.tokens.tokenizer import build_tokenizer

TEXTS_PER_SOURCE = 20_000
"""Items of each source that a tokenizer made on the spot is trained on."""


def prepare_model(config: ModelConfig, sources: Sequence[Source], folder: Path, seed: int) -> str:
    """The folder of the model that the first stage starts from; made when it is not there yet.

    Raises ConfigError when `model.path` is no model folder.
    """
    if config.init is None:
        return checked_model_folder(str(config.path))
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
        try:
            _initialize(config, sources, made, seed)
            os.rename(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return str(folder)


def checked_model_folder(path: str) -> str:
    """The folder behind `path`: the path itself, or what a hub has under that name, fetched once and kept.

    Raises ConfigError when there is no such folder or hub model, or when it is no model.
    """
    folder = Path(path) if Path(path).is_dir() else _fetched(path)
    if not is_model_folder(folder):
        raise ConfigError(f"model folder '{folder}' has no config.json; give a folder in Hugging Face layout")
    return str(folder)


def _fetched(name: str) -> Path:
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ConfigError(f"model '{name}': there is no such folder, and it is no hub name of the form owner/model")
    from huggingface_hub import snapshot_download  # comes with transformers, which the light core lacks
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"model '{name}' is no folder here and could not be fetched from the hub: {type(error).__name__}; "
            "give model.path a folder, or see whether this machine may reach the hub"
        ) from error


def _initialize(config: ModelConfig, sources: Sequence[Source], folder: Path, seed: int) -> None:
    # transformers and torch are loaded only by runs that make a model
    from rlforge.learner.model import initialize_model

    assert config.init is not None
    with tempfile.TemporaryDirectory() as tokenizer_folder:
        build_tokenizer(config.tokenizer, _texts(sources), tokenizer_folder, config.init.context)
        initialize_model(
            config.init, tokenizer_folder=tokenizer_folder, folder=str(folder), seed=derive_seed(seed, "model")
        )


def _texts(sources: Sequence[Source]) -> Iterator[str]:
    for source in sources:
        for index in islice(range(len(source)), TEXTS_PER_SOURCE):
            yield from texts_of(source[index])
