"""What flows through rlforge: tasks become rollouts, rollouts are scored, scored groups become trajectories.

Everything here is a frozen value. Token-level facts of a rollout are tuples (cheap to compare, print and send);
a trajectory, which the learner turns into tensors, holds numpy arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlforge.values import value

Metrics: TypeAlias = dict[str, float]
"""What a part measured: `noun/detail` -> value, unit at the end of the key (`_s`, `_per_s`, `_tokens`)."""

# --- messages and tasks ----------------------------------------------------------------------------------------


@value()
class TextPart:
    """A stretch of text in a message."""

    text: str


@value()
class ImagePart:
    """An image in a message."""

    data: bytes
    mime: str
    """Media type, `image/png` for instance."""


@value()
class JsonPart:
    """A structured value in a message: what `json.loads` can return."""

    value: Any


@value()
class TensorPart:
    """A numeric array in a message, little-endian and row-major."""

    dtype: str
    """numpy name of the element type, `float32` for instance."""
    shape: tuple[int, ...]
    data: bytes


ContentPart: TypeAlias = TextPart | ImagePart | JsonPart | TensorPart


@value()
class ToolCall:
    """The model's wish to call a tool."""

    id: str
    name: str
    arguments: str
    """The arguments as the model wrote them: JSON text, not parsed, because a policy may write broken JSON."""


