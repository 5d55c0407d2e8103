"""Random trajectories and groups for the learner's tests."""

import numpy as np

from rlforge.types import Trajectory


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
