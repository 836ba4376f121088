"""A conversation's messages, as the play that the model continues."""

from __future__ import annotations

from collections.abc import Sequence

from gpt.api.message import Message
from gpt.api.refusal import Refusal
from gpt.errors import UnknownCharacterError
from gpt.play import play, speaker_name, speech

USER = "ROMEO"
ASSISTANT = "JULIET"
"""Who speaks where messages have no names: the two with whom the page's dialogue begins."""


def unknown_character(messages: Sequence[Message], error: UnknownCharacterError) -> Exception:
    """The error as one who sent messages can read it: which of them has the character, not where the play has it."""
    character = error.character
    for number, message in enumerate(messages):
        for field, words in (("content", message.words()), ("name", message.name or "")):
            if character and character in words:
                place = f"messages[{number}].{field}"
                return Refusal(
                    400,
                    f"{place} has {character!r} (U+{ord(character):04X}), for which the vocabulary has no token; leave "
                    "it out, replace it or use a model with GPT-2's vocabulary",
                    place,
                )
    return error


def prompt(messages: Sequence[Message]) -> str:
    """The play up to the assistant's next speech.

    A system message stands before the speeches as it is. A message's name is its speaker; the last name that a role
    had stays until it gets another.
    """
    speakers = {"user": USER, "assistant": ASSISTANT}
    turns: list[tuple[str, str]] = []
    for message in messages:
        words = speech(message.words())
        if message.role in ("system", "developer"):
            turns.append(("", words))
            continue
        speakers[message.role] = speaker_name(message.name or "") or speakers[message.role]
        turns.append((f"{speakers[message.role]}:\n", words))
    return play([*turns, (f"{speakers['assistant']}:\n", "")])
