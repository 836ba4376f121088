"""Tokenizers: text to ids and back. GPT-2's byte-pair encoding, single characters, and a byte-pair encoding trained here.

A tokenizer is saved inside the checkpoint whose model was trained with it, whole: loading one asks neither the
network nor a cache. The libraries behind two of the kinds are imported when such a tokenizer is made, so that a
program that uses another kind does not wait for them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from gpt import gpt2_vocabulary
from gpt.errors import TokenizerError, UnknownCharacterError

TOKENIZER_FILE = "tokenizer.json"
VOCABULARY_FILE = gpt2_vocabulary.VOCABULARY_FILE
KINDS = ("gpt2", "character", "bpe")

# How a text is cut before a trained BPE merges: words with the space before them, runs of line breaks, and every
# other character alone. Together the pieces are the whole text.
BPE_SPLIT_PATTERN = r" ?[\p{L}\p{M}']+|\n+|[\s\S]"


class Tokenizer(Protocol):
    """What turns text into ids and ids into text.

    Ids outside 0 .. vocab_dim - 1 raise TokenizerError.
    """

    @property
    def kind(self) -> str:
        """One of KINDS."""
        ...

    @property
    def vocab_dim(self) -> int:
        """The number of tokens."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of `text`; UnknownCharacterError if it has a character without a token."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; bytes that are no whole character become U+FFFD."""
        ...

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The exact UTF-8 bytes of `ids`, which may begin or end inside a character."""
        ...

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files into `folder`, for `load_tokenizer`."""
        ...


class GPT2Tokenizer:
    """GPT-2's byte-pair encoding over bytes, run by tiktoken: 50,257 tokens, any text.

    `<|endoftext|>` in a text is characters like any others, never the special token 50256; decoding that id gives
    its name.

    Args:
        vocab_bpe: the bytes of the published `vocab.bpe`.

    Raises:
        TokenizerError: the bytes are not that file's.
    """

    kind = "gpt2"
    vocab_dim = gpt2_vocabulary.VOCAB_DIM

    def __init__(self, vocab_bpe: bytes) -> None:
        import tiktoken

        if not gpt2_vocabulary.is_published(vocab_bpe):
            raise TokenizerError(
                f"{gpt2_vocabulary.VOCABULARY_FILE} has {len(vocab_bpe):,} bytes that are not GPT-2's published vocabulary "
                f"(456,318 bytes, sha256 {gpt2_vocabulary.SHA256}); fetch it from {gpt2_vocabulary.URL}"
            )
        self._vocab_bpe = vocab_bpe
        self._encoding = tiktoken.Encoding(
            "gpt2",
            pat_str=gpt2_vocabulary.SPLIT_PATTERN,
            mergeable_ranks=gpt2_vocabulary.mergeable_ranks(vocab_bpe),
            special_tokens={gpt2_vocabulary.END_OF_TEXT: gpt2_vocabulary.END_OF_TEXT_ID},
            explicit_n_vocab=gpt2_vocabulary.VOCAB_DIM,
        )

    @classmethod
    def fetch(cls, checkpoints_root: Path, tiktoken_cache: Path | str | None = None) -> GPT2Tokenizer:
        """The tokenizer for a fresh run, its vocabulary found as in `gpt2_vocabulary.find_vocabulary`."""
        return cls(gpt2_vocabulary.find_vocabulary(checkpoints_root, tiktoken_cache))

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, taken as ordinary text."""
        return self._encoding.encode_ordinary(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; bytes that are no whole character become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The exact bytes of `ids`, which may begin or end inside a character."""
        _check_ids(ids, self.vocab_dim)
        return self._encoding.decode_bytes(ids)

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and the published vocabulary beside it."""
        (folder / gpt2_vocabulary.VOCABULARY_FILE).write_bytes(self._vocab_bpe)
        _write_description(folder, {"kind": self.kind, "vocab_dim": self.vocab_dim, "vocabulary": gpt2_vocabulary.VOCABULARY_FILE})


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
            raise TokenizerError(f"characters is {characters!r}; give at least one character, and each one only once")
        self._characters = characters
        self._ids = {character: index for index, character in enumerate(characters)}
        self.vocab_dim = len(characters)

    @classmethod
    def train(cls, text: str) -> CharacterTokenizer:
        """The tokenizer that knows the distinct characters of `text`, sorted."""
        return cls("".join(sorted(set(text))))

    def encode(self, text: str) -> list[int]:
        """One id a character; UnknownCharacterError at the first that is not known."""
        try:
            return [self._ids[character] for character in text]
        except KeyError:
            _raise_unknown_character(text, self._ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The characters of `ids`."""
        _check_ids(ids, self.vocab_dim)
        return "".join([self._characters[index] for index in ids])

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The characters of `ids` in UTF-8."""
        return self.decode(ids).encode()

    def save(self, folder: Path) -> None:
        """Write tokenizer.json."""
        _write_description(folder, {"kind": self.kind, "vocab_dim": self.vocab_dim, "characters": self._characters})


class BPETokenizer:
    """Byte-pair encoding over characters (Sennrich et al. 2016), trained on a corpus and run by Hugging Face's tokenizers.

    Nothing is normalised, added or dropped: `decode(encode(text)) == text` for every text of known characters.

    Args:
        vocabulary: each token's text, in the order of their ids; single characters are the known ones.
        merges: the pairs of tokens that become one, first learnt first.
        split_pattern: regular expression that cuts a text into the pieces within which tokens merge.

    Raises:
        TokenizerError: these do not make a tokenizer.
    """

    kind = "bpe"

    def __init__(self, vocabulary: Sequence[str], merges: Sequence[tuple[str, str]], split_pattern: str = BPE_SPLIT_PATTERN) -> None:
        import tokenizers

        ids = {piece: index for index, piece in enumerate(vocabulary)}
        if not ids or len(ids) != len(vocabulary):
            raise TokenizerError("the vocabulary of the trained BPE is empty or has a token twice; train it again")
        try:
            self._tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=ids, merges=list(merges)))
            self._tokenizer.pre_tokenizer = _splitter(split_pattern)
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(f"the trained BPE's files do not fit together ({error}); train it again") from error
        self._vocabulary = list(vocabulary)
        self._merges = list(merges)
        self._split_pattern = split_pattern
        self._characters = {piece for piece in vocabulary if len(piece) == 1}
        self.vocab_dim = len(vocabulary)

    @classmethod
    def train(cls, text: str, vocab_dim: int) -> BPETokenizer:
        """Learn a vocabulary of `vocab_dim` tokens from `text`: its characters, sorted, then the commonest merges.

        The same text gives the same tokenizer. A pair must occur twice to be merged.

        Raises:
            TokenizerError: vocab_dim is under the number of distinct characters, or over what the text can fill.
        """
        import tokenizers

        characters = sorted(set(text))
        if vocab_dim < len(characters):
            raise TokenizerError(
                f"vocab_dim is {vocab_dim}, but the text has {len(characters)} distinct characters, each of which needs a token; "
                f"give at least {len(characters)}"
            )
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = _splitter(BPE_SPLIT_PATTERN)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_dim, min_frequency=2, show_progress=False, special_tokens=[], initial_alphabet=characters
        )
        tokenizer.train_from_iterator([text], trainer)
        model = json.loads(tokenizer.to_str())["model"]
        if len(model["vocab"]) < vocab_dim:
            raise TokenizerError(
                f"vocab_dim is {vocab_dim}, but this text of {len(text):,} characters gives at most {len(model['vocab'])} tokens; "
                "give fewer, or a longer text"
            )
        return cls(sorted(model["vocab"], key=model["vocab"].__getitem__), [(left, right) for left, right in model["merges"]])

    def encode(self, text: str) -> list[int]:
        """The ids of `text`; UnknownCharacterError at the first character that is not known."""
        if not self._characters.issuperset(text):  # the library would drop it in silence
            _raise_unknown_character(text, self._characters)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The tokens of `ids`, joined."""
        _check_ids(ids, self.vocab_dim)
        return "".join([self._vocabulary[index] for index in ids])

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The tokens of `ids`, joined, in UTF-8."""
        return self.decode(ids).encode()

    def save(self, folder: Path) -> None:
        """Write tokenizer.json."""
        fields = {"split_pattern": self._split_pattern, "vocabulary": self._vocabulary, "merges": self._merges}
        _write_description(folder, {"kind": self.kind, "vocab_dim": self.vocab_dim, **fields})


