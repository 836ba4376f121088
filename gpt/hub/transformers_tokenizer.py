"""A checkpoint's tokenizer as transformers loads one: tokenizer.json in the format of the library tokenizers.

The ids are the same for every text of known characters, `<|endoftext|>` typed by a user included: it is characters
there too, no special token. A character that the vocabulary lacks is an error here; there it is passed over.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpt.gpt2_tokenizer import END_OF_TEXT, END_OF_TEXT_ID, VOCABULARY_FILE
from gpt.tokenizer import Tokenizer
from gpt.vocabulary import TOKENIZER_FILE

SETTINGS_FILE = "tokenizer_config.json"


def save_transformers_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write the files that AutoTokenizer loads into `folder`; `context` is the longest input, in tokens."""
    tokenizer.save(folder)  # what it is made from, some of it in files that take another name there
    description = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
    if tokenizer.kind == "gpt2":
        vocabulary_file = folder / VOCABULARY_FILE
        converted = _byte_level(vocabulary_file.read_text(encoding="utf-8"))
        vocabulary_file.unlink()
    elif tokenizer.kind == "bpe":
        converted = _character_level(description["vocabulary"], description["merges"], description["split_pattern"])
    else:
        converted = _character_level(list(description["characters"]), [], None)
    converted.save(str(folder / TOKENIZER_FILE))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _byte_level(vocab_bpe: str) -> Any:
    """GPT-2's byte pairs from its published vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    _version, *lines = vocab_bpe.splitlines()
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
    # In this order, which is that of the ids, the visible bytes come first.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda character: (ord(character) > 0xFF, character))
    tokens = [*alphabet, *("".join(merge) for merge in merges)]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)} | {END_OF_TEXT: END_OF_TEXT_ID}
    found = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    found.decoder = decoders.ByteLevel()
    return found


def _character_level(vocabulary: list[str], merges: list[list[str]], split_pattern: str | None) -> Any:
    """Byte pairs over characters; without merges, single characters."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    ids = {token: token_id for token_id, token in enumerate(vocabulary)}
    found = Tokenizer(models.BPE(vocab=ids, merges=[(left, right) for left, right in merges]))
    pattern = r"[\s\S]" if split_pattern is None else split_pattern
    found.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    found.decoder = decoders.Fuse()
    return found
