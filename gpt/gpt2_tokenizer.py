"""GPT2Tokenizer: GPT-2's byte-pair encoding, from its published vocabulary file.

`vocab.bpe` lists the 50,000 merges of GPT-2's byte-pair encoding (Radford et al. 2019, section 2.2), one a line, in
the order in which they were learnt. It writes bytes as visible characters, by a table that starts with the bytes that
are printable in Latin-1 and gives the others the characters from U+0100 on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from gpt.download import download
from gpt.errors import TokenizerError
from gpt.vocabulary import check_ids, splitter, write_description

VOCABULARY_FILE = "vocab.bpe"
URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe"
SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 50256

# The bytes that the file writes as themselves, in the order of their ids, and those behind them.
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS = tuple(byte for byte in range(256) if byte not in _PRINTABLE)

# How GPT-2 cuts a text into pieces before merging: English clitics, then words, numbers and marks with the space
# before them, then white space, of which the last space before a word is left to the word.
SPLIT_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


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
    vocab_dim = 50257

    def __init__(self, vocab_bpe: bytes) -> None:
        import tiktoken

        if not _is_published(vocab_bpe):
            raise TokenizerError(
                f"{VOCABULARY_FILE} has {len(vocab_bpe):,} bytes that are not GPT-2's published vocabulary "
                f"(456,318 bytes, sha256 {SHA256}); fetch it from {URL}"
            )
        self._vocab_bpe = vocab_bpe
        self._encoding = tiktoken.Encoding(
            "gpt2",
            pat_str=SPLIT_PATTERN,
            mergeable_ranks=mergeable_ranks(vocab_bpe),
            special_tokens={END_OF_TEXT: END_OF_TEXT_ID},
            explicit_n_vocab=self.vocab_dim,
        )

    @classmethod
    def fetch(cls, checkpoints_root: Path, tiktoken_cache: Path | str | None = None) -> GPT2Tokenizer:
        """The tokenizer for a fresh run; its vocabulary is looked for nearby, and fetched only if it is not there.

        Args:
            checkpoints_root: folder of checkpoints; any of them that has the file will do.
            tiktoken_cache: a folder in which tiktoken keeps its downloads (what TIKTOKEN_CACHE_DIR names).

        Raises:
            TokenizerError: the vocabulary is nowhere to be had; the message says what to put where.
        """
        candidates = sorted(checkpoints_root.glob(f"*/{VOCABULARY_FILE}"))
        candidates += sorted(checkpoints_root.glob(f"*/best/{VOCABULARY_FILE}"))
        if tiktoken_cache:
            # tiktoken names what it keeps by the SHA-1 of its address
            candidates.append(Path(tiktoken_cache) / hashlib.sha1(URL.encode(), usedforsecurity=False).hexdigest())
        for candidate in candidates:
            try:
                vocab_bpe = candidate.read_bytes()
            except OSError:
                continue
            if _is_published(vocab_bpe):
                return cls(vocab_bpe)
        try:
            return cls(download(URL, sha256=SHA256))
        except OSError as error:
            raise TokenizerError(
                f"GPT-2's vocabulary is in no checkpoint under {checkpoints_root}, and {URL} could not be fetched "
                f"({error}); fetch it on a machine with a network and save it as "
                f"{checkpoints_root / 'gpt2' / VOCABULARY_FILE}, or choose another tokenizer"
            ) from error

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, taken as ordinary text."""
        return self._encoding.encode_ordinary(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; bytes that are no whole character become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The exact bytes of `ids`, which may begin or end inside a character."""
        check_ids(ids, self.vocab_dim)
        return self._encoding.decode_bytes(ids)

    def merge_rules(self) -> list[tuple[int, int, int]]:
        """The ids of a left and a right token and of the one that they become, the first learnt first."""
        ranks = mergeable_ranks(self._vocab_bpe)
        return [(ranks[left], ranks[right], ranks[left + right]) for left, right in _merges(self._vocab_bpe)]

    def unmerged(self, text: str) -> tuple[list[int], list[int]]:
        """The ids of the bytes of `text`, and how many of them each piece has within which tokens merge."""
        ids = {byte: token_id for token_id, byte in enumerate([*_PRINTABLE, *_OTHERS])}
        pieces = [piece.encode() for piece, _ in splitter(SPLIT_PATTERN).pre_tokenize_str(text)]
        return [ids[byte] for piece in pieces for byte in piece], [len(piece) for piece in pieces]

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, and the published vocabulary beside it."""
        (folder / VOCABULARY_FILE).write_bytes(self._vocab_bpe)
        write_description(folder, {"kind": self.kind, "vocab_dim": self.vocab_dim, "vocabulary": VOCABULARY_FILE})

    @classmethod
    def load(cls, folder: Path) -> GPT2Tokenizer:
        """The tokenizer whose `save` wrote the vocabulary in `folder`."""
        return cls((folder / VOCABULARY_FILE).read_bytes())


def mergeable_ranks(vocab_bpe: bytes) -> dict[bytes, int]:
    """Each token's bytes with its rank, which is also its id: the 256 bytes, then one token a merge, in file order."""
    ranks = {bytes([byte]): rank for rank, byte in enumerate([*_PRINTABLE, *_OTHERS])}
    for rank, (left, right) in enumerate(_merges(vocab_bpe), start=256):
        ranks[left + right] = rank
    return ranks


def _merges(vocab_bpe: bytes) -> list[tuple[bytes, bytes]]:
    """The bytes of each merge's left and right token, in file order."""
    byte_of = {chr(byte): byte for byte in _PRINTABLE} | {chr(0x100 + n): byte for n, byte in enumerate(_OTHERS)}
    _version, *lines = vocab_bpe.decode("utf-8").splitlines()
    pairs = (line.split(" ") for line in lines)
    return [(bytes(byte_of[c] for c in left), bytes(byte_of[c] for c in right)) for left, right in pairs]


def _is_published(vocab_bpe: bytes) -> bool:
    return hashlib.sha256(vocab_bpe).hexdigest() == SHA256