def build_tokenizer(
    kind: str,
    text: str,
    vocab_dim: int | None = None,
    *,
    checkpoints_root: Path,
    tiktoken_cache: Path | str | None = None,
) -> Tokenizer:
    """The tokenizer of a fresh run.

    Args:
        kind: one of KINDS.
        text: the training part of the corpus.
        vocab_dim: number of tokens; a trained BPE needs it, the other kinds have their own and refuse another.
        checkpoints_root, tiktoken_cache: where GPT-2's vocabulary is looked for, as in `GPT2Tokenizer.fetch`.

    Raises:
        TokenizerError: the kind is unknown, vocab_dim does not fit it, or GPT-2's vocabulary is not to be had.
    """
    tokenizer: Tokenizer
    if kind == "bpe":
        if vocab_dim is None:
            raise TokenizerError("vocab_dim is not given; a trained BPE needs the number of tokens to learn, for example 1024")
        return BPETokenizer.train(text, vocab_dim)
    if kind == "gpt2":
        tokenizer = GPT2Tokenizer.fetch(checkpoints_root, tiktoken_cache)
    elif kind == "character":
        tokenizer = CharacterTokenizer.train(text)
    else:
        raise TokenizerError(f"the tokenizer's kind is {kind!r}; choose one of {', '.join(KINDS)}")
    if vocab_dim not in (None, tokenizer.vocab_dim):
        raise TokenizerError(
            f"vocab_dim is {vocab_dim}, but the {kind} tokenizer has {tokenizer.vocab_dim} tokens for this text; "
            "leave vocab_dim out, or choose the tokenizer bpe"
        )
    return tokenizer


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer that was saved in `folder`.

    Raises:
        TokenizerError: a file is missing or is not what `save` wrote.
    """
    path = Path(folder) / TOKENIZER_FILE
    try:
        description: Any = json.loads(path.read_text(encoding="utf-8"))
        kind = description["kind"]
        if kind == "gpt2":
            return GPT2Tokenizer((path.parent / gpt2_vocabulary.VOCABULARY_FILE).read_bytes())
        if kind == "character":
            return CharacterTokenizer(description["characters"])
        if kind == "bpe":
            merges = [(left, right) for left, right in description["merges"]]
            return BPETokenizer(description["vocabulary"], merges, description["split_pattern"])
    except OSError as error:
        raise TokenizerError(f"{error.filename} cannot be read ({error.strerror}); the checkpoint's tokenizer is incomplete") from error
    except (ValueError, TypeError, KeyError) as error:
        raise TokenizerError(f"{path} is not a saved tokenizer ({error!r}); copy the checkpoint again") from error
    raise TokenizerError(f"{path} has a tokenizer of kind {kind!r}; known are {', '.join(KINDS)}")


def read_kind(folder: Path | str) -> str:
    """The kind of the tokenizer saved in `folder`, without loading it.

    Raises:
        TokenizerError: there is none, or its kind is unknown.
    """
    path = Path(folder) / TOKENIZER_FILE
    try:
        kind = json.loads(path.read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TokenizerError(f"{path} is not a saved tokenizer ({error!r}); copy the checkpoint again") from error
    if kind not in KINDS:
        raise TokenizerError(f"{path} has a tokenizer of kind {kind!r}; known are {', '.join(KINDS)}")
    return str(kind)


def _splitter(pattern: str) -> Any:
    """A pre-tokenizer of the library that cuts at every match of `pattern` and keeps all of the text."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


def _write_description(folder: Path, description: dict[str, Any]) -> None:
    (folder / TOKENIZER_FILE).write_text(json.dumps(description, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _check_ids(ids: Sequence[int], vocab_dim: int) -> None:
    """Raise TokenizerError unless every id is in the vocabulary; a negative one would count from its end."""
    for index in ids:
        if not 0 <= index < vocab_dim:
            raise TokenizerError(f"token id {index} is not in the vocabulary; ids go from 0 to {vocab_dim - 1}")


def _raise_unknown_character(text: str, known: set[str] | dict[str, int]) -> NoReturn:
    """Raise UnknownCharacterError for the first character of `text` that is not in `known`."""
    position, character = next((n, c) for n, c in enumerate(text) if c not in known)
    allowed = "".join(sorted(known))
    shown = repr(allowed) if len(allowed) <= 200 else f"{allowed[:200]!r} and {len(allowed) - 200} more"
    raise UnknownCharacterError(
        f"the text has {character!r} (U+{ord(character):04X}) at position {position + 1}, which this vocabulary has no token for; "
        f"leave it out or replace it; the {len(allowed)} known characters are {shown}"
    )
