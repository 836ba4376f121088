"""What every tokenizer's vocabulary does: check ids and characters, and write itself down."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt.errors import TokenizerError, UnknownCharacterError

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

TOKENIZER_FILE = "tokenizer.json"

_SHOWN_CHARACTERS = 200
_NAMED_STRANGERS = 5


def splitter(pattern: str) -> PreTokenizer:
    """What cuts a text at every match of the regular expression and keeps all of it."""
    import tokenizers

    return tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated")


def check_ids(ids: Sequence[int], vocab_dim: int) -> None:
    """Raise TokenizerError unless every id is in 0 .. vocab_dim - 1; Python would count a negative one from the end."""
    for token_id in ids:
        if not 0 <= token_id < vocab_dim:
            raise TokenizerError(f"token id {token_id} is not in the vocabulary; ids go from 0 to {vocab_dim - 1}")


def check_characters(text: str, known: Collection[str]) -> None:
    """Raise UnknownCharacterError, which shows them, if the text has characters that are not in `known`."""
    unknown: dict[str, int] = {}
    for position, character in enumerate(text, start=1):
        if character not in known:
            unknown.setdefault(character, position)
    if not unknown:
        return
    shown = [
        f"{character!r} (U+{ord(character):04X}) at position {position}" for character, position in unknown.items()
    ]
    named = ", ".join(shown[:_NAMED_STRANGERS])
    if len(shown) > _NAMED_STRANGERS:
        named += f" and {len(shown) - _NAMED_STRANGERS} other characters"
    allowed = "".join(sorted(known))
    hidden = len(allowed) - _SHOWN_CHARACTERS
    raise UnknownCharacterError(
        f"the text has {named}, for which the vocabulary has no token; leave it out, replace it or use a model with "
        f"GPT-2's vocabulary; the {len(allowed)} known characters are {allowed[:_SHOWN_CHARACTERS]!r}"
        + (f" and {hidden} more" if hidden > 0 else ""),
        next(iter(unknown)),
    )


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Write tokenizer.json for a person to read: a line for each field, characters as themselves."""
    fields = [f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in description.items()]
    (folder / TOKENIZER_FILE).write_text("{\n" + ",\n".join(fields) + "\n}\n", encoding="utf-8")
