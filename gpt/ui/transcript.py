"""Transcript: what a token view shows, as text that only ever grows.

The text is lines of JSON, one piece a line, so that the server sends only what is new and the browser draws only that:

    {"plain": "ROMEO:"}                          text that the model did not write
    {"speaker": "JULIET", "side": "model"}       a speaker's turn begins; side is "visitor" or "model"
    ["soft", -1.2, [["soft", -1.2], ...], 1]     text that the model wrote, its log-probability (nats, null where
                                                 unknown), the alternatives, the number of tokens (nearly always 1)
    {"seed": "7"}                                the seed in use, as text: JavaScript's numbers end at 2**53
    {"stats": [200, 85.1, 12.3]}                 tokens so far, tokens per second or null, perplexity or null
    {"end": "length"}                            the text is complete, and why
    {"title": "laptop", "figure": "1.423 nats"}  who writes this text, where two are compared; figure may be empty
    {"tokenizer": "bpe 0123abcd"}                what cuts it into tokens, where two are compared and that is known
    {"note": "The prompt has ..."}               why it is not written, or not to its end, where two are compared
    {"differs": [3, 4]}                          the pieces of the model's that the other text lacks

The browser sends the same text back when the visitor continues from an alternative or says the next line, so the
server holds no conversation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from gpt.completion import CompletionChunk
from gpt.errors import RequestError
from gpt.play import play


class Piece(NamedTuple):
    """Text that the model wrote: its log-probability (nats, None where unknown), alternatives, number of tokens."""

    text: str
    logprob: float | None
    alternatives: list[list[Any]]
    tokens: int


class Transcript:
    """The pieces of a text or a conversation.

    Attributes:
        value: the lines, as the token view takes them.

    Raises:
        RequestError: the value given is not such lines.
    """

    def __init__(self, value: str | None = None) -> None:
        self.value = ""
        self._lines: list[Any] = []
        for line in filter(None, (value or "").split("\n")):
            try:
                self._add(_checked(json.loads(line)))
            except (ValueError, TypeError) as error:
                raise RequestError("the text on the page cannot be read back; press Clear and start again") from error

    def add_plain(self, text: str) -> None:
        """Append text that the model did not write."""
        self._add({"plain": text})

    def add_speaker(self, name: str, *, visitor: bool) -> None:
        """Begin a speaker's turn."""
        self._add({"speaker": name, "side": "visitor" if visitor else "model"})

    def add_seed(self, seed: int) -> None:
        """Show the seed in use."""
        self._add({"seed": str(seed)})

    def add_end(self, reason: str) -> None:
        """Mark the text as complete."""
        self._add({"end": reason})

    def add_title(self, name: str, figure: str) -> None:
        """Name the checkpoint that writes, and its validation figure."""
        self._add({"title": name, "figure": figure})

    def add_tokenizer(self, identity: str) -> None:
        """Say what cuts the text into tokens; nothing is drawn for it."""
        self._add({"tokenizer": identity})

    def add_note(self, words: str) -> None:
        """Say why the text ends here."""
        self._add({"note": words})

    def add_differing(self, places: list[int]) -> None:
        """Mark the model's pieces that the text beside this one lacks."""
        self._add({"differs": places})

    def add_stats(self, tokens_per_second: float | None) -> None:
        """Show the number of tokens, their rate and their perplexity, exp of the mean negative log-probability."""
        pieces = list(self.pieces())
        known = [(piece.logprob, piece.tokens) for piece in pieces if piece.logprob is not None]
        tokens = sum(number for _, number in known)
        perplexity = math.exp(min(-sum(logprob for logprob, _ in known) / tokens, 700)) if tokens else None
        rate = None if tokens_per_second is None else round(tokens_per_second, 1)
        self._add({"stats": [sum(piece.tokens for piece in pieces), rate, perplexity and round(perplexity, 2)]})

    def add_chunk(self, chunk: CompletionChunk) -> None:
        """Append what the model wrote, token by token where the tokens spell the chunk's text."""
        for piece in _pieces(chunk):
            self._add([piece.text, piece.logprob, piece.alternatives, piece.tokens])

    def pieces(self) -> Iterator[Piece]:
        """What the model wrote."""
        return (Piece(*line) for line in self._lines if isinstance(line, list))

    def tokenizer(self) -> str:
        """What cuts the text into tokens; empty where that is not known."""
        return next((str(line["tokenizer"]) for line in self._lines if "tokenizer" in line), "")

    def prompt(self) -> str:
        r"""All text so far, in the form that the model continues.

        A turn is written as in a play, "NAME:\nwords"; see `gpt.play.play`.
        """
        turns: list[list[str]] = [["", ""]]
        for line in self._lines:
            if isinstance(line, list):
                turns[-1][1] += line[0]
            elif "plain" in line:
                turns[-1][1] += line["plain"]
            elif "speaker" in line:
                turns.append([f"{line['speaker']}:\n", ""])
        return play([(heading, words) for heading, words in turns])

    def branch(self, token: int, alternative: int) -> Transcript:
        """The transcript up to the model's piece number `token`, with one of its alternatives in its place.

        Raises:
            RequestError: there is no such piece, or it has no such alternative.
        """
        branched = Transcript()
        seen = 0
        for line in self._lines:
            if not isinstance(line, list):
                if not {"seed", "stats", "end", "note", "differs"} & set(line):
                    branched._add(line)
                continue
            if seen == token:
                piece = Piece(*line)
                if not 0 <= alternative < len(piece.alternatives):
                    break
                text, logprob = piece.alternatives[alternative]
                branched._add([text, logprob, piece.alternatives, 1])
                return branched
            branched._add(line)
            seen += 1
        raise RequestError("that alternative is no longer on the page; choose another")

    def _add(self, line: Any) -> None:
        self._lines.append(line)
        # No "<" in the text: whatever a model writes, it is never taken for a tag on its way to the page.
        self.value += json.dumps(line, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c") + "\n"


def _checked(line: Any) -> Any:
    """The line, when it is one that a transcript has; the value comes back from a browser."""
    if isinstance(line, list):
        text, logprob, alternatives, tokens = line
        pairs = all(isinstance(word, str) and isinstance(number, (int, float)) for word, number in alternatives)
        if isinstance(text, str) and isinstance(logprob, int | float | None) and pairs and isinstance(tokens, int):
            return line
    elif isinstance(line, dict) and len(line) in (1, 2):
        name, content = next(iter(line.items()))
        texts = ("plain", "speaker", "seed", "end", "title", "tokenizer", "note")
        if name in ("stats", "differs") or (name in texts and isinstance(content, str)):
            return line
    raise ValueError("not a line of a transcript")


def _pieces(chunk: CompletionChunk) -> Iterator[Piece]:
    """The chunk's text, split into its tokens where they spell it; a stop string may have cut the last ones short."""
    if not chunk.text:
        return
    if not "".join(token.text for token in chunk.logprobs).startswith(chunk.text):
        # Tokens that hold parts of one character, or no log-probabilities at all: one piece, the first's alternatives.
        logprobs = [token.logprob for token in chunk.logprobs]
        alternatives = _alternatives(chunk, 0) if chunk.logprobs else []
        yield Piece(chunk.text, sum(logprobs) if logprobs else None, alternatives, max(1, len(chunk.token_ids)))
        return
    rest = chunk.text
    for number, token in enumerate(chunk.logprobs):
        text, rest = rest[: len(token.text)], rest[len(token.text) :]
        if text:
            yield Piece(text, _rounded(token.logprob), _alternatives(chunk, number), 1)


def _alternatives(chunk: CompletionChunk, number: int) -> list[list[Any]]:
    return [[alternative.text, _rounded(alternative.logprob)] for alternative in chunk.logprobs[number].alternatives]


def _rounded(logprob: float) -> float:
    """Four decimals are enough to show; minus infinity, which JSON lacks, becomes a probability of nearly nothing."""
    return round(max(logprob, -99.0), 4)
