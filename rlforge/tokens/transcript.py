"""What was said in a rollout, in tokens: each prompt holds the earlier replies exactly as they were sampled.

What the template writes behind a reply is encoded once and put behind the sampled tokens. Where the template leaves out
part of an earlier reply (old reasoning), the tokens of the rest stay as they were sampled; the new prompt then does not
continue the last one, and a new trajectory begins (docs/decisions/0026).
"""

from __future__ import annotations

import secrets
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Literal, TypeAlias

from rlforge.errors import ConfigError
from rlforge.tokens.renderer import ChatRenderer
from rlforge.types import Completion, FinishReason, Message, ToolSpec

History: TypeAlias = Literal["template", "append"]

_MARK = f"rlforge-{secrets.token_hex(8)}-"
"""Stands for a reply in a rendering that shows what the template writes around it; never encoded."""

_BYTES_OF_A_CHARACTER = 4
"""Tokens that begin within a character decode to up to so many marks of their own."""


@dataclass(frozen=True, slots=True)
class _Reply:
    """What the policy said, and what it had been given right before."""

    ids: tuple[int, ...]
    text: str
    ended: bool
    """Whether the policy ended its turn itself, with a special token."""
    asked: str
    """The template's text since the reply before, up to where this one begins."""


@dataclass(frozen=True, slots=True)
class _Told:
    """How a reply stands in a later prompt."""

    before: str
    ids: tuple[int, ...]
    ended: bool


