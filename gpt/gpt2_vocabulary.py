"""GPT-2's published vocabulary file: where it is found, and the ranks of its tokens.

`vocab.bpe` lists the 50,000 merges of GPT-2's byte-pair encoding (Radford et al. 2019), one a line, in the order
in which they were learnt. It writes bytes as visible characters, by a table that starts with the bytes that are
printable in Latin-1 and gives the others the characters from U+0100 on.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from gpt.download import download
from gpt.errors import TokenizerError

VOCABULARY_FILE = "vocab.bpe"
URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe"
SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 50256
VOCAB_DIM = 50257

# How GPT-2 cuts a text into pieces before merging: English clitics, then words, numbers and marks with the space
# before them, then white space, of which the last space before a word is left to the word.
SPLIT_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def is_published(vocab_bpe: bytes) -> bool:
    """Whether these bytes are GPT-2's vocabulary file, by their hash."""
    return hashlib.sha256(vocab_bpe).hexdigest() == SHA256


def find_vocabulary(checkpoints_root: Path, tiktoken_cache: Path | str | None = None) -> bytes:
    """GPT-2's `vocab.bpe`: from a local checkpoint, else from tiktoken's cache, else from the network.

    Args:
        checkpoints_root: folder of checkpoints; any of them that has the file will do.
        tiktoken_cache: a folder in which tiktoken caches its downloads (what TIKTOKEN_CACHE_DIR names).

    Raises:
        TokenizerError: it is nowhere to be had; the message says what to put where.
    """
    candidates = sorted(checkpoints_root.glob(f"*/{VOCABULARY_FILE}")) + sorted(checkpoints_root.glob(f"*/best/{VOCABULARY_FILE}"))
    if tiktoken_cache:
        # tiktoken names a cached file by the SHA-1 of its address
        candidates.append(Path(tiktoken_cache) / hashlib.sha1(URL.encode(), usedforsecurity=False).hexdigest())
    for candidate in candidates:
        try:
            vocab_bpe = candidate.read_bytes()
        except OSError:
            continue
        if is_published(vocab_bpe):
            return vocab_bpe
    try:
        return download(URL, sha256=SHA256)
    except OSError as error:
        raise TokenizerError(
            f"GPT-2's vocabulary is in no checkpoint under {checkpoints_root}, and {error}; fetch that address on a machine "
            f"with a network and save it as {checkpoints_root / 'gpt2' / VOCABULARY_FILE} (456,318 bytes, sha256 {SHA256}), "
            "or train with another tokenizer"
        ) from error


def mergeable_ranks(vocab_bpe: bytes) -> dict[bytes, int]:
    """Each token's bytes with its rank, which is also its id: the 256 bytes, then one token a merge, in file order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    byte_of = {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}
    ranks = {bytes([byte]): rank for rank, byte in enumerate(printable + others)}
    _version, *merges = vocab_bpe.decode("utf-8").splitlines()
    for rank, merge in enumerate(merges, start=256):
        ranks[bytes(byte_of[character] for character in merge.replace(" ", ""))] = rank
    return ranks
