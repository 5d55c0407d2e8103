"""Benches: each measures a part against the raw libraries it stands on, in the same run."""

BENCHES: dict[str, str] = {
    "control": "rlforge.bench.control:run",
    "environment": "rlforge.bench.environment:run",
    "generate": "rlforge.bench.generate:run",
    "learn": "rlforge.bench.learn:run",
    "resume": "rlforge.bench.resume:run",
    "score": "rlforge.bench.score:run",
    "step": "rlforge.bench.step:run",
    "sync": "rlforge.bench.sync:run",
}
"""Name -> function without arguments that returns a `BenchResult`; naming one imports nothing."""
