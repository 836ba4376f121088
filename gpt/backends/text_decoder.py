"""TextDecoder: tokens to text as they come, whole characters only, ended by stop strings."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence


class TextDecoder:
    """Turns token after token into text that is settled.

    Text is settled up to the end of a token if that is also the end of a character, and if no stop string can begin
    before it; so each piece of text is exactly that of some whole tokens. The text ends before the stop string that is
    complete first (of two that end together, the longer one), however the tokens cut it. Bytes that are no UTF-8
    become U+FFFD, as in `bytes.decode(errors="replace")`.

    Args:
        decode_bytes: the tokenizer's.
        stop: strings that end the text.

    Attributes:
        stopped: whether a stop string appeared; no token may follow then.
    """

    def __init__(self, decode_bytes: Callable[[Sequence[int]], bytes], stop: Sequence[str] = ()) -> None:
        self.stopped = False
        self._decode_bytes = decode_bytes
        self._stop = stop
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""  # not yet given
        self._tokens = 0  # whose text, or a part of it, was not yet given
        self._ends: list[tuple[int, int]] = []  # (tokens, characters) at the ends of tokens that are ends of characters

    def push(self, token_id: int) -> tuple[str, int]:
        """Add a token.

        Returns:
            the text that is settled now, and the number of tokens whose text it is: both empty while it must wait.
            When a stop string appeared: what stands before it, and all tokens that were not given yet.
        """
        self._text += self._utf8.decode(self._decode_bytes([token_id]))
        self._tokens += 1
        if not self._utf8.getstate()[0]:  # no character is incomplete
            self._ends.append((self._tokens, len(self._text)))
        if self._find_stop():
            return self._give(self._tokens, len(self._text))
        settled = len(self._text) - self._possible_stop()
        tokens, characters = max((end for end in self._ends if end[1] <= settled), default=(0, 0))
        return self._give(tokens, characters) if characters else ("", 0)

    def finish(self) -> tuple[str, int]:
        """Give what is left, as `push` does: nothing follows that could make it a character or a stop string."""
        self._text += self._utf8.decode(b"", final=True)
        self._find_stop()
        return self._give(self._tokens, len(self._text))

    def _find_stop(self) -> bool:
        """Cut the text at the stop string that is complete first."""
        starts = ((self._text.find(stop), stop) for stop in self._stop)
        ends = [(start + len(stop), start) for start, stop in starts if start >= 0]
        if ends:
            self.stopped = True
            self._text = self._text[: min(ends)[1]]
        return self.stopped

    def _possible_stop(self) -> int:
        """Characters at the text's end with which a stop string may begin."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self._text)), longest, -1):
                if self._text.endswith(stop[:length]):
                    longest = length
                    break
        return longest

    def _give(self, tokens: int, characters: int) -> tuple[str, int]:
        text, self._text = self._text[:characters], self._text[characters:]
        self._tokens -= tokens
        self._ends = [(t - tokens, c - characters) for t, c in self._ends if t > tokens]
        return text, tokens
