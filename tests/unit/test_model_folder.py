"""What is read from a model folder's config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlforge.errors import ConfigError
from rlforge.model_folder import is_model_folder, model_config, positions


def _folder(path: Path, **config: Any) -> Path:
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_of_a_model_for_images_and_text_what_it_says_of_text_counts(tmp_path: Path) -> None:
    folder = _folder(tmp_path, model_type="vision", dtype="bfloat16", text_config={"max_position_embeddings": 4096})
    assert positions(folder) == 4096
    assert model_config(folder)["dtype"] == "bfloat16"


def test_a_folder_without_a_config_is_no_model_and_says_nothing(tmp_path: Path) -> None:
    assert not is_model_folder(tmp_path)
    assert model_config(tmp_path) == {}
    assert positions(tmp_path) is None


def test_vllm_asks_for_the_context_of_a_model_that_does_not_say_it(tmp_path: Path) -> None:
    engine = pytest.importorskip("rlforge.generators.vllm_engine")
    assert engine._context(str(_folder(tmp_path, max_position_embeddings=64))) == 64
    with pytest.raises(ConfigError, match=r"does not say max_position_embeddings; set `context` of the generator"):
        engine._context(str(_folder(tmp_path, n_positions=64)))
