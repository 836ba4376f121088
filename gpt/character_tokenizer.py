"""CharacterTokenizer: one token a character."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gpt.errors import TokenizerError
from gpt.vocabulary import check_characters, check_ids, write_description


class CharacterTokenizer:
    """One token a character.

    Args:
        characters: the known characters in the order of their ids, each once.

    Raises:
        TokenizerError: there are none, or one stands twice.
    """

    kind = "character"

    def __init__(self, characters: str) -> None:
        if not characters or len(set(characters)) != len(characters):
            raise TokenizerError(f"characters is {characters!r}; give at least one character, and each only once")
        self._characters = characters
        self._ids = {character: token_id for token_id, character in enumerate(characters)}
        self.vocab_dim = len(characters)

    @classmethod
    def train(cls, text: str) -> CharacterTokenizer:
        """The tokenizer that knows the distinct characters of `text`, sorted."""
        return cls("".join(sorted(set(text))))

    def encode(self, text: str) -> list[int]:
        """One id a character; UnknownCharacterError at the first that is not known."""
        check_characters(text, self._ids)
        return [self._ids[character] for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        """The characters of `ids`."""
        check_ids(ids, self.vocab_dim)
        return "".join([self._characters[token_id] for token_id in ids])

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The characters of `ids` in UTF-8."""
        return self.decode(ids).encode()

    def save(self, folder: Path) -> None:
        """Write tokenizer.json."""
        write_description(folder, {"kind": self.kind, "vocab_dim": self.vocab_dim, "characters": self._characters})
