"""The tokenizer files of a model folder: reading them without importing transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from rlforge.errors import ConfigError, DataError, ExtensionError, boundary

_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerFolder:
    """What a model folder says about its tokens."""

    path: Path
    backend: Tokenizer
    special_tokens: Mapping[str, str]
    """`eos_token` -> `<|im_end|>` and so on."""
    template: str | None
    """Source of the chat template; None for a model that was never taught one."""

    @classmethod
    def read(cls, path: str | Path) -> TokenizerFolder:
        """Read `tokenizer.json`, `tokenizer_config.json` and the template. Raises ConfigError when one is unusable."""
        path = Path(path)
        settings = {**_json(path / "special_tokens_map.json"), **_json(path / "tokenizer_config.json")}
        return cls(
            path=path,
            backend=_backend(path / "tokenizer.json"),
            special_tokens={name: text for name in _SPECIAL if (text := _token_text(settings.get(name)))},
            template=_template(path, settings),
        )

    def encode(self, text: str) -> Encoding:
        """Encode text as it stands, adding nothing. Raises DataError that names characters the tokenizer lacks."""
        try:
            with boundary("tokenizer"):
                return self.backend.encode(text, add_special_tokens=False)
        except ExtensionError as error:
            raise DataError(self._unreadable(text, str(error))) from error

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return self.backend.decode(list(token_ids), skip_special_tokens=True)

    def token_id(self, name: str) -> int | None:
        """Id of a special token by its role. Example: `token_id("eos_token")`."""
        text = self.special_tokens.get(name)
        return None if text is None else self.backend.token_to_id(text)

    def _unreadable(self, text: str, cause: str) -> str:
        plain = text
        for token in self.backend.get_added_tokens_decoder().values():
            plain = plain.replace(token.content, "")
        unknown = sorted({letter for letter in plain if self.backend.token_to_id(letter) is None})
        if not unknown:
            return f"the tokenizer in '{self.path}' cannot encode {_clip(text)}: {cause}"
        names = ", ".join(f"{letter!r}" for letter in unknown[:10])
        return (
            f"the tokenizer in '{self.path}' has no token for {names}, met in {_clip(text)}; "
            f"add them to the tokenizer's alphabet or use a byte tokenizer"
        )


def _clip(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"'{path}' is not readable as JSON: {error}") from error


def _backend(path: Path) -> Tokenizer:
    if not path.exists():
        raise ConfigError(
            f"model folder '{path.parent}' has no tokenizer.json; load it once with transformers' AutoTokenizer and "
            f"save_pretrained() it there"
        )
    try:
        with boundary("tokenizer file", on=str(path)):
            backend = Tokenizer.from_file(str(path))
    except ExtensionError as error:
        raise ConfigError(f"'{path}' is not a tokenizer this version of tokenizers can read: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _token_text(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _template(path: Path, settings: Mapping[str, Any]) -> str | None:
    file = path / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several by name; the one for plain conversations is called default
        return {entry["name"]: entry["template"] for entry in template}.get("default")
    return template
