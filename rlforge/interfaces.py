"""Who acts in rlforge. Each role is a small protocol; playing it needs no inheritance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from rlforge.types import (
    Batch,
    Completion,
    Conversation,
    Document,
    EnvironmentSpec,
    GenerateRequest,
    Group,
    GroupRequest,
    LoadReport,
    Manifest,
    Message,
    Metrics,
    Observation,
    Reward,
    Rollout,
    RolloutKey,
    Sampling,
    Score,
    ScorerSpec,
    Task,
    WorldStart,
)


@runtime_checkable
class Source(Protocol):
    """A finite, indexable collection of tasks, conversations or documents; same index, same item, always."""

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Task | Conversation | Document: ...


@runtime_checkable
class Renderer(Protocol):
    """Turns messages into token ids and back, with the model's own chat template."""

    eos_id: int
    stop_ids: tuple[int, ...]
    """Tokens that end a reply besides `eos_id`: the template's own end of turn, where that is another token."""

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids that end where the assistant is to speak."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of sampled tokens, special tokens left out."""
        ...


@runtime_checkable
class Generator(Protocol):
    """Samples from a model: token ids in, token ids, logprobs and policy versions out."""

    async def start(self) -> None:
        """Load the model; returns when the first request can be answered."""
        ...

    async def generate(self, request: GenerateRequest) -> Completion:
        """One completion. Many calls run at once. Raises GenerationError when the prompt does not fit."""
        ...

    async def load(self, manifest: Manifest) -> LoadReport:
        """Swap in published weights; requests in flight go on with them. Raises WeightSyncError on a mismatch."""
        ...

    async def metrics(self) -> Metrics:
        """Counters since the start, `generator/…`."""
        ...

    async def close(self) -> None:
        """Stop and leave nothing behind. May be called twice."""
        ...


@runtime_checkable
class Orchestrator(Protocol):
    """Decides what happens in a rollout."""

    async def start(self) -> None:
        """Make ready, once for all rollouts of a worker."""
        ...

    async def close(self) -> None:
        """Leave nothing behind. May be called twice."""
        ...

    async def run(self, key: RolloutKey, task: Task, sampling: Sampling, seed: int) -> Rollout:
        """Play one rollout to its end. Faults of the world end it with a stop reason; they are not raised."""
        ...


@runtime_checkable
class World(Protocol):
    """One live instance of an environment, belonging to one rollout."""

    async def step(self, reply: Message) -> Observation:
        """What the world shows after the model's reply. Raises EndpointError; then the world is gone.

        So it is after DeadlineExceeded, raised soon after the `step_timeout_s` it was started with.
        """
        ...

    async def close(self) -> None:
        """Free the world, whatever it is doing. May be called twice."""
        ...


@runtime_checkable
class Environment(Protocol):
    """A kind of world, here or behind an address."""

    async def describe(self) -> EnvironmentSpec:
        """What kind it is. Raises EndpointError."""
        ...

    def tasks(self, split: str, offset: int = 0, limit: int = 0) -> AsyncIterator[Task]:
        """The tasks of a split in their order; `limit` 0 means all."""
        ...

    async def open(self, start: WorldStart) -> tuple[World, Observation]:
        """A new world and what it first shows. Many live at once. Raises EndpointError or DeadlineExceeded."""
        ...

    async def close(self) -> None:
        """Free every world and the connection. May be called twice."""
        ...


@runtime_checkable
class CountsWorlds(Protocol):
    """An environment that knows of worlds which were given up and are not closed yet."""

    @property
    def occupied(self) -> int:
        """Worlds that live, and those whose code still runs although nobody waits for it."""
        ...


@runtime_checkable
class RewardEndpoint(Protocol):
    """Judges rollouts, here or behind an address; what a remote scorer asks."""

    async def describe(self) -> ScorerSpec:
        """What it is. Raises EndpointError."""
        ...

    async def score(self, items: Mapping[str, Rollout], *, request_id: str, timeout_s: float) -> Mapping[str, Score]:
        """Scores by item id: those that came and made sense. One request, no retry.

        Raises EndpointError or DeadlineExceeded when the request as a whole failed.
        """
        ...

    async def close(self) -> None:
        """Close the connection. May be called twice."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Forms an opinion of rollouts."""

    name: str

    async def start(self) -> None:
        """Make ready; raises ConfigError or ExtensionError when the scorer can never work."""
        ...

    async def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order. Faults become unscored scores; they are not raised."""
        ...

    async def close(self) -> None:
        """Stop and leave nothing behind. May be called twice."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A scorer that counts what it does."""

    def metrics(self) -> Metrics:
        """Totals since the start, `scorer_<name>/…`."""
        ...


@runtime_checkable
class UsesGenerators(Protocol):
    """A scorer that may judge with a generator of the run, when its configuration names one as `generator`."""

    def use(self, generators: Mapping[str, Generator], renderer: Callable[[], Renderer]) -> None:
        """Take what it needs; called before `start`. Raises ConfigError when no generator has that name."""
        ...


@runtime_checkable
class RewardRouter(Protocol):
    """Combines scores into rewards."""

    async def start(self) -> None: ...

    async def reward(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        """One reward per rollout, in order."""
        ...

    async def metrics(self) -> Metrics:
        """What its scorers counted since the start, `scorer_<name>/…`."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class RolloutWorker(Protocol):
    """Plays and scores many rollouts at once on one event loop."""

    async def start(self) -> None:
        """Make ready to play."""
        ...

    async def close(self) -> None:
        """Leave nothing behind. May be called twice."""
        ...

    def collect(self, requests: Sequence[GroupRequest]) -> AsyncIterator[Group]:
        """Yield each group as soon as its last member is scored, in the order they finish."""
        ...


@runtime_checkable
class Algorithm(Protocol):
    """Says what a rollout's reward means for its tokens, and which objective learns from it."""

    @property
    def needs(self) -> frozenset[str]:
        """What the learner must annotate first: any of `reference_logprobs`, `values`."""
        ...

    def credit(self, batch: Batch) -> Batch:
        """Fill `advantages` (and `objectives`) over the whole batch; metrics of credit go into `Batch.metrics`."""
        ...


@runtime_checkable
class Learner(Protocol):
    """Turns batches into new policy versions; knows no algorithm by name."""

    async def start(self) -> None:
        """Load or build the model."""
        ...

    async def annotate(self, batch: Batch, needs: frozenset[str]) -> Batch:
        """Add what the algorithm needs (`reference_logprobs`, `values`) to every trajectory."""
        ...

    async def step(self, batch: Batch) -> Metrics:
        """One optimizer step on the whole batch; returns `learner/…` and `policy/…` metrics."""
        ...

    async def logprobs(self, batch: Batch) -> list[list[float]]:
        """Per-token logprobs [T] of each trajectory under the current weights; 0 at the first token."""
        ...

    async def publish(self, version: int) -> Manifest:
        """Offer the current weights on the weight channel as policy `version`."""
        ...

    async def save(self, directory: str, *, model_only: bool = False) -> None:
        """Write a Hugging Face folder, and trainer state unless `model_only`. Atomicity is the caller's (`runlog`)."""
        ...

    async def restore(self, directory: str) -> None:
        """Take model, optimizer, schedule and RNG from a saved folder, bit for bit."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class WeightChannel(Protocol):
    """The sending end of a way to move weights from learner to generators."""

    def publish(self, weights: dict[str, object], version: int) -> Manifest:
        """Put named tensors where generators can fetch them; the previous version may be dropped."""
        ...

    def close(self) -> None:
        """Free what the last publish holds."""
        ...
