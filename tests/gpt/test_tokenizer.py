"""Tokenizers: exact round trips, GPT-2's own ids, unknown characters shown, files complete."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from gpt.errors import TokenizerError, UnknownCharacterError
from gpt.gpt2_tokenizer import SHA256, URL, VOCABULARY_FILE
from gpt.tokenizer import (
    BPETokenizer,
    CharacterTokenizer,
    GPT2Tokenizer,
    Tokenizer,
    build_tokenizer,
    load_tokenizer,
    read_identity,
    read_kind,
)

ROOT = Path(__file__).parents[2]

# One character of each sort that a splitting rule could lose: marks, runs of blanks, other line ends, emoji.
TEXT = (
    "Shall I compare thee to a summer's day?\nThou art more lovely -- and more temperate:\n\n\n"
    "Rough winds do shake the darling buds of May,\r\n  'Tis \tnai\u0308ve \u00a0na\u00efve 日本 🎭 x\u2028y 12,3;\v_\n"
) * 3


def find_vocab_bpe() -> bytes:
    """GPT-2's vocabulary from this clone's checkpoints or tiktoken's cache; skips where neither has it."""
    candidates = sorted((ROOT / "checkpoints").glob("*/vocab.bpe"))
    if cache := os.environ.get("TIKTOKEN_CACHE_DIR"):
        candidates.append(Path(cache) / hashlib.sha1(URL.encode()).hexdigest())
    for path in candidates:
        if path.is_file():
            return path.read_bytes()
    pytest.skip("GPT-2's vocab.bpe is in no checkpoint of this clone and in no TIKTOKEN_CACHE_DIR")


@pytest.fixture(scope="module")
def vocab_bpe() -> bytes:
    return find_vocab_bpe()


@pytest.fixture(scope="module")
def gpt2(vocab_bpe: bytes) -> GPT2Tokenizer:
    return GPT2Tokenizer(vocab_bpe)


