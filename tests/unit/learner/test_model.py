from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rlforge.errors import LearnerError
from rlforge.learner.model import initialize_model, load_model
from tests.unit.learner.conftest import SHAPE


def test_a_model_from_scratch_is_the_same_bytes_under_a_seed(tokenizer_folder: str, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        initialize_model(SHAPE, tokenizer_folder=tokenizer_folder, folder=str(tmp_path / name), seed=seed)
    files = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= files
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    assert (tmp_path / "a/model.safetensors").read_bytes() != (tmp_path / "c/model.safetensors").read_bytes()
    assert len(AutoTokenizer.from_pretrained(tmp_path / "a")) == AutoConfig.from_pretrained(tmp_path / "a").vocab_size


def test_a_model_whose_logits_we_would_get_wrong_is_refused(make_model: Callable[..., str], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(make_model())
    model.config.final_logit_softcapping = 30.0
    model.save_pretrained(tmp_path)
    with pytest.raises(LearnerError, match="final_logit_softcapping=30"):
        load_model(str(tmp_path), torch.device("cpu"))
