"""Choice: one of the texts that a request asks for, piece by piece."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

from gpt.backends.swappable import SwappableBackend
from gpt.completion import Alternative, CompletionChunk, CompletionRequest, ScoredToken


class Token(NamedTuple):
    """A token of a choice: its text, offset in characters, log-probability (None: the first), and alternatives."""

    text: str
    offset: int
    logprob: float | None
    alternatives: tuple[Alternative, ...]


class Piece(NamedTuple):
    """What a choice has next: text, tokens where they were asked for, and how many were generated."""

    text: str
    tokens: tuple[Token, ...] = ()
    generated: int = 0
    prompt_tokens: int = 0
    seed: int | None = None
    finish_reason: str | None = None


@dataclass(frozen=True)
class Choice:
    """What is asked for.

    Attributes:
        request: the prompt, and how to continue it.
        echo: give the prompt first.
        generates: whether anything is to be generated.
    """

    request: CompletionRequest
    echo: bool = False
    generates: bool = True

    @property
    def scores(self) -> bool:
        """Whether the prompt's tokens are needed."""
        request = self.request
        return not self.generates or (self.echo and (request.logprobs is not None or request.prompt_ids is not None))

    def open(self, backend: SwappableBackend) -> Generator[Piece, None, None]:
        """Queue the work at once.

        Raises:
            GPTError: as the backend's `stream` and `score`, at once.
        """
        scores = backend.score(self.request) if self.scores else None
        try:
            chunks = backend.stream(self.request) if self.generates else None
        except BaseException:
            if scores is not None:
                scores.close()
            raise
        pieces = self._pieces(scores, chunks)
        next(pieces)
        return pieces

    def _pieces(
        self,
        scores: Generator[tuple[ScoredToken, ...], None, None] | None,
        chunks: Generator[CompletionChunk, None, None] | None,
    ) -> Generator[Piece, None, None]:
        """A first piece for `open`, so that closing it frees its place, and then the choice's."""
        try:
            yield Piece("")
            offset = 0
            if scores is not None:
                prompt = [token for batch in scores for token in batch]
                piece = self._prompt(prompt)
                offset = len(piece.text)
                yield piece
            elif self.echo:
                offset = len(self.request.prompt)
                yield Piece(self.request.prompt)
            if chunks is not None:
                for chunk in chunks:
                    yield _generated(chunk, offset)
                    offset += len(chunk.text)
        finally:
            for part in (scores, chunks):
                if part is not None:
                    part.close()

    def _prompt(self, prompt: list[ScoredToken]) -> Piece:
        tokens: tuple[Token, ...] = ()
        if self.echo and self.request.logprobs is not None:
            tokens = tuple(Token(one.text, one.offset, one.logprob, one.alternatives) for one in prompt)
        return Piece(
            (self.request.prompt or "".join(one.text for one in prompt)) if self.echo else "",
            tokens,
            prompt_tokens=len(prompt),
            finish_reason=None if self.generates else "length",
        )


def open_all(backend: SwappableBackend, choices: list[Choice]) -> list[Generator[tuple[int, Piece], None, None]]:
    """Queue all choices, so that they run together, or none; each then yields its number with its pieces."""
    opened: list[Generator[Piece, None, None]] = []
    try:
        for choice in choices:
            opened.append(choice.open(backend))
    except BaseException:
        for pieces in opened:
            pieces.close()
        raise
    return [_numbered(number, pieces) for number, pieces in enumerate(opened)]


def _numbered(number: int, pieces: Generator[Piece, None, None]) -> Generator[tuple[int, Piece], None, None]:
    try:
        for piece in pieces:
            yield number, piece
    finally:
        pieces.close()


def _generated(chunk: CompletionChunk, offset: int) -> Piece:
    """The chunk; of its tokens those that have a part in its text, which a stop string's have not."""
    spelt = "".join(token.text for token in chunk.logprobs).startswith(chunk.text)
    tokens, start = [], 0
    for token in chunk.logprobs:
        if start < len(chunk.text) or not token.text:
            tokens.append(Token(token.text, offset + start if spelt else offset, token.logprob, token.alternatives))
        if spelt:  # else they are parts of one character, or of several
            start += len(token.text)
    return Piece(chunk.text, tuple(tokens), len(chunk.token_ids), chunk.prompt_tokens, chunk.seed, chunk.finish_reason)
