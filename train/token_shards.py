"""TokenShards: a long sequence of tokens in files that are mapped into memory, and need not fit in it.

    index.json       the shards in their order: tokens, SHA-256; the tokenizer's hash; whether all are there
    00000.bin ...    tokens of the training part, little-endian, two bytes each, or four for a large vocabulary
    validation.bin   those of the validation part, behind the training part's last one

A shard is written beside and renamed, and the index after it: a preparation that is killed goes on behind the last
shard that the index has.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpt.atomic import partial_of, write_file
from gpt.errors import CorpusError
from gpt.tokenizer import Tokenizer

INDEX_FILE, VALIDATION_FILE = "index.json", "validation.bin"
SHARD_TOKENS = 1 << 26
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Shard:
    """A file of tokens.

    Attributes:
        file: its name.
        tokens: in it.
        sha256: of its bytes.
        characters: of the text that they are.
    """

    file: str
    tokens: int
    sha256: str
    characters: int


@dataclass
class ShardIndex:
    """What index.json holds.

    Attributes:
        tokenizer: its hash; see `tokenizer_hash`.
        dtype: "uint16" or "uint32".
        shards: of the training part, in their order.
        validation: of the validation part; None until everything is there.
    """

    tokenizer: str
    dtype: str
    shards: list[Shard] = field(default_factory=list)
    validation: Shard | None = None

    @classmethod
    def read(cls, folder: Path) -> ShardIndex | None:
        """The index in a folder; None if there is none, or it is damaged."""
        try:
            fields: Any = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
            fields["shards"] = [Shard(**shard) for shard in fields["shards"]]
            fields["validation"] = fields["validation"] and Shard(**fields["validation"])
            return cls(**fields)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, folder: Path) -> None:
        """Put it into its folder, whole; OSError if that cannot be done."""
        write_file(folder / INDEX_FILE, json.dumps(asdict(self), indent=1) + "\n")


class TokenShards:
    """The tokens of some shards as one sequence.

    Args:
        folder: of the shards.
        index: which they are.
    """

    def __init__(self, folder: Path, index: ShardIndex) -> None:
        self._maps = [np.memmap(folder / shard.file, dtype=_stored(index.dtype), mode="r") for shard in index.shards]
        self._ends = np.cumsum([len(part) for part in self._maps])

    def __len__(self) -> int:
        """The number of tokens."""
        return int(self._ends[-1])

    def __getitem__(self, positions: Tensor, /) -> Tensor:
        """The tokens at these positions, of the same shape, int64."""
        flat = positions.flatten().numpy()
        numbers = np.searchsorted(self._ends, flat, side="right")
        found = np.empty(len(flat), dtype=np.int64)
        for number in np.unique(numbers):
            inside = numbers == number
            start = self._ends[number] - len(self._maps[number])
            found[inside] = self._maps[number][flat[inside] - start]
        return torch.from_numpy(found).view(positions.shape)


def write_shards(
    folder: Path, index: ShardIndex, pieces: Iterable[str], tokenizer: Tokenizer, shard_tokens: int = SHARD_TOKENS
) -> Iterable[int]:
    """Encode a text into shards, those that the index has already left out; yields the characters done, piece by piece.

    Args:
        folder: where to.
        index: told each shard, and written after it.
        pieces: the whole text, in the same pieces each time.
        tokenizer: encodes.
        shard_tokens: a shard ends with the piece that reaches so many.

    Raises:
        OSError: a file cannot be written.
        UnknownCharacterError: the text has a character without a token.
    """
    written = sum(shard.characters for shard in index.shards)
    waiting: list[np.ndarray] = []
    done = characters = 0

    def end_shard() -> None:
        nonlocal characters
        if waiting:
            index.shards.append(_write(folder, f"{len(index.shards):05}.bin", waiting, characters))
            index.write(folder)
        waiting.clear()
        characters = 0

    for piece in pieces:
        done += len(piece)
        if done > written:
            waiting.append(np.array(tokenizer.encode(piece), dtype=_stored(index.dtype)))
            characters += len(piece)
            if sum(len(part) for part in waiting) >= shard_tokens:
                end_shard()
        yield done
    end_shard()


def write_validation(folder: Path, index: ShardIndex, tokens: Tensor, characters: int) -> None:
    """Write the validation part's tokens and complete the index; OSError if that cannot be done."""
    index.validation = _write(folder, VALIDATION_FILE, [tokens.numpy().astype(_stored(index.dtype))], characters)
    index.write(folder)


def read_validation(folder: Path, index: ShardIndex) -> Tensor:
    """The validation part's tokens, (n + 1,) int64."""
    stored = np.fromfile(folder / VALIDATION_FILE, dtype=_stored(index.dtype))
    return torch.from_numpy(stored.astype(np.int64))


def check_shards(folder: Path, index: ShardIndex) -> None:
    """Raise CorpusError unless every file that a complete index names is there, with its length and its hash."""
    for shard in [*index.shards, *([index.validation] if index.validation else [])]:
        path = folder / shard.file
        try:
            right = path.stat().st_size == shard.tokens * np.dtype(index.dtype).itemsize and _hash(path) == shard.sha256
        except OSError:
            right = False
        if not right:
            raise CorpusError(f"{path} is missing or damaged; delete the folder {folder}, and it is made again")


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """What two tokenizers share only if they give the same tokens: the SHA-256 of their saved files."""
    with tempfile.TemporaryDirectory() as name:
        tokenizer.save(Path(name))
        digest = hashlib.sha256()
        for path in sorted(Path(name).iterdir()):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def smallest_dtype(vocab_dim: int) -> str:
    """The smallest type that holds every token."""
    return "uint16" if vocab_dim <= 1 << 16 else "uint32"


def _stored(dtype: str) -> np.dtype:
    """The type as it is stored, the same on every machine."""
    return np.dtype(dtype).newbyteorder("<")


def _write(folder: Path, name: str, parts: list[np.ndarray], characters: int) -> Shard:
    path = folder / name
    partial = partial_of(path)
    digest, tokens = hashlib.sha256(), 0
    with partial.open("wb") as file:
        for part in parts:
            content = part.tobytes()
            file.write(content)
            digest.update(content)
            tokens += len(part)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    return Shard(name, tokens, digest.hexdigest(), characters)


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
