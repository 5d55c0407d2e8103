"""What a recipe can say about a learner and about a model made from scratch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from rlforge.config import BaseConfig


class ScheduleConfig(BaseConfig):
    """Learning rate over the steps of a stage: warm-up, constant, anneal."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly to `lr`."""
    anneal: Literal["none", "linear", "cosine"] = "none"
    """Shape of the descent to `min_lr` at the end of the stage."""
    anneal_fraction: float = Field(default=0.2, gt=0.0, le=1.0)
    """Share of the stage's steps that the descent takes; unused when `anneal` is none."""
    anneal_steps: int | None = Field(default=None, ge=1)
    """Length of the descent in steps; overrides `anneal_fraction`."""
    min_lr: float = Field(default=0.0, ge=0.0)
    """Learning rate of the last annealed step."""


class LearnerConfig(BaseConfig):
    """Optimizer, schedule and memory of one learner."""

    lr: float = Field(default=1e-5, gt=0.0)
    """Learning rate after warm-up. 1e-6 to 1e-5 suits full fine-tuning of a pretrained model by RL, 1e-3 a model of a
    million parameters from scratch."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the first and second moment."""
    eps: float = Field(default=1e-8, gt=0.0)
    """AdamW's term against division by zero."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled weight decay on matrices; vectors (norms, biases) are never decayed."""
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """Gradients are scaled down to this global norm."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate over the steps of the stage."""
    micro_batch_tokens: int = Field(default=8192, ge=1)
    """Encoded tokens per forward pass; a longer trajectory gets a pass of its own. Changes memory and speed, not the
    gradient."""
    logprob_chunk_tokens: int = Field(default=1024, ge=1)
    """Tokens whose logits exist at the same time."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: a third more compute for far less memory."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the forward pass; weights and optimizer are float32 always. `auto`: bfloat16 on a GPU, float32 on
    a CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    threads: int | None = Field(default=None, ge=1)
    """Compute threads on a CPU. None leaves what torch finds (`OMP_NUM_THREADS`, else every core)."""

    @model_validator(mode="after")
    def _min_lr_is_below_lr(self) -> Self:
        if self.schedule.min_lr > self.lr:
            raise ValueError(f"schedule.min_lr={self.schedule.min_lr:g} is above lr={self.lr:g}; the anneal would rise")
        return self


class ModelInitConfig(BaseConfig):
    """Shape of a model made from scratch; the defaults are a model of 0.9 million parameters that two cores train."""

    architecture: Literal["qwen3", "llama"] = "qwen3"
    """Family of the model: its code in transformers and vLLM."""
    hidden_size: int = Field(default=128, ge=8)
    """Width of the residual stream."""
    layers: int = Field(default=4, ge=1)
    """Number of transformer blocks."""
    heads: int = Field(default=4, ge=1)
    """Attention heads."""
    kv_heads: int = Field(default=2, ge=1)
    """Key/value heads; divides `heads`."""
    head_dim: int = Field(default=32, ge=2)
    """Width of one head; even, because positions rotate pairs. vLLM on a CPU wants a multiple of 32."""
    intermediate_size: int = Field(default=384, ge=8)
    """Width inside the feed-forward blocks."""
    context: int = Field(default=512, ge=8)
    """Longest sequence in tokens."""
    tie_embeddings: bool = True
    """One matrix for input embeddings and output head."""
    init_std: float = Field(default=0.02, gt=0.0)
    """Standard deviation of the initial weights."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads={self.kv_heads} does not divide heads={self.heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} is odd; rotary positions need an even number")
        return self
