"""Messages to token ids with the model's own chat template, and sampled ids back to text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from rlforge.errors import ConfigError, DataError
from rlforge.tokens.chat_template import ChatTemplate
from rlforge.tokens.folder import TokenizerFolder
from rlforge.types import JsonPart, Message, ToolSpec

_PROBE = "rlforge"
_CACHED_PROMPTS = 4096


class ChatRenderer:
    """Implements `Renderer`. The members of a group ask for the same prompt, so prompts are remembered.

    Example: `ChatRenderer.from_folder("model").prompt([Message.of("user", "12+34=")])`.
    """

    def __init__(self, folder: TokenizerFolder, template: ChatTemplate | None) -> None:
        self._folder = folder
        self._template = template
        self.eos_id = _eos_id(folder)
        self.vocabulary = folder.backend.get_vocab_size(with_added_tokens=True)
        """Number of token ids."""
        self._remembered: Callable[[tuple[Message, ...]], tuple[int, ...]] = lru_cache(_CACHED_PROMPTS)(self._prompt)
        self.encode_given: Callable[[str], tuple[int, ...]] = lru_cache(_CACHED_PROMPTS)(self.encode)
        """As `encode`, for what many rollouts are given: it is remembered."""
        self._special = frozenset(
            token_id for token_id, token in folder.backend.get_added_tokens_decoder().items() if token.special
        )
        self._end_of_turn = None if template is None else self._find_end_of_turn(template)
        self.stop_ids: tuple[int, ...] = self._find_stop_ids()
        """Tokens that end a reply besides `eos_id`: the template's own end of turn, where that is another token."""

    @classmethod
    def from_folder(cls, folder: str | Path, *, chat: bool = True) -> ChatRenderer:
        """The renderer of a model folder; `chat=False` admits a model without a chat template (documents only).

        Raises ConfigError when the folder has no usable tokenizer or, with `chat`, no template.
        """
        files = TokenizerFolder.read(folder)
        if files.template is None:
            if chat:
                raise ConfigError(_no_template(files.path))
            return cls(files, None)
        return cls(files, ChatTemplate(files.template, files.special_tokens, owner=f"model folder '{files.path}'"))

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids that end where the assistant is to speak. Raises DataError for text the tokenizer cannot encode."""
        messages = tuple(messages)
        if any(isinstance(part, JsonPart) for message in messages for part in message.content):
            return self._prompt(messages)  # a JSON value has no hash
        return self._remembered(messages)

    def text(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> str:
        """The template's text up to where the assistant is to speak. Raises DataError when it refuses the messages."""
        if self._template is None:
            raise ConfigError(_no_template(self._folder.path))
        return self._template.render(messages, generation_prompt=True, tools=tools)

    @property
    def writes_each_alone(self) -> bool:
        """Whether the template writes every message without a look at the others (see `template_parts.py`)."""
        return self._template is not None and self._template.writes_each_alone

    def behind(self, reply: str, answers: Sequence[Message]) -> str | None:
        """What a template that `writes_each_alone` puts behind a reply; None where it changes the reply itself."""
        if self._template is None:
            raise ConfigError(_no_template(self._folder.path))
        opening = self._template.opening
        text = self._template.each((Message.of("assistant", reply), *answers)) + opening
        said = opening + reply
        return text[len(said) :] if text.startswith(said) else None

    def is_special(self, token_id: int) -> bool:
        """Whether a token is one of the marks between messages rather than text."""
        return token_id in self._special

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of sampled tokens, special tokens left out."""
        return self._folder.decode(token_ids)

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, nothing added."""
        return tuple(self._folder.encode(text).ids)

    def conversation(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Token ids of a conversation up to its last reply, and which of them the assistant writes.

        Exact by construction: before each reply stands precisely the prompt the model would be given there, and the
        reply is what the template adds to that prompt, up to and including the token that ends the turn.
        Raises DataError without a reply, ConfigError when the template rewrites earlier turns.
        """
        template, end_of_turn = self._supervised()
        ids: list[int] = []
        written: list[bool] = []
        done = ""
        for index, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = template.render(messages[:index], generation_prompt=True, tools=tools)
            after = template.render(messages[: index + 1], generation_prompt=False, tools=tools)
            asked = self._folder.encode(self._added(before, done)).ids
            reply = self._folder.encode(self._added(after, before))
            length = _last(reply.ids, end_of_turn) + 1
            ids += asked + reply.ids[:length]
            written += [False] * len(asked) + [True] * length
            done = before + after[len(before) :][: reply.offsets[length - 1][1]]
        if not ids:
            raise DataError("a conversation without an assistant message teaches nothing; add a reply or leave it out")
        return tuple(ids), tuple(written)

    def _prompt(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        return self.encode(self.text(messages))

    def _supervised(self) -> tuple[ChatTemplate, int]:
        if self._template is None:
            raise ConfigError(_no_template(self._folder.path))
        if self._end_of_turn is None:
            raise ConfigError(
                f"the chat template in '{self._folder.path}' puts no token behind a reply, so a model could not learn "
                f"where to stop; end the assistant's turn with the end-of-sequence token"
            )
        return self._template, self._end_of_turn

    def _find_end_of_turn(self, template: ChatTemplate) -> int | None:
        """The token the template puts behind a reply: end of sequence, else the first special one, else the first."""
        probe = (Message.of("user", _PROBE), Message.of("assistant", _PROBE))
        text = template.render(probe, generation_prompt=False)
        ids = self._folder.encode(text[text.rfind(_PROBE) + len(_PROBE) :]).ids
        if self.eos_id in ids:
            return self.eos_id
        return next(filter(self.is_special, ids), next(iter(ids), None))

    def _find_stop_ids(self) -> tuple[int, ...]:
        """Only a special token: another one, of a line's end, say, stands within replies too."""
        token = self._end_of_turn
        return () if token is None or token == self.eos_id or not self.is_special(token) else (token,)

    def _added(self, text: str, start: str) -> str:
        if not text.startswith(start):
            raise ConfigError(
                f"the chat template in '{self._folder.path}' rewrites earlier turns when a conversation goes on (a "
                f"template that hides old reasoning does), so which tokens are the reply is not exact; give such a "
                f"model one row per reply, each ending in the only assistant message"
            )
        return text[len(start) :]


def _eos_id(folder: TokenizerFolder) -> int:
    eos_id = folder.token_id("eos_token")
    if eos_id is None:
        raise ConfigError(
            f"the tokenizer in '{folder.path}' names no end-of-sequence token it knows; set eos_token in "
            f"tokenizer_config.json"
        )
    return eos_id


def _no_template(path: Path) -> str:
    return (
        f"model folder '{path}' has no chat template, so messages cannot become a prompt; put chat_template.jinja "
        f"there or start from an instruction-tuned model"
    )


def _last(ids: Sequence[int], token_id: int) -> int:
    """Index of the last occurrence; the template's own end of turn comes after whatever the content quotes."""
    return len(ids) - 1 - list(reversed(ids)).index(token_id)
