"""Finished rollouts, conversations and documents become the token sequences a learner learns from.

What the policy sampled is never tokenised again. Turns whose prompt continues what came before share one trajectory;
where history was changed a new trajectory begins, so that every token is learned under the context it was sampled in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rlforge.errors import DataError
from rlforge.tokens.renderer import ChatRenderer
from rlforge.types import Completion, Conversation, Document, Rollout, Trajectory, Turn

SUPERVISED = "supervised"
"""Objective of data that no policy sampled."""


def trajectories(rollout: Rollout, max_tokens: int | None = None) -> tuple[Trajectory, ...]:
    """The trajectories of a rollout and all its children; their weights add up to 1, an equal share each.

    The root's reward is that of all, for the tree is one attempt, and what children said counts as said in its first
    turn. An unscored rollout gives none. `max_tokens` cuts
    each trajectory at its end; one that has no sampled token left is left out, before weights are shared.

    Example: two turns of which the second was asked with a rewritten history give two trajectories of weight 0.5.
    """
    if rollout.reward is None or rollout.reward.value is None:
        return ()
    drafts = [(part, draft) for part in rollout.walk() for draft in _drafts(part.turns, max_tokens)]
    return tuple(
        Trajectory(
            token_ids=np.array(draft.ids, dtype=np.int64),
            sampled=np.array(draft.sampled, dtype=np.bool_),
            behaviour_logprobs=np.array(draft.logprobs, dtype=np.float32),
            policy_versions=np.array(draft.versions, dtype=np.int64),
            temperature=part.sampling.temperature,
            weight=1.0 / len(drafts),
            rollout=rollout.id,
            group=rollout.key.group,
            reward=rollout.reward.value,
            truncated=rollout.truncated,
            turns=np.array(draft.turns if part is rollout else [min(turn, 0) for turn in draft.turns], dtype=np.int32),
            turn_rewards=tuple(turn.reward for turn in rollout.turns),
            prompt_length=draft.sampled.index(True),
        )
        for part, draft in drafts
    )


def conversation_trajectory(
    conversation: Conversation, renderer: ChatRenderer, max_tokens: int, *, truncate: bool = False
) -> Trajectory:
    """A conversation to imitate: loss on the assistant's words and the token that ends each of its turns.

    Raises DataError when it is longer than `max_tokens`, unless told to `truncate`, and when nothing would be left
    to learn.
    """
    ids, written = renderer.conversation(conversation.messages, conversation.tools)
    if len(ids) > max_tokens and not truncate:
        raise DataError(
            f"conversation '{conversation.id}' has {len(ids)} tokens, more than the {max_tokens} a trajectory may "
            f"have; raise the model's context, shorten it, or truncate"
        )
    ids, written = ids[:max_tokens], written[:max_tokens]
    if True not in written[1:]:
        raise DataError(
            f"conversation '{conversation.id}': its first {max_tokens} tokens hold no reply to learn from: shorten "
            "what comes before it, or raise max_tokens"
        )
    return _supervised(ids, written, of=conversation.id, prompt_length=written.index(True))


def document_trajectories(document: Document, renderer: ChatRenderer, max_tokens: int) -> tuple[Trajectory, ...]:
    """A document as consecutive pieces of at most `max_tokens` tokens, no overlap, closed by the end-of-sequence token.

    Loss falls on every token but the first of a piece, which nothing predicts; a last piece of one token is left out.
    Each piece weighs 1: in pre-training every token counts alike. Raises DataError for a document without text.
    """
    if not document.text:
        raise DataError(f"document '{document.id}' is empty")
    ids = (*renderer.encode(document.text), renderer.eos_id)
    pieces = [ids[start : start + max_tokens] for start in range(0, len(ids), max_tokens)]
    return tuple(
        _supervised(piece, (True,) * len(piece), of=document.id, prompt_length=0) for piece in pieces if len(piece) > 1
    )


@dataclass(slots=True)
class _Draft:
    """A trajectory in the making: five lists of the same length."""

    ids: list[int] = field(default_factory=lambda: list[int]())
    sampled: list[bool] = field(default_factory=lambda: list[bool]())
    logprobs: list[float] = field(default_factory=lambda: list[float]())
    versions: list[int] = field(default_factory=lambda: list[int]())
    turns: list[int] = field(default_factory=lambda: list[int]())

    def continues_in(self, turn: Turn) -> bool:
        return tuple(self.ids) == turn.prompt_ids[: len(self.ids)]

    def give(self, ids: Sequence[int]) -> None:
        """Tokens the policy was given."""
        self.ids += ids
        self.sampled += [False] * len(ids)
        self.logprobs += [0.0] * len(ids)
        self.versions += [-1] * len(ids)
        self.turns += [-1] * len(ids)

    def take(self, completion: Completion, turn: int) -> None:
        """Tokens the policy sampled; the first of a sequence is not learned, since nothing predicts it."""
        first = len(self.ids) == 0
        self.give(completion.token_ids)
        start = len(self.ids) - len(completion.token_ids)
        self.sampled[start:] = [True] * len(completion.token_ids)
        self.logprobs[start:] = completion.logprobs
        self.versions[start:] = completion.policy_versions
        self.turns[start:] = [turn] * len(completion.token_ids)
        if first and completion.token_ids:
            self.sampled[0], self.logprobs[0], self.versions[0], self.turns[0] = False, 0.0, -1, -1

    def cut(self, length: int | None) -> _Draft:
        return _Draft(
            self.ids[:length],
            self.sampled[:length],
            self.logprobs[:length],
            self.versions[:length],
            self.turns[:length],
        )


def _drafts(turns: Sequence[Turn], max_tokens: int | None) -> list[_Draft]:
    drafts: list[_Draft] = []
    for number, turn in enumerate(turns):
        # the latest first: a harness may keep two conversations going, and each turn continues its own
        draft = next((draft for draft in reversed(drafts) if draft.continues_in(turn)), None)
        if draft is None:
            draft = _Draft()
            drafts.append(draft)
        draft.give(turn.prompt_ids[len(draft.ids) :])
        draft.take(turn.completion, number)
    return [short for draft in drafts if True in (short := draft.cut(max_tokens)).sampled]


def _supervised(ids: Sequence[int], learned: Sequence[bool], *, of: str, prompt_length: int) -> Trajectory:
    sampled = np.array(learned, dtype=np.bool_)
    sampled[0] = False
    return Trajectory(
        token_ids=np.array(ids, dtype=np.int64),
        sampled=sampled,
        objective=SUPERVISED,
        rollout=of,
        prompt_length=prompt_length,
    )
