"""A small recipe to change."""

from pathlib import Path

import pytest

RECIPE = """\
name: add
model:
  init: {hidden_size: 64, layers: 2}
  tokenizer: {type: character}
generators:
  policy: vllm
rewards:
  scorers:
    - type: regex
      pattern: ^{answer}$
stages:
  - type: sft
    name: warm
    data:
      - {type: jsonl, path: conversations.jsonl}
    steps: 4
    learner: {lr: 1e-3}
  - type: rl
    name: grpo
    data:
      - {type: jsonl, path: tasks.jsonl}
    steps: 4
    groups_per_step: 4
    group_size: 4
    sampling: {max_new_tokens: 8}
    algorithm: grpo
"""


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    (tmp_path / "conversations.jsonl").write_text('{"prompt": "1+1=", "completion": "2"}\n')
    (tmp_path / "tasks.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path
