"""What a model folder in Hugging Face layout says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_CONFIG = "config.json"


def is_model_folder(path: str | Path) -> bool:
    """Whether there is a config.json."""
    return (Path(path) / _CONFIG).is_file()


def model_config(path: str | Path) -> dict[str, Any]:
    """Its config.json, empty when there is none. Of a model for images and text, what it says of text counts."""
    if not is_model_folder(path):
        return {}
    config: dict[str, Any] = json.loads((Path(path) / _CONFIG).read_text(encoding="utf-8"))
    return config | config.get("text_config", {})


def positions(path: str | Path) -> int | None:
    """Tokens of the longest sequence that the model has positions for; None where it does not say."""
    return model_config(path).get("max_position_embeddings")
