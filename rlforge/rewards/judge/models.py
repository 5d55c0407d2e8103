"""Where a judge's replies come from: an OpenAI-compatible address, or a named generator of the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rlforge.errors import (
    DeadlineExceeded,
    EndpointBroken,
    EndpointBusy,
    EndpointRefused,
    EndpointUnavailable,
    GenerationError,
)
from rlforge.interfaces import Generator, Renderer
from rlforge.rewards.judge.verdict import Question
from rlforge.seeds import derive_seed
from rlforge.transports.config import TlsConfig
from rlforge.transports.retry_after import advice_s
from rlforge.transports.secrets import read_secret, redacted
from rlforge.types import FinishReason, GenerateRequest, Sampling

_SHOWN = 300
"""Characters of a server's own words in a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """One reply of a judge's model."""

    text: str
    tokens: int
    """Of the question and the reply together."""
    error_kind: str | None = None
    """`refused` or `malformed` where the reply is none; `text` says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """How a judge's model is asked."""

    temperature: float
    max_tokens: int
    timeout_s: float
    response_format: dict[str, Any] | None


class JudgeModel(Protocol):
    """Answers questions."""

    async def ask(self, question: Question, sample: int, asking: Asking) -> Said:
        """One reply; `sample` tells several replies to the same question apart.

        Raises EndpointError or DeadlineExceeded when there is none.
        """
        ...

    async def close(self) -> None:
        """Close the connection. May be called twice."""
        ...


class OpenAIModel:
    """A model at an OpenAI-compatible address: `POST <address>/chat/completions`."""

    def __init__(
        self, *, address: str, model: str, api_key: str | None, tls: TlsConfig, connections: int, scorer: str
    ) -> None:
        import httpx  # `import rlforge` loads it only when somebody asks over HTTP

        self._key = read_secret(api_key, f"key of scorer '{scorer}'")
        self._address = address.rstrip("/")
        self._model = model
        self._client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {self._key.reveal()}"} if self._key else {},
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            verify=_verify(tls),
            trust_env=False,
        )

    async def ask(self, question: Question, sample: int, asking: Asking) -> Said:
        """One reply."""
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "system", "content": question.system}, {"role": "user", "content": question.user}],
            "temperature": asking.temperature,
            "max_tokens": asking.max_tokens,
            "seed": sample,
        }
        if asking.response_format:
            body["response_format"] = asking.response_format
        answer = await self._post(body, asking.timeout_s)
        return _said(answer, asking.max_tokens, self._shown)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _shown(self, words: str) -> str:
        """The server's words, which may repeat what it was sent, without the key."""
        return redacted(words, [self._key])

    async def _post(self, body: dict[str, Any], timeout_s: float) -> Any:
        import httpx

        where = f"{self._address}/chat/completions"
        try:
            response = await self._client.post(where, json=body, timeout=timeout_s)
        except httpx.ConnectTimeout as error:
            raise EndpointUnavailable(f"{where} cannot be reached within {timeout_s:g} s") from error
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(f"waited {timeout_s:g} s for {where}; giving up") from error
        except httpx.TransportError as error:
            why = f"{type(error).__name__}: {self._shown(str(error))}"
            raise EndpointUnavailable(f"{where} cannot be reached: {why}") from error
        except httpx.HTTPError as error:
            raise EndpointBroken(f"{where} answered with what makes no sense: {self._shown(str(error))}") from error
        said = self._shown(response.text)[:_SHOWN]
        _raise_for(response.status_code, f"{where} answered {response.status_code}: {said}", response.headers)
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            raise EndpointBroken(f"{where} answered with what is not JSON: {said!r}") from error


class GeneratorModel:
    """A named generator of the run: it serves the weights that the run started from."""

    def __init__(self, *, name: str, generator: Generator, renderer: Renderer) -> None:
        self._name = name
        self._generator = generator
        self._renderer = renderer

    async def ask(self, question: Question, sample: int, asking: Asking) -> Said:
        """One reply; the response format is not enforced."""
        prompt_ids = self._renderer.prompt(question.messages())
        request = GenerateRequest(
            prompt_ids=prompt_ids,
            sampling=Sampling(temperature=asking.temperature, max_new_tokens=asking.max_tokens),
            seed=derive_seed(sample, "judge", *prompt_ids),
            stop_ids=self._renderer.stop_ids,
        )
        try:
            completion = await self._generator.generate(request)
        except GenerationError as error:
            raise EndpointRefused(f"generator '{self._name}': {error}") from error
        tokens = len(prompt_ids) + len(completion.token_ids)
        if completion.finish_reason is FinishReason.LENGTH:
            return Said(text=_CUT.format(asking.max_tokens), tokens=tokens, error_kind="malformed")
        return Said(text=self._renderer.decode(completion.token_ids), tokens=tokens)

    async def close(self) -> None:
        """The generator is the run's."""


_CUT = "the judge's reply was cut at max_tokens={}; raise it"


def _said(answer: Any, max_tokens: int, shown: Callable[[str], str]) -> Said:
    """What an answer of the chat completions API says, its words as they may be `shown`.

    Raises EndpointBroken when it is none.
    """
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        tokens = int((answer.get("usage") or {}).get("total_tokens") or 0)
        content, refusal, finish = message.get("content"), message.get("refusal"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise EndpointBroken(
            f"the judge's answer is no chat completion: {shown(json.dumps(answer))[:_SHOWN]}"
        ) from error
    if refusal or finish == "content_filter":
        return Said(
            text=f"the judge refused: {shown(str(refusal or finish))[:_SHOWN]}", tokens=tokens, error_kind="refused"
        )
    if finish == "length":
        return Said(text=_CUT.format(max_tokens), tokens=tokens, error_kind="malformed")
    if not isinstance(content, str):
        return Said(text="the judge's reply has no text", tokens=tokens, error_kind="malformed")
    return Said(text=shown(content), tokens=tokens)


def _raise_for(status: int, said: str, headers: Mapping[str, str]) -> None:
    """Raise the error that an HTTP status stands for."""
    if status < 300:
        return
    if status == 429 or (status == 503 and "retry-after" in headers):
        raise EndpointBusy(said, advice_s(headers))
    if status in (502, 503, 504):
        raise EndpointUnavailable(said)
    if status >= 500:
        raise EndpointBroken(said)
    raise EndpointRefused(said)


def _verify(tls: TlsConfig) -> Any:
    if not (tls.ca or tls.certificate):
        return True
    import ssl

    context = ssl.create_default_context(cafile=tls.ca)
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.key)
    return context
