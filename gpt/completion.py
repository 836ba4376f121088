"""The one seam between what asks for text (page, API, terminal) and what makes it (this machine, Vertex AI).

Whoever wants text builds a CompletionRequest, which validates itself once, and iterates over
`backend.stream(request)`. Both sides of a wire use these same types.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from gpt.errors import RequestError
from gpt.sampling import SamplingParams

FinishReason = Literal["length", "stop"]

MAX_NEW_TOKENS = 4096
MAX_STOP_STRINGS = 8
MAX_LOGPROBS = 20
MAX_SCORED_TOKENS = 65_536


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """What to continue, and how.

    Attributes:
        prompt: text to continue; must encode to at least one token. Empty where prompt_ids are given.
        temperature, top_k, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty:
            as in `gpt.sampling.SamplingParams`, with the same defaults and ranges.
        max_new_tokens: tokens to generate at most, 1 to 4096.
        seed: 0 to 2**63 - 1; the same seed, request and weights repeat the text. None draws one,
            and every chunk reports it.
        stop: strings that end the text; the text ends before the first one that appears.
        logprobs: None for no log-probabilities; n in 0 to 20 gives each token's log-probability
            and its n most probable alternatives, both of the raw logits (temperature 1, no filter).
        prompt_ids: the prompt as tokens, in place of text; only a backend that has the tokenizer takes them.

    Raises:
        RequestError: a field is out of range; the message names it, its value and the range.
    """

    prompt: str
    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_new_tokens: int = 200
    seed: int | None = None
    stop: Sequence[str] = ()
    logprobs: int | None = None
    prompt_ids: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str):
            raise RequestError(f"prompt is {type(self.prompt).__name__}; pass a string")
        if self.prompt_ids is not None:
            self._check_prompt_ids()
        elif not self.prompt:
            raise RequestError("prompt is empty; type at least one character to continue from")
        try:
            self.prompt.encode()
        except UnicodeEncodeError as error:
            half = self.prompt[error.start]
            raise RequestError(f"prompt has {half!r}, which is half a character; pass valid Unicode text") from error
        _check_integer("max_new_tokens", self.max_new_tokens, 1, MAX_NEW_TOKENS)
        if self.seed is not None:
            _check_integer("seed", self.seed, 0, 2**63 - 1)
        if self.logprobs is not None:
            _check_integer("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        if len(self.stop) > MAX_STOP_STRINGS:
            raise RequestError(f"stop has {len(self.stop)} strings; give at most {MAX_STOP_STRINGS}")
        for text in self.stop:
            if not isinstance(text, str) or not text:
                raise RequestError(f"stop has {text!r}; every stop string must be text of at least one character")
        object.__setattr__(self, "stop", tuple(self.stop))
        self.sampling_params()  # validates the sampling fields

    def _check_prompt_ids(self) -> None:
        ids = tuple(self.prompt_ids or ())
        if self.prompt:
            raise RequestError("prompt and prompt_ids are both given; give the text or its tokens")
        if not ids:
            raise RequestError("prompt_ids is empty; give at least one token to continue from")
        for token_id in ids:
            _check_integer("prompt_ids", token_id, 0, 2**31 - 1)
        object.__setattr__(self, "prompt_ids", ids)

    def sampling_params(self) -> SamplingParams:
        """The request's sampling fields, validated."""
        return SamplingParams(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
        )


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    """Raise RequestError unless value is an int (a bool is none) in low..high."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{name} is {value!r}; give a whole number from {low} to {high}")
    if not low <= value <= high:
        raise RequestError(f"{name} is {value}; give a whole number from {low} to {high}")


@dataclass(frozen=True)
class Alternative:
    """A token that the model could have chosen: its id, its text and its log-probability (nats, raw logits)."""

    token_id: int
    text: str
    logprob: float


@dataclass(frozen=True)
class TokenLogprob:
    """A chosen token with its log-probability (nats, raw logits) and the most probable tokens at its step.

    `alternatives` is sorted by falling probability and may contain the chosen token itself.
    """

    token_id: int
    text: str
    logprob: float
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class ScoredToken:
    """A token of the prompt with its log-probability given those before it.

    Attributes:
        token_id, text: the token.
        offset: characters of the prompt before the one that it begins, or is a part of.
        logprob: nats, of the raw logits; None for the first token, which has nothing before it.
        alternatives: the most probable tokens in its place, by falling probability; none for the first.
    """

    token_id: int
    text: str
    offset: int
    logprob: float | None
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class CompletionChunk:
    """The next piece of a completion.

    The chunks' texts joined are the whole completion, each generated token stands in exactly one chunk, and
    a chunk's text is always whole characters: tokens that end inside a character, or that may be the
    beginning of a stop string, wait for the chunk that settles them.

    Attributes:
        text: the new text; empty only in the last chunk, where nothing is left before a stop string.
        token_ids: the ids whose text this is; the last chunk has also those of the stop string.
        logprobs: one entry a token when the request asked for them, else empty.
        finish_reason: None until the last chunk; then "length" (max_new_tokens reached) or "stop".
        seed: the seed in use, drawn by the backend when the request had none.
        prompt_tokens: the number of tokens of the encoded prompt.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    seed: int = 0
    prompt_tokens: int = 0


@dataclass(frozen=True)
class BackendInfo:
    """What a page shows of the live backend.

    Attributes:
        kind: "local", "vertex" or "predictor".
        name: the checkpoint's folder name, or the endpoint's.
        device: for example "cpu" or "cuda"; of a backend elsewhere, where that is.
        parameters: number of the model's parameters, 0 where unknown.
        sequence_dim: tokens of context, 0 where unknown.
        nats_per_character: the checkpoint's validation figures by protocol ("block", "sliding"); may be empty.
    """

    kind: str
    name: str
    device: str = ""
    parameters: int = 0
    sequence_dim: int = 0
    nats_per_character: tuple[tuple[str, float], ...] = ()


class CompletionBackend(Protocol):
    """Anything that turns a request into a stream of chunks."""

    def stream(self, request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
        """Yield chunks until one has a finish reason; closing the generator frees its place within one step.

        Raises:
            RequestError: the prompt cannot be served (raised before the first chunk).
            UnknownCharacterError: the prompt has a character that the tokenizer does not know.
            QueueFullError: too many requests wait already.
            BackendClosedError: the backend was closed.
        """
        ...

    def info(self) -> BackendInfo:
        """What this backend is."""
        ...

    def close(self) -> None:
        """Free the model; streams under way end with BackendClosedError. Closing twice is fine."""
        ...


@runtime_checkable
class ScoringBackend(CompletionBackend, Protocol):
    """A backend that can also tell how probable a prompt is; one elsewhere cannot."""

    def score(self, request: CompletionRequest) -> Generator[tuple[ScoredToken, ...], None, None]:
        """Yield the prompt's tokens, some at a time, with as many alternatives as the request's logprobs says.

        Raises:
            RequestError: the prompt has no tokens, unknown ones, or more than MAX_SCORED_TOKENS; at once.
            UnknownCharacterError: the prompt has a character that the tokenizer does not know; at once.
            BackendClosedError: the backend was closed.
        """
        ...
