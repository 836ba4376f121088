"""Generation: the tokens of one request, as they are made."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Literal, NamedTuple

from gpt.errors import GPTError


class GeneratedToken(NamedTuple):
    """One token of a generation.

    Attributes:
        token_id: the token.
        logprob: its log-probability (nats, raw logits); None unless asked for.
        alternatives: (id, log-probability) of the most probable tokens at its step, by falling probability.
        finish_reason: "length" with the last token.
    """

    token_id: int
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()
    finish_reason: Literal["length"] | None = None


class Generation:
    """An iterator over the tokens of one request, which waits for each; for one consumer.

    It ends with the token that has a finish reason, at once when it was cancelled, and with the error when the
    request failed.

    Attributes:
        seed: the seed in use, the drawn one when the request had none.
        prompt_tokens: the number of tokens of the prompt, read or not.
    """

    def __init__(self, seed: int, prompt_tokens: int) -> None:
        self.seed = seed
        self.prompt_tokens = prompt_tokens
        # Reentrant, so that a garbage collection in the midst of it may cancel other generations.
        self._outputs: SimpleQueue[GeneratedToken | GPTError | None] = SimpleQueue()
        self._finished = False
        self._cancelled = False
        self._exhausted = False

    @property
    def ended(self) -> bool:
        """Whether no more tokens will be made: the last one was, or the request failed or was cancelled."""
        return self._finished or self._cancelled

    def cancel(self) -> None:
        """Stop: the engine frees the request's place within one step. Cancelling twice, or at the end, is fine."""
        self._cancelled = True
        self._outputs.put(None)  # wakes a consumer that waits in another thread

    def deliver(self, token: GeneratedToken) -> None:
        """Hand the next token to the consumer; the engine's part."""
        if token.finish_reason is not None:
            self._finished = True
        self._outputs.put(token)

    def fail(self, error: GPTError) -> None:
        """End with an error, behind the tokens already delivered; the engine's part."""
        self._finished = True
        self._outputs.put(error)

    def __iter__(self) -> Iterator[GeneratedToken]:
        return self

    def __next__(self) -> GeneratedToken:
        if self._exhausted or self._cancelled:
            raise StopIteration
        output = self._outputs.get()
        if output is None or self._cancelled:
            raise StopIteration
        if isinstance(output, GPTError):
            self._exhausted = True
            raise output
        self._exhausted = output.finish_reason is not None
        return output