class Transcript:
    """The conversation of one rollout; `prompt_ids` is what the generator is to be asked with next.

    Example: `transcript.reply(completion)`, then `transcript.hear([Message.of("user", "go on")])`.
    """

    def __init__(
        self,
        renderer: ChatRenderer,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        history: History = "template",
    ) -> None:
        """`history` says what becomes of replies that the template changes later on: `template` follows it, `append`
        keeps every sampled token for good.

        Raises DataError for messages that the template refuses or the tokenizer cannot encode.
        """
        self._renderer = renderer
        self._tools = tuple(tools)
        self._history: History = history
        self._heard = [tuple(messages)]
        self._replies: list[_Reply] = []
        self._told: list[_Told] = []
        """How all replies but the last stand in `prompt_ids`."""
        self._text = self._asked = renderer.text(messages, self._tools)
        self.prompt_ids: tuple[int, ...] = renderer.encode_given(self._text)

    def reply(self, completion: Completion) -> str:
        """Note the reply to `prompt_ids`; returns its text, special tokens left out."""
        ids = completion.token_ids
        ended = completion.finish_reason == FinishReason.STOP and bool(ids) and self._renderer.is_special(ids[-1])
        text = self._renderer.decode(ids)
        self._replies.append(_Reply(ids=ids, text=text, ended=ended, asked=self._asked))
        return text

    def hear(self, messages: Sequence[Message]) -> None:
        """Go on with what answers the last reply. Raises DataError as the first messages do."""
        self._heard.append(tuple(messages))
        last = self._replies[-1]
        if self._history == "append":
            self._go_on(self._around()[-1])
            return
        alone = self._renderer.writes_each_alone
        asked = self._renderer.behind(last.text, messages) if alone else self._behind(last.text)
        if asked is None:
            self._rewrite()
        else:
            self._go_on(asked)

    def _behind(self, reply: str) -> str | None:
        """What the template writes behind the last reply; None where it changes the reply or what was before it."""
        lived = self._text + reply
        self._text = self._rendered(lambda number: self._replies[number].text)
        return self._text[len(lived) :] if self._text.startswith(lived) else None

    def _go_on(self, asked: str) -> None:
        """The prompt, the reply as it was sampled, and what the template writes behind it."""
        last = self._replies[-1]
        self._told.append(_Told(before=last.asked, ids=last.ids, ended=last.ended))
        self._asked = asked
        self.prompt_ids = self.prompt_ids + last.ids + self._given(last.ended, asked)

    def _rewrite(self) -> None:
        """Let each reply stand as the template has it now; go on as before when that is how it was lived."""
        around = self._around()
        shown = self._between(self._rendered(lambda number: f"{self._replies[number].text}{_mark(number)}"), around)
        told = [self._as_told(*each) for each in zip(self._replies, around, shown, strict=False)]
        last = self._replies[-1]
        if told == [*self._told, _Told(before=last.asked, ids=last.ids, ended=last.ended)]:
            self._go_on(around[-1])
            return
        self._told, self._asked = told, around[-1]
        ids = self._renderer.encode_given(told[0].before)
        for reply, behind in zip(told, [*(reply.before for reply in told[1:]), around[-1]], strict=True):
            ids += reply.ids + self._given(reply.ended, behind)
        self.prompt_ids = ids

    def _as_told(self, reply: _Reply, before: str, shown: str) -> _Told:
        """White space that a template trims is no reason to leave sampled tokens out."""
        wanted = _dense(shown)
        if reply.asked.startswith(before) and _dense(reply.asked[len(before) :] + reply.text) == wanted:
            return _Told(before=reply.asked, ids=reply.ids, ended=reply.ended)
        rest = self._rest(reply.ids, shown)
        if rest is None:  # given anew, and as what it is given it is never trained on
            return _Told(before=before, ids=self._renderer.encode(shown), ended=False)
        return _Told(before=before, ids=rest, ended=reply.ended and bool(rest))

    def _rest(self, ids: tuple[int, ...], shown: str) -> tuple[int, ...] | None:
        """The last sampled tokens, those that say what is shown; None when no token boundary is there.

        All that say exactly that, else as few as say it but for white space.
        """

        @lru_cache(None)
        def says(start: int) -> str:
            return self._renderer.decode(ids[start:])

        wanted = _dense(shown)
        short = bisect_right(range(len(ids) + 1), False, key=lambda start: len(_dense(says(start))) < len(wanted))
        starts = list(
            takewhile(
                lambda start: len(_dense(says(start))) <= len(wanted) + _BYTES_OF_A_CHARACTER,
                range(min(short + _BYTES_OF_A_CHARACTER, len(ids)), -1, -1),
            )
        )
        exact = [start for start in starts if says(start) == shown]
        near = [start for start in starts if _dense(says(start)) == wanted]
        return ids[min(exact) :] if exact else ids[max(near) :] if near else None

    def _given(self, ended: bool, asked: str) -> tuple[int, ...]:
        """Tokens of what the template writes behind a reply, without the end of turn that the policy sampled."""
        ids = self._renderer.encode_given(asked)
        return ids[1:] if ended and ids and self._renderer.is_special(ids[0]) else ids

    def _around(self) -> list[str]:
        """What the template writes before each reply and behind the last."""
        text = self._rendered(_mark)
        parts: list[str] = []
        for number in range(len(self._replies)):
            part, found, text = text.partition(_mark(number))
            if not found:
                raise ConfigError(_unlike_a_conversation("leaves a reply out"))
            parts.append(part)
        return [*parts, text]

    def _between(self, text: str, around: Sequence[str]) -> list[str]:
        """What the template makes of each reply in a text where marks stand behind them."""
        shown: list[str] = []
        for number, before in enumerate(around[:-1]):
            part, found, text = text.partition(_mark(number))
            if not found or not part.startswith(before):
                raise ConfigError(_unlike_a_conversation("writes other things around a reply, depending on its words"))
            shown.append(part[len(before) :])
        return shown

    def _rendered(self, reply: Callable[[int], str]) -> str:
        messages = list(self._heard[0])
        for number, heard in enumerate(self._heard[1:]):
            messages += [Message.of("assistant", reply(number)), *heard]
        return self._renderer.text(messages, self._tools)


def _mark(number: int) -> str:
    return f"{_MARK}{number}-"


def _dense(text: str) -> str:
    return "".join(text.split())


def _unlike_a_conversation(what: str) -> str:
    return (
        f"the model's chat template {what}, so a conversation cannot go on in the tokens that were sampled; give the "
        "model folder a chat_template.jinja that shows every reply, or set history: append"
    )
