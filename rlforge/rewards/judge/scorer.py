"""Asks a language model what a rollout is worth, by a rubric."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from rlforge.deadlines import deadline
from rlforge.errors import ConfigError, DataError, DeadlineExceeded, EndpointBroken, EndpointError
from rlforge.interfaces import Generator, Renderer
from rlforge.rewards.judge.ledger import Meter, VerdictCache, content_key
from rlforge.rewards.judge.models import Asking, GeneratorModel, JudgeModel, OpenAIModel, Said
from rlforge.rewards.judge.verdict import Question, Verdict, question, schema, verdict
from rlforge.rewards.remote.patience import Patience, PatientConfig, unscored
from rlforge.together import each_to_its_end
from rlforge.transports.config import EndpointConfig, TlsConfig, refuse_credentials
from rlforge.types import Metrics, Rollout, Score

_BYTES_PER_TOKEN = 2
"""So few bytes make a token in any text that is not noise: what is set aside for a question is rather too much."""


class JudgeScorer:
    """Plays the Scorer role with a language model that is given a rubric and answers with a number and a reason.

    The value is the model's score put on 0 to 1, the mean of `samples` replies. Several judges are several scorers.
    """

    class Config(PatientConfig):
        """A rubric, a model to apply it, and what it may spend."""

        type: str = "judge"
        rubric: str = ""
        """What is good and what is bad, in words."""
        rubric_file: str = ""
        """File that says it instead."""
        address: str = ""
        """OpenAI-compatible address, `https://api.example/v1` for instance: what `/chat/completions` comes after."""
        model: str = ""
        """Name of the model at that address."""
        api_key: str | None = None
        """Where the key is: `env:NAME` or `file:PATH`. Never the key itself."""
        tls: TlsConfig = TlsConfig()
        """Certificates for `https://`."""
        generator: str = ""
        """Instead of an address: a generator of the recipe, not `policy`; it keeps the weights it starts with."""
        samples: int = Field(1, ge=1)
        """Replies per rollout; their scores are averaged, and all must be readable."""
        temperature: float = Field(0.0, ge=0)
        """How the judge samples; above 0 when there is more than one sample."""
        max_tokens: int = Field(512, ge=1)
        """Longest reply, in tokens."""
        lowest: float = Field(0.0, allow_inf_nan=False)
        """Score for the worst, on the scale the judge is told; it becomes the value 0."""
        highest: float = Field(10.0, allow_inf_nan=False)
        """Score for the best; it becomes the value 1."""
        show_answer: bool = True
        """Whether the judge sees the task's reference answer, where there is one."""
        structured: Literal["json_schema", "json_object", "none"] = "json_schema"
        """How the server is asked to hold the reply to JSON; take one that it knows."""
        cache: str = ""
        """Folder of verdicts by content; the same question is not asked twice, in this run or in another."""
        max_tokens_total: int | None = Field(None, ge=1)
        """Tokens that may be spent, questions included; then rollouts are left unscored, `budget`."""
        requests_per_minute: float | None = Field(None, gt=0)
        """Requests a minute at most, from all rollout workers together; with a `cache`, from all runs of this machine
        that name the same one."""

        def longest_s(self, rollout: Rollout) -> float:
            """Seconds that judging this rollout may take at most: each sample has its own time, and waits its turn."""
            turn_s = 60.0 / self.requests_per_minute if self.requests_per_minute else 0.0
            return self.samples * (self.timeout_s + turn_s)

        @model_validator(mode="after")
        def _sound(self) -> JudgeScorer.Config:
            if bool(self.rubric) == bool(self.rubric_file):
                raise ValueError("a judge has a 'rubric' or a 'rubric_file', exactly one")
            if bool(self.address) == bool(self.generator):
                raise ValueError("a judge has an 'address' or the name of a 'generator', exactly one")
            if self.address and not self.model:
                raise ValueError("a judge at an address needs the name of its 'model'")
            if self.generator == "policy":
                raise ValueError("generator 'policy' learns; add another, `generators.judge: vllm`, and name that")
            if not self.lowest < self.highest:
                raise ValueError(f"lowest={self.lowest:g} is not below highest={self.highest:g}")
            if self.samples > 1 and self.temperature == 0:
                raise ValueError("samples at temperature 0 are all alike; set a temperature or samples=1")
            return self

        @field_validator("address")
        @classmethod
        def _is_http(cls, address: str) -> str:
            refuse_credentials(address)
            if address and not address.startswith(("http://", "https://")):
                raise ValueError(f"'{address}' begins with neither http:// nor https://")
            return address

        @field_validator("api_key")
        @classmethod
        def _is_no_secret(cls, where: str | None) -> str | None:
            return EndpointConfig(address="https:", token=where).token

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.label
        self._rubric = config.rubric or _read(config.rubric_file, config.label)
        self._cache = VerdictCache(Path(config.cache)) if config.cache else None
        self._meter = Meter(
            folder=Path(config.cache) if config.cache else None,
            max_tokens=config.max_tokens_total,
            per_minute=config.requests_per_minute,
        )
        self._patience = Patience(config)
        self._patience.counted.update({"cache_hits": 0, "judge_tokens": 0})
        self._slots = asyncio.Semaphore(config.concurrency)
        self._model: JudgeModel | None = None

    def use(self, generators: Mapping[str, Generator], renderer: Callable[[], Renderer]) -> None:
        """Take the generator that the recipe names. Raises ConfigError when there is none of that name."""
        name = self.config.generator
        if name not in generators:
            known = ", ".join(generators) or "none"
            raise ConfigError(f"scorer '{self.name}' names the generator '{name}', but the run has: {known}")
        self._model = GeneratorModel(name=name, generator=generators[name], renderer=renderer())

    async def start(self) -> None:
        """Read the key. Raises ConfigError when there is none where it should be, or no generator to ask."""
        config = self.config
        if config.generator and self._model is None:
            raise ConfigError(
                f"scorer '{self.name}' judges with the generator '{config.generator}', which only a run starts; "
                "give it an address to use it without one"
            )
        self._model = self._model or OpenAIModel(
            address=config.address,
            model=config.model,
            api_key=config.api_key,
            tls=config.tls,
            connections=config.concurrency,
            scorer=self.name,
        )

    async def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        return list(await asyncio.gather(*(self._score(rollout) for rollout in rollouts)))

    def metrics(self) -> Metrics:
        """Totals since the start, `scorer_<name>/…`."""
        return self._patience.metrics()

    async def close(self) -> None:
        """Close the connection."""
        if self._model is not None:
            await self._model.close()

    async def _score(self, rollout: Rollout) -> Score:
        began, config = perf_counter(), self.config
        asked = question(
            rollout, self._rubric, lowest=config.lowest, highest=config.highest, show_answer=config.show_answer
        )
        try:  # all are waited for: a sample that went on alone would spend what nobody asks for any more
            verdicts = await each_to_its_end(self._verdict(asked, sample) for sample in range(config.samples))
            return self._combined(verdicts, perf_counter() - began)
        except (EndpointError, DeadlineExceeded) as fault:
            failed = unscored(self.name, fault, perf_counter() - began)
            return failed if failed.error_kind != "refused" else _rejected(failed)
        except DataError as fault:  # a generator's tokenizer has no letters for it, or its template no such roles
            return Score(scorer=self.name, error_kind="malformed", reason=str(fault), seconds=perf_counter() - began)

    def _combined(self, verdicts: Sequence[Verdict], seconds: float) -> Score:
        reason = " | ".join(verdict.reason for verdict in verdicts)
        failed = next((verdict for verdict in verdicts if verdict.score is None), None)
        if failed:
            again = failed.error_kind == "malformed" and self.config.temperature > 0
            return Score(
                scorer=self.name,
                error_kind=failed.error_kind,
                reason=failed.reason,
                retryable=again,
                seconds=seconds,
            )
        scores = [verdict.score for verdict in verdicts if verdict.score is not None]
        value = (fmean(scores) - self.config.lowest) / (self.config.highest - self.config.lowest)
        return Score(scorer=self.name, value=value, reason=reason, seconds=seconds)

    async def _verdict(self, asked: Question, sample: int) -> Verdict:
        key = self._key(asked, sample)
        if self._cache and (kept := self._cache.get(key)):
            self._patience.counted["cache_hits"] += 1
            return kept
        async with self._slots:
            said = await self._said(asked, sample)
        if said is None:
            cap = self.config.max_tokens_total
            return Verdict(error_kind="budget", reason=f"the judge may spend {cap} tokens in all, and they are spent")
        if said.error_kind:
            return Verdict(error_kind=said.error_kind, reason=said.text)
        found = verdict(said.text, lowest=self.config.lowest, highest=self.config.highest)
        if self._cache and found.score is not None:
            self._cache.put(key, found)
        return found

    async def _said(self, asked: Question, sample: int) -> Said | None:
        """One reply; None when the budget has no room for it."""
        reserved = len((asked.system + asked.user).encode()) // _BYTES_PER_TOKEN + self.config.max_tokens
        if not self._meter.reserve(reserved):
            return None
        used = 0
        try:
            said = await self._patience.ask(lambda: self._once(asked, sample))
            used = said.tokens
        except (DeadlineExceeded, EndpointBroken, asyncio.CancelledError):
            used = reserved  # the model may have written all of it, and nobody says how much
            raise
        finally:
            self._meter.settle(reserved, used)
        self._patience.counted["judge_tokens"] += said.tokens
        return said

    async def _once(self, asked: Question, sample: int) -> Said:
        assert self._model is not None, "start() comes before score()"
        config = self.config
        await asyncio.sleep(self._meter.turn_s())
        asking = Asking(
            temperature=config.temperature,
            max_tokens=config.max_tokens,
            timeout_s=config.timeout_s,
            response_format=_response_format(config),
        )
        async with deadline(config.timeout_s, f"scorer '{self.name}' to judge a rollout"):
            return await self._model.ask(asked, sample, asking)

    def _key(self, asked: Question, sample: int) -> str:
        config = self.config
        return content_key(
            judge=[config.address, config.model, config.generator],
            asked=[asked.system, asked.user],
            how=[config.temperature, config.max_tokens, config.lowest, config.highest, config.structured],
            sample=sample,
        )


def _response_format(config: JudgeScorer.Config) -> dict[str, Any] | None:
    match config.structured:
        case "json_schema":
            form = {"name": "verdict", "strict": True, "schema": schema(config.lowest, config.highest)}
            return {"type": "json_schema", "json_schema": form}
        case "json_object":
            return {"type": "json_object"}
        case "none":
            return None


def _rejected(score: Score) -> Score:
    """A refusal of the server's is not one of the judge's: the address, the key or the model is wrong."""
    return Score(
        scorer=score.scorer,
        error_kind="rejected",
        reason=f"{score.reason}. Look at address, model and api_key, and whether the server knows `structured`",
        seconds=score.seconds,
    )


def _read(file: str, label: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"scorer '{label}': the rubric cannot be read from '{file}': {error.strerror}") from error