@pytest.fixture(params=["gpt2", "character", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "gpt2":
        return request.getfixturevalue("gpt2")
    return CharacterTokenizer.train(TEXT) if request.param == "character" else BPETokenizer.train(TEXT, 100)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def test_round_trip_is_exact(tokenizer: Tokenizer) -> None:
    random_characters = random.Random(0)
    alphabet = sorted(set(TEXT))
    texts = [TEXT, *("".join(random_characters.choices(alphabet, k=length)) for length in range(60))]
    for text in texts:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode_bytes(ids) == text.encode()
        assert b"".join(tokenizer.decode_bytes([token_id]) for token_id in ids) == text.encode()
        assert all(0 <= token_id < tokenizer.vocab_dim for token_id in ids)


def test_save_and_load_give_the_same_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.kind, loaded.vocab_dim) == (tokenizer.kind, tokenizer.vocab_dim)
    assert loaded.encode(TEXT) == tokenizer.encode(TEXT)
    assert loaded.decode(range(loaded.vocab_dim)) == tokenizer.decode(range(tokenizer.vocab_dim))
    assert read_kind(tmp_path) == tokenizer.kind
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    loaded.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_identity_is_that_of_the_files(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, saved in zip(folders, (tokenizer, tokenizer, CharacterTokenizer.train(TEXT + "#")), strict=True):
        folder.mkdir()
        saved.save(folder)
    one, again, other = map(read_identity, folders)
    assert one == again != other and one.startswith(f"{tokenizer.kind} ")
    with pytest.raises(TokenizerError, match="copy the checkpoint again"):
        read_identity(tmp_path)


def test_identity_is_also_that_of_a_vocabulary_beside_it(gpt2: Tokenizer, tmp_path: Path) -> None:
    gpt2.save(tmp_path)
    before = read_identity(tmp_path)
    (tmp_path / VOCABULARY_FILE).write_bytes(b"another")
    assert read_identity(tmp_path) != before


def test_decode_refuses_ids_outside_the_vocabulary(tokenizer: Tokenizer) -> None:
    for token_id in (-1, tokenizer.vocab_dim):
        for decode in (tokenizer.decode, tokenizer.decode_bytes):
            with pytest.raises(TokenizerError, match=f"token id {token_id} .* 0 to {tokenizer.vocab_dim - 1}"):
                decode([0, token_id])


@pytest.mark.parametrize("trained", [CharacterTokenizer.train("abc\n d"), BPETokenizer.train("abab\n ccd", 7)])
def test_unknown_character_is_shown_with_what_is_allowed(trained: Tokenizer) -> None:
    with pytest.raises(UnknownCharacterError) as caught:
        trained.encode("ab é?")
    message = str(caught.value)
    assert "'é' (U+00E9) at position 4" in message
    assert "6 known characters are '\\n abcd'" in message


def test_unknown_character_message_stays_short_with_a_large_alphabet() -> None:
    tokenizer = CharacterTokenizer.train("".join(map(chr, range(0x4E00, 0x5E00))))
    with pytest.raises(UnknownCharacterError, match=r"U\+0061.* and 3896 more") as caught:
        tokenizer.encode("a")
    assert len(str(caught.value)) < 500


def test_gpt2_gives_the_published_ids(gpt2: GPT2Tokenizer) -> None:
    # From tiktoken.get_encoding("gpt2").encode_ordinary.
    golden = {
        "First Citizen:\nBefore we proceed any further, hear me speak.\n": [
            *(5962, 22307, 25, 198, 8421, 356, 5120, 597, 2252, 11, 3285, 502, 2740, 13, 198),
        ],
        "I'll  go;\n\n\t'tis   ": [40, 1183, 220, 467, 26, 628, 197, 470, 271, 220, 220, 220],
        "naïve 日本 🎭": [2616, 38776, 10545, 245, 98, 17312, 105, 12520, 236, 255],
        "a\u00a0b 12345": [64, 1849, 65, 17031, 2231],
        "": [],
    }
    for text, ids in golden.items():
        assert gpt2.encode(text) == ids


def test_gpt2_takes_typed_end_of_text_as_characters(gpt2: GPT2Tokenizer) -> None:
    assert gpt2.encode("<|endoftext|>") == [27, 91, 437, 1659, 5239, 91, 29]
    assert gpt2.decode([50256]) == "<|endoftext|>"


def test_gpt2_decodes_part_of_a_character(gpt2: GPT2Tokenizer) -> None:
    first, *rest = gpt2.encode("🎭")
    assert gpt2.decode_bytes([first]) + gpt2.decode_bytes(rest) == "🎭".encode()
    assert "\ufffd" in gpt2.decode([first])


def test_gpt2_agrees_with_tiktokens_own_encoding(gpt2: GPT2Tokenizer) -> None:
    if not (Path(os.environ.get("TIKTOKEN_CACHE_DIR", "")) / hashlib.sha1(URL.encode()).hexdigest()).is_file():
        pytest.skip("TIKTOKEN_CACHE_DIR has no cached vocabulary for tiktoken.get_encoding('gpt2')")
    import tiktoken

    reference = tiktoken.get_encoding("gpt2")
    sonnets = (ROOT / "data" / "sonnets.txt").read_text(encoding="utf-8")
    assert reference.n_vocab == gpt2.vocab_dim
    assert gpt2.encode(sonnets + TEXT) == reference.encode_ordinary(sonnets + TEXT)
    for token_id in range(reference.n_vocab):
        assert gpt2.decode_bytes([token_id]) == reference.decode_bytes([token_id])


def test_gpt2_fetch_takes_a_checkpoints_vocabulary(vocab_bpe: bytes, tmp_path: Path, no_network: None) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "vocab.bpe").write_bytes(vocab_bpe[:-1])
    (tmp_path / "run" / "best").mkdir(parents=True)
    (tmp_path / "run" / "best" / "vocab.bpe").write_bytes(vocab_bpe)
    assert GPT2Tokenizer.fetch(tmp_path).encode("ROMEO:") == [33676, 4720, 25]


def test_gpt2_fetch_takes_tiktokens_cache(vocab_bpe: bytes, tmp_path: Path, no_network: None) -> None:
    (tmp_path / "6d1cbeee0f20b3d9449abfede4726ed8212e3aee").write_bytes(vocab_bpe)
    tokenizer = build_tokenizer("gpt2", "", checkpoints_root=tmp_path / "none", tiktoken_cache=tmp_path)
    assert tokenizer.vocab_dim == 50257


def test_gpt2_fetch_without_a_source_says_what_to_put_where(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(TokenizerError) as caught:
        GPT2Tokenizer.fetch(tmp_path, tmp_path)
    message = str(caught.value)
    assert URL in message and "no network in this test" in message
    assert str(tmp_path / "gpt2" / "vocab.bpe") in message


def test_gpt2_refuses_another_vocabulary() -> None:
    with pytest.raises(TokenizerError, match=SHA256):
        GPT2Tokenizer(b"#version: 0.2\na b\n")


def test_bpe_has_the_alphabet_first_then_merges_inside_pieces() -> None:
    tokenizer = BPETokenizer.train(TEXT, 120)
    tokens = [tokenizer.decode([token_id]) for token_id in range(tokenizer.vocab_dim)]
    alphabet = sorted(set(TEXT))
    assert tokens[: len(alphabet)] == alphabet
    merged = tokens[len(alphabet) :]
    assert "\n\n" in merged and any(token.startswith(" ") for token in merged)
    for token in merged:  # only runs of line breaks, and words behind at most one space
        assert set(token) == {"\n"} or not set(token[1:]) & set(" \n,:;-?\r\t")


def test_bpe_training_repeats() -> None:
    assert BPETokenizer.train(TEXT, 120).encode(TEXT) == BPETokenizer.train(TEXT, 120).encode(TEXT)
    assert len(BPETokenizer.train(TEXT, 120).encode(TEXT)) < len(TEXT)


def test_bpe_refuses_a_vocab_dim_that_does_not_fit_the_text() -> None:
    with pytest.raises(TokenizerError, match=r"vocab_dim is 2, .* 3 distinct characters.* at least 3"):
        BPETokenizer.train("abcabc", 2)
    with pytest.raises(TokenizerError, match=r"vocab_dim is 500, .* 6 characters gives at most 5 tokens"):
        BPETokenizer.train("abcabc", 500)


def test_alphabet_is_known_and_teaches_nothing_else(tmp_path: Path) -> None:
    text, alphabet = "the cat and the hat " * 20, "éêé 日日日日"
    plain = BPETokenizer.train(text, 14)
    wider = BPETokenizer.train(text, 17, alphabet)
    assert wider.decode(wider.encode("the é 日")) == "the é 日"
    assert len(wider.encode("日日日日")) == 4
    pieces = [plain.decode([token_id]) for token_id in range(14)]
    assert sorted([wider.decode([token_id]) for token_id in range(17)]) == sorted([*pieces, "é", "ê", "日"])
    for kind, vocab_dim in (("bpe", 17), ("character", None)):
        built = build_tokenizer(kind, text, vocab_dim, alphabet=alphabet, checkpoints_root=tmp_path)
        assert built.decode(built.encode("日é")) == "日é"
    with pytest.raises(TokenizerError, match="give at least 11"):
        BPETokenizer.train(text, 10, alphabet)


def test_build_refuses_what_does_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="kind is 'words'; choose one of gpt2, character, bpe"):
        build_tokenizer("words", "abc", checkpoints_root=tmp_path)
    with pytest.raises(TokenizerError, match="vocab_dim is not given"):
        build_tokenizer("bpe", "abc", checkpoints_root=tmp_path)
    with pytest.raises(TokenizerError, match="vocab_dim is 4, but the character tokenizer has 3 tokens"):
        build_tokenizer("character", "abc", 4, checkpoints_root=tmp_path)
    assert build_tokenizer("character", "abc", 3, checkpoints_root=tmp_path).vocab_dim == 3


def test_character_tokenizer_refuses_none_and_doubles() -> None:
    for characters in ("", "aba"):
        with pytest.raises(TokenizerError, match=f"characters is '{characters}'"):
            CharacterTokenizer(characters)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (None, "tokenizer.json cannot be read"),
        ("{", "tokenizer.json is not JSON"),
        ("[]", "its kind is none of gpt2, character, bpe"),
        ('{"kind": "words"}', "its kind is none of gpt2, character, bpe"),
        ('{"kind": "character"}', "no saved character tokenizer"),
        ('{"kind": "gpt2"}', "vocab.bpe is missing"),
        ('{"kind": "bpe", "vocabulary": ["a"]}', "no saved bpe tokenizer"),
        ('{"kind": "bpe", "vocabulary": ["a", "a"], "merges": [], "split_pattern": "a"}', "has a token twice"),
        ('{"kind": "bpe", "vocabulary": ["a"], "merges": [["a", "b"]], "split_pattern": "a"}', "merges or pattern"),
        ('{"kind": "bpe", "vocabulary": ["a"], "merges": ["a"], "split_pattern": "a"}', "no saved bpe tokenizer"),
        ('{"kind": "bpe", "vocabulary": ["a"], "merges": [], "split_pattern": "("}', "merges or pattern"),
    ],
)
def test_load_refuses_damaged_files(tmp_path: Path, description: str | None, message: str) -> None:
    if description is not None:
        (tmp_path / "tokenizer.json").write_text(description)
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(tmp_path)


def test_saved_description_can_be_read(tmp_path: Path) -> None:
    BPETokenizer.train("thé thé\n", 7).save(tmp_path)
    text = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    assert '"vocabulary": ["\\n", " ", "h", "t", "é"' in text
    assert json.loads(text)["vocab_dim"] == 7


def test_loading_a_character_tokenizer_imports_no_tokenizer_library(tmp_path: Path) -> None:
    CharacterTokenizer.train("abc").save(tmp_path)
    program = (
        "import sys; from gpt.tokenizer import load_tokenizer; load_tokenizer(sys.argv[1]);"
        "print(sorted({'tiktoken', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