@value()
class Message:
    """One message of a conversation; content is a list of parts from the start, so that images need no new type."""

    role: Literal["system", "user", "assistant", "tool"]
    content: tuple[ContentPart, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The text parts joined."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @classmethod
    def of(cls, role: Literal["system", "user", "assistant", "tool"], text: str) -> Message:
        """A message of one text part. Example: `Message.of("user", "12+34=")`."""
        return cls(role=role, content=(TextPart(text=text),))


@value()
class Task:
    """One problem to attempt."""

    id: str
    """Unique within its source and stable from run to run: the ledger and the seeds are keyed by it."""
    messages: tuple[Message, ...]
    """The conversation so far; the policy speaks next."""
    answer: Any = None
    """Reference answer, where one exists."""
    info: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    """Whatever else a scorer or an environment wants to know; JSON values only."""
    source: str = ""
    """Name of the data source that produced it."""


@value()
class Conversation:
    """Messages to imitate (supervised fine-tuning): loss falls on the assistant's messages only."""

    id: str
    messages: tuple[Message, ...]
    source: str = ""
    tools: tuple[ToolSpec, ...] = ()
    """Tools that the model is told of, as in a world that has them."""


@value()
class Document:
    """Plain text to continue (pre-training): loss falls on every token."""

    id: str
    text: str
    source: str = ""


# --- environments ------------------------------------------------------------------------------------------------


@value()
class ToolSpec:
    """A tool the model may call."""

    name: str
    description: str = ""
    """What it does, for the model to read."""
    parameters: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    """JSON Schema of the arguments, an object."""


@value()
class EnvironmentSpec:
    """What kind of world an environment has."""

    name: str
    version: str = ""
    splits: Mapping[str, int] = field(default_factory=lambda: dict[str, int]())
    """Number of tasks in each set it can list; empty where the tasks come from the recipe."""
    tools: tuple[ToolSpec, ...] = ()
    """Tools the model may call in every world; a world may name its own in its first observation."""
    max_worlds: int = 0
    """Worlds that may live at once; 0 says nothing about it."""
    deterministic: bool = False
    """Whether the same task, seed and actions give the same observations."""
    step_timeout_s: float = 0.0
    """Seconds one step may take; 0 leaves it to the client."""
    max_action_bytes: int = 0
    """Size of one action at most; 0 leaves it to the transport."""


@value()
class WorldStart:
    """What a world begins with."""

    task: Task
    seed: int
    """Below 2^32 and the same for all members of a group."""
    rollout_id: str = ""
    group: str = ""
    member: int = 0
    attempt: int = 0
    step_timeout_s: float = 0.0
    """Seconds each step may take; 0: as the environment says."""
    lifetime_s: float = 0.0
    """Seconds the world may live in all; 0: no limit."""


@value()
class Observation:
    """What the world shows after a step."""

    messages: tuple[Message, ...] = ()
    """What the model sees next, of role `user` or `tool`."""
    reward: float | None = None
    """Reward of this step; None where there is none."""
    components: Mapping[str, float] = field(default_factory=lambda: dict[str, float]())
    """Parts of the reward, or facts beside it."""
    terminated: bool = False
    """The task is over."""
    truncated: bool = False
    """Cut short by a limit that has nothing to do with the task."""
    info: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    """For scorers to read; JSON values only."""
    tools: tuple[ToolSpec, ...] = ()
    """Tools of this world instead of the environment's; in the first observation only."""

    @property
    def over(self) -> bool:
        """Whether there is no next step."""
        return self.terminated or self.truncated


@value()
class ScorerSpec:
    """What a reward endpoint is."""

    name: str
    version: str = ""
    max_batch: int = 0
    """Rollouts in one request at most; 0 says nothing about it."""
    max_concurrency: int = 0
    """Requests under way at once at most; 0 says nothing about it."""


# --- generation ------------------------------------------------------------------------------------------------


@value()
class Sampling:
    """How the policy samples. Logprobs reported for it are those of the distribution it describes."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps the whole vocabulary."""
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    """Strings that end a completion besides the end-of-sequence token and the chat template's end of turn."""


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    LENGTH = "length"


@value()
class GenerateRequest:
    """One call for a completion."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    """Seed of this request alone (see `seeds.py`): the same request gives the same tokens whoever runs beside it."""
    stop_ids: tuple[int, ...] = ()
    """Tokens that end the completion besides those the model folder names, as `Renderer.stop_ids` says them."""


@value()
class Completion:
    """What the policy sampled. The four per-token facts have the same length."""

    token_ids: tuple[int, ...]
    """Includes the token that ended it when the policy sampled one."""
    logprobs: tuple[float, ...]
    """Natural logarithm, under the sampling distribution (temperature applied)."""
    policy_versions: tuple[int, ...]
    """Version of the policy that sampled each token."""
    finish_reason: FinishReason

    @property
    def oldest_version(self) -> int | None:
        """Oldest policy version among the tokens; None when there are none."""
        return min(self.policy_versions, default=None)

    @property
    def newest_version(self) -> int | None:
        """Newest policy version among the tokens; None when there are none."""
        return max(self.policy_versions, default=None)


# --- rollouts and scores ---------------------------------------------------------------------------------------


class StopReason(StrEnum):
    """Why a rollout ended."""

    COMPLETED = "completed"
    MAX_TURNS = "max_turns"
    MAX_TOKENS = "max_tokens"
    CONTEXT_OVERFLOW = "context_overflow"
    PARSE_ERROR = "parse_error"
    ENVIRONMENT_ERROR = "environment_error"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    OTHER = "other"
    """A word that a newer rlforge sent and this one does not know; no rollout of ours ends with it."""


TRUNCATED = frozenset({StopReason.MAX_TURNS, StopReason.MAX_TOKENS, StopReason.CONTEXT_OVERFLOW})
"""Endings by a limit rather than by the policy or its world: the rollout might have gone on."""
FAULTS = frozenset({StopReason.ENVIRONMENT_ERROR, StopReason.TIMEOUT, StopReason.CANCELLED})
"""Endings that say nothing about the policy: tried again, and never scored."""


@value()
class Turn:
    """One model reply and what came back."""

    prompt_ids: tuple[int, ...]
    """Exactly the ids the generator received."""
    completion: Completion
    """Exactly what the generator returned: never re-tokenised."""
    message: Message
    """The reply as text: a view of the tokens, not the truth about them."""
    observation: tuple[Message, ...] = ()
    """What the world answered."""
    reward: float | None = None
    """Reward of this turn alone, where the world gives one."""
    components: Mapping[str, float] = field(default_factory=lambda: dict[str, float]())
    """Parts of that reward, or facts beside it."""
    info: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    """What the world said for scorers to read; JSON values only."""


@value()
class Score:
    """One scorer's opinion of one rollout: scored (a value) or unscored (an error kind), never a zero for a failure."""

    scorer: str
    value: float | None = None
    """None means unscored."""
    components: Mapping[str, float] = field(default_factory=lambda: dict[str, float]())
    """Parts the scorer reported beside its value."""
    reason: str = ""
    """Why: shown to a person, never parsed."""
    error_kind: str | None = None
    """`timeout`, `exception`, `memory`, `declined`, `malformed`, …; None when scored."""
    retryable: bool = False
    """Whether another attempt may score it; meaningless when scored."""
    attempts: int = 1
    seconds: float = 0.0
    output: str = ""
    """What the customer's code printed, clipped."""

    @property
    def scored(self) -> bool:
        """Whether there is a value."""
        return self.value is not None


@value()
class Reward:
    """The router's combination of scores. `value` None means unscored: such a rollout is never trained on."""

    value: float | None
    scores: tuple[Score, ...] = ()
    reason: str = ""
    """Which scorer left it unscored or which gate closed; empty otherwise."""


@value()
class RolloutKey:
    """Which attempt at which task this is."""

    task_id: str
    epoch: int = 0
    """How often the stream has passed over its sources."""
    group: str = ""
    """Rollouts with the same group share a baseline."""
    member: int = 0
    """Place in the group."""
    attempt: int = 0
    """0, or how often this member was tried again after a fault."""

    @property
    def rollout_id(self) -> str:
        """Readable id, unique in a stage. Example: `addition/17@0#3`, with `.1` after a second attempt."""
        again = f".{self.attempt}" if self.attempt else ""
        return f"{self.task_id}@{self.epoch}#{self.member}{again}"


@value()
class Rollout:
    """One attempt at one task: a tree, since an agent may start sub-agents."""

    key: RolloutKey
    task: Task
    seed: int
    turns: tuple[Turn, ...]
    stop_reason: StopReason
    opening: tuple[Message, ...] = ()
    """What its world first showed, behind the task's messages and before the first turn; empty without a world."""
    sampling: Sampling = field(default_factory=Sampling)
    role: str = "agent"
    """Name of the part this rollout plays; children have roles of their own."""
    parent: str | None = None
    """`rollout_id` of the parent, None at the root."""
    children: tuple[Rollout, ...] = ()
    reward: Reward | None = None
    """None until the router has spoken."""
    timings: Mapping[str, float] = field(default_factory=lambda: dict[str, float]())
    """Seconds by name: `generate_s`, `score_s`, `wait_s`."""
    error: str = ""
    """What went wrong, when `stop_reason` says that something did."""

    @property
    def id(self) -> str:
        """The key's readable id."""
        return self.key.rollout_id

    @property
    def text(self) -> str:
        """The last reply as text; empty when there was none."""
        return self.turns[-1].message.text if self.turns else ""

    @property
    def scored(self) -> bool:
        """Whether the reward has a value."""
        return self.reward is not None and self.reward.value is not None

    @property
    def truncated(self) -> bool:
        """Whether a limit cut it short."""
        return self.stop_reason in TRUNCATED

    def walk(self) -> Iterator[Rollout]:
        """This rollout and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@value()
class GroupRequest:
    """What the driver asks of a rollout worker: `size` attempts at one task."""

    task: Task
    group: str
    size: int
    sampling: Sampling
    seed: int
    """The run's seed; each request's own is derived from it (see `seeds.py`)."""
    epoch: int = 0
    policy_version: int = 0
    """Version the driver believes to be served; a generator serving another stops the run in synchronous mode."""
    deadline_s: float = 600.0
    """Seconds the whole group may take; a member that is not done by then ends with `timeout`, unscored."""


@value()
class Group:
    """Finished, scored rollouts of the same task."""

    request: GroupRequest
    rollouts: tuple[Rollout, ...]

    @property
    def rewards(self) -> tuple[float | None, ...]:
        """Reward per member, None where unscored."""
        return tuple(r.reward.value if r.reward else None for r in self.rollouts)


# --- learning --------------------------------------------------------------------------------------------------


@value(eq=False)
class Trajectory:
    """One token sequence to learn from. Per-token arrays have length T, over prompt and completion alike."""

    token_ids: NDArray[np.int64]  # [T]
    sampled: NDArray[np.bool_]  # [T]
    """True where the policy (or the author of a conversation) wrote the token: loss falls there and nowhere else.
    The first token is never True: nothing predicts it."""
    behaviour_logprobs: NDArray[np.float32] | None = None  # [T], 0 where not sampled
    """What the generator reported; None for data that no policy of ours sampled."""
    policy_versions: NDArray[np.int64] | None = None  # [T], -1 where not sampled
    advantages: NDArray[np.float32] | None = None  # [T], 0 where not sampled
    """Filled by `algorithm.credit`."""
    reference_logprobs: NDArray[np.float32] | None = None  # [T]
    """Filled by `learner.annotate` when the algorithm needs `reference_logprobs`."""
    values: NDArray[np.float32] | None = None  # [T]
    """Filled by `learner.annotate` when the algorithm needs `values`."""
    temperature: float = 1.0
    """Logits are divided by it, so that the learner scores the distribution that was sampled."""
    objective: str = "policy"
    """Key into `Batch.objectives`."""
    weight: float = 1.0
    """Weights of one rollout's trajectories add up to 1, however often it forked."""
    rollout: str = ""
    """Rollout id."""
    group: str = ""
    reward: float | None = None
    """Reward of the rollout; None for data without one."""
    truncated: bool = False
    """Whether a limit cut the rollout short."""
    turns: NDArray[np.int32] | None = None  # [T], -1 where not sampled
    """Which turn of the rollout each token was sampled in; None for data that no rollout gave."""
    turn_rewards: tuple[float | None, ...] = ()
    """What the world gave for each turn of the rollout, None where it gave nothing."""
    prompt_length: int = 0
    """Leading tokens shared by every member of the group; the learner encodes them once."""

    @property
    def length(self) -> int:
        """Number of tokens."""
        return int(self.token_ids.shape[0])


@value()
class KLPenalty:
    """A KL term against the reference model, added to the loss."""

    kind: Literal["k1", "k2", "k3"] = "k3"
    coefficient: float = 0.0


@value()
class Objective:
    """How the trajectories that name it become one term of the loss, with a global denominator of its own."""

    loss: str
    """Name of a function in `algorithms/objectives.py`: `ppo_clip`, `cross_entropy`, …"""
    options: Mapping[str, float] = field(default_factory=lambda: dict[str, float]())
    """Keyword arguments of that function: `clip_low`, `clip_high`, …"""
    reduction: str = "token_mean"
    """Name of a reduction in `algorithms/objectives.py`."""
    reduction_options: Mapping[str, float] = field(default_factory=lambda: dict[str, float]())
    coefficient: float = 1.0
    """Factor of this objective in the sum."""
    kl: KLPenalty | None = None


@value(eq=False)
class Batch:
    """What one optimizer step learns from; may mix objectives."""

    trajectories: tuple[Trajectory, ...]
    objectives: Mapping[str, Objective]
    metrics: Metrics = field(default_factory=lambda: dict[str, float]())
    """What credit assignment measured: `groups/zero_signal` and the like."""


@value()
class Manifest:
    """What a publish put where: enough for a generator to fetch it and to prove that it did."""

    version: int
    channel: str
    """`shared_memory`, `disk`, `nccl`."""
    location: str
    """Where the channel's receiving end finds it."""
    checksum: str
    kind: Literal["full", "adapter", "delta"] = "full"
    bytes: int = 0


@value()
class LoadReport:
    """A generator's answer to a manifest."""

    version: int
    checksum: str
    """Computed by the receiver over what it read; the driver compares."""
    pause_s: float
    """How long running requests stood still."""
    load_s: float
