"""A backend without a model: it streams words with log-probabilities and alternatives, and counts who is served."""

from __future__ import annotations

import itertools
import random
import re
import threading
import time
from collections.abc import Generator, Sequence

from gpt.completion import Alternative, BackendInfo, CompletionChunk, CompletionRequest, FinishReason, TokenLogprob
from gpt.errors import BackendClosedError, GPTError, UnknownCharacterError

SPEECH = (
    "What light through yonder window breaks?\n"
    "It is the east, and Juliet is the sun.\n"
    "Arise, fair sun, and kill the envious moon."
)
WORDS = re.findall(r"\n+| ?\w+|[^\w\s]", f"{SPEECH}\n\nJULIET:\nAy me!\n\nROMEO:\nShe speaks.\n")
OTHERS = (" soft", " night", " thy", " heaven", ",", "\n")
UNKNOWN = "\N{SNOWMAN}"


class FakeBackend:
    """Streams its words over and over, starting at a place that the seed chooses.

    Attributes:
        active: streams open now.
        requests: every request so far.
        error: raised by the next streams before their first chunk.
        knows_all: whether no character is unknown.
        fail_after: number of tokens after which the backend counts as closed, once.
        loadable: cleared by a test that wants to see it loading, and set when it has.
    """

    def __init__(
        self, name: str = "fake", *, delay_s: float = 0.0, nats: float | None = 1.447, words: Sequence[str] = WORDS
    ) -> None:
        self.name = name
        self.words = words
        self.delay_s = delay_s
        self.nats = nats
        self.active = 0
        self.requests: list[CompletionRequest] = []
        self.error: GPTError | None = None
        self.fail_after: int | None = None
        self.closed = False
        self.knows_all = False
        self.loadable = threading.Event()
        self.loadable.set()
        self._lock = threading.Lock()

    def stream(self, request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
        """Yield one chunk a word, a stop string cut off as the real backend does."""
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        if UNKNOWN in request.prompt and not self.knows_all:
            raise UnknownCharacterError(f"the prompt has {UNKNOWN!r}; this model knows no such character")
        with self._lock:
            self.active += 1
        try:
            yield from self._chunks(request)
        finally:
            with self._lock:
                self.active -= 1

    def _chunks(self, request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
        seed = random.randrange(2**31) if request.seed is None else request.seed
        words = itertools.islice(itertools.cycle(self.words), seed % 7, None)
        for number, word in enumerate(words, 1):
            time.sleep(self.delay_s)
            if self.closed:
                raise BackendClosedError("the backend was closed; choose another checkpoint")
            if self.fail_after is not None and number > self.fail_after:
                self.fail_after = None
                raise BackendClosedError("the backend was closed; choose another checkpoint")
            stopped = any(stop in word for stop in request.stop)
            last = stopped or number == request.max_new_tokens
            reason: FinishReason | None = ("stop" if stopped else "length") if last else None
            # A stop string leaves nothing of itself in the text, though its token was generated.
            text = "" if stopped else word
            yield CompletionChunk(text, (number,), (_logprob(number, word),), reason, seed, len(request.prompt.split()))
            if last:
                return

    def text(self, seed: int, tokens: int) -> str:
        """What a request with this seed and length gets."""
        return "".join(itertools.islice(itertools.cycle(self.words), seed % 7, seed % 7 + tokens))

    def info(self) -> BackendInfo:
        """What this backend is."""
        nats = () if self.nats is None else (("block", self.nats + 0.015), ("sliding", self.nats))
        return BackendInfo("local", self.name, "cpu", 1_050_000, 64, nats)

    def close(self) -> None:
        """End every stream with BackendClosedError."""
        self.closed = True


def _logprob(number: int, word: str) -> TokenLogprob:
    """A log-probability from nearly sure to quite surprising, and alternatives around it."""
    logprob = -0.05 - (number * 7 % 13) / 3
    others = [Alternative(100 + n, other, -0.7 - n * 0.6) for n, other in enumerate(OTHERS) if other != word]
    alternatives = sorted([Alternative(number, word, logprob), *others], key=lambda one: -one.logprob)
    return TokenLogprob(number, word, logprob, tuple(alternatives))
