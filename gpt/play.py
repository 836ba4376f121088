"""A conversation as a play has it: what the dialogue mode and the chat interface let the model continue."""

from __future__ import annotations

import re
from collections.abc import Sequence

# In a play an empty line ends a speech, and none has one inside: here the next speaker would begin.
END_OF_SPEECH = "\n\n"


def speaker_name(name: str) -> str:
    """The character's name as a play's heading has it; empty where nothing is left."""
    return " ".join(name.split()).strip(": ")


def speech(words: str) -> str:
    """A speech without the empty lines that would end it."""
    return re.sub(r"\n\s*\n", "\n", words.strip())


def play(turns: Sequence[tuple[str, str]]) -> str:
    r"""The turns, (heading, words) each, with an empty line between two; a heading is "NAME:\n", or empty.

    A turn that never got words is left out, unless it is the last.
    """
    kept = [turn for turn in turns[:-1] if turn[1].strip()] + list(turns[-1:])
    return END_OF_SPEECH.join(
        heading + words.strip("\n") if turn + 1 < len(kept) else heading + words
        for turn, (heading, words) in enumerate(kept)
    )
