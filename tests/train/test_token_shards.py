"""Tokens in files: the same as in memory, whatever the shards; made once, gone on with, and verified."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from gpt.bpe_tokenizer import BPETokenizer
from gpt.character_tokenizer import CharacterTokenizer
from gpt.errors import CorpusError
from train.dataset import WindowSampler
from train.encoding import cut_pieces, encode_text
from train.token_shards import (
    INDEX_FILE,
    ShardIndex,
    TokenShards,
    check_shards,
    read_validation,
    smallest_dtype,
    tokenizer_hash,
    write_shards,
    write_validation,
)

TEXT = "the cat sat on the mat and the dog looked on while a bird sang.\n" * 60
TOKENIZER = CharacterTokenizer.train(TEXT)


def make(folder: Path, shard_tokens: int = 1000, dtype: str = "uint16") -> ShardIndex:
    folder.mkdir(exist_ok=True)
    index = ShardIndex.read(folder) or ShardIndex(tokenizer_hash(TOKENIZER), dtype)
    for _ in write_shards(folder, index, cut_pieces([TEXT], 300), TOKENIZER, shard_tokens):
        pass
    write_validation(folder, index, torch.tensor([3, 1, 2]), 2)
    return index


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_shards_are_the_tokens_of_the_whole_text(tmp_path: Path, dtype: str) -> None:
    index = make(tmp_path, dtype=dtype)
    shards, tokens = TokenShards(tmp_path, index), encode_text(TOKENIZER, TEXT)
    assert len(index.shards) > 2 and len(shards) == len(tokens)
    assert torch.equal(shards[torch.arange(len(tokens))], tokens)
    positions = torch.tensor([[0, len(tokens) - 1], [index.shards[0].tokens - 1, index.shards[0].tokens]])
    assert torch.equal(shards[positions], tokens[positions])
    assert read_validation(tmp_path, index).tolist() == [3, 1, 2]
    assert sum(shard.characters for shard in index.shards) == len(TEXT)


def test_windows_are_those_of_a_tensor(tmp_path: Path) -> None:
    tokens = encode_text(TOKENIZER, TEXT)
    there, here = (WindowSampler(t, 16, 1) for t in (TokenShards(tmp_path, make(tmp_path)), tokens))
    for _ in range(40):  # over the end of a pass
        for one, other in zip(there.next_batch(8), here.next_batch(8), strict=True):
            assert torch.equal(one, other)


def test_preparation_that_was_killed_goes_on_behind_its_last_shard(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole")
    (part := tmp_path / "part").mkdir()
    index = ShardIndex(tokenizer_hash(TOKENIZER), "uint16")
    for _ in itertools.islice(write_shards(part, index, cut_pieces([TEXT], 300), TOKENIZER, 1000), 6):
        pass
    assert index.shards and (found := ShardIndex.read(part)) == index and found.validation is None
    first = (part / index.shards[0].file).stat().st_mtime_ns
    assert make(part) == whole
    assert (part / index.shards[0].file).stat().st_mtime_ns == first
    assert ShardIndex.read(part) == whole


@pytest.mark.parametrize("spoil", ["flip", "cut", "gone", "validation"])
def test_damage_is_found(tmp_path: Path, spoil: str) -> None:
    index = make(tmp_path)
    check_shards(tmp_path, index)
    path = tmp_path / ("validation.bin" if spoil == "validation" else index.shards[1].file)
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:] if spoil in ("flip", "validation") else content[:-2])
    if spoil == "gone":
        path.unlink()
    with pytest.raises(CorpusError, match=r"is missing or damaged; delete the folder .*, and it is made again"):
        check_shards(tmp_path, index)


def test_damaged_index_is_none(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / INDEX_FILE).write_text('{"shards": [{}]}')
    assert ShardIndex.read(tmp_path) is None
    assert ShardIndex.read(tmp_path / "nowhere") is None


def test_hash_tells_tokenizers_apart() -> None:
    assert tokenizer_hash(CharacterTokenizer("abc")) == tokenizer_hash(CharacterTokenizer("abc"))
    assert tokenizer_hash(CharacterTokenizer("abc")) != tokenizer_hash(CharacterTokenizer("acb"))
    assert (smallest_dtype(1 << 16), smallest_dtype((1 << 16) + 1)) == ("uint16", "uint32")


@pytest.mark.parametrize("size", [1, 7, 64, 10**6])
def test_pieces_are_the_text_and_change_no_token(size: int) -> None:
    tokenizer = BPETokenizer.train(TEXT, 40)
    pieces = list(cut_pieces((TEXT[start : start + size] for start in range(0, len(TEXT), size)), 100))
    assert "".join(pieces) == TEXT and len(pieces) > 5
    assert [token for piece in pieces for token in tokenizer.encode(piece)] == tokenizer.encode(TEXT)


def test_text_without_a_place_to_cut_is_cut_all_the_same() -> None:
    pieces = list(cut_pieces(["\u732b" * 50] * 40, 100))
    assert "".join(pieces) == "\u732b" * 2000 and max(map(len, pieces)) <= 500
