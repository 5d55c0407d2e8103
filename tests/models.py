"""A tiny random Qwen3 in a folder, with a character tokenizer and a ChatML template."""

from __future__ import annotations

from pathlib import Path

CHARACTERS = " 0123456789abcdefghijklmnopqrstuvwxyz+-*/=?!.,:;\n"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unknown|>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_tiny_model(folder: Path, *, tied: bool, seed: int, context: int) -> str:
    """Write the model and its tokenizer; returns the folder. Weights are large enough for lively distributions."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        dtype="float32",
    )
    torch.manual_seed(seed)
    Qwen3ForCausalLM(config).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


async def save_checkpoint(model: str, folder: Path) -> str:
    """What a learner saves after one step: model, tokenizer, optimizer, counters; returns the folder."""
    import numpy as np

    from rlforge.learner.config import LearnerConfig
    from rlforge.learner.learner import TorchLearner
    from rlforge.types import Batch, Objective, Trajectory

    learner = TorchLearner(LearnerConfig(device="cpu"), model=model, seed=0, channel=None, total_steps=1)
    await learner.start()
    ids = np.arange(4, 20)
    imitated = Trajectory(token_ids=ids, sampled=ids > 4, objective="imitate")
    await learner.step(Batch(trajectories=(imitated,), objectives={"imitate": Objective(loss="cross_entropy")}))
    await learner.save(str(folder))
    await learner.close()
    return str(folder)


def _tokenizer():
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *CHARACTERS))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|unknown|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = CHATML
    return tokenizer
