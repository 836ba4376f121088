"""A checkpoint as a zip: what is packed unpacks to the same, and every hostile zip is refused in its own words."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt.bpe_tokenizer import BPETokenizer
from gpt.checkpoint import load_checkpoint, save_checkpoint
from gpt.checkpoint_archive import MAX_DIRECTORY_BYTES, MAX_TEXT_BYTES, MAX_WEIGHTS_BYTES
from gpt.checkpoint_info import CONFIG_FILE, RECORD_FILE, WEIGHTS_FILE
from gpt.checkpoint_store import CheckpointStore
from gpt.config import GPTConfig
from gpt.errors import CheckpointError
from gpt.model import GPT
from gpt.vocabulary import TOKENIZER_FILE
from tests import hostile_zip
from tests.fake_page import save_random_checkpoint
from tests.hostile_zip import Files, changed, with_entry, zip_of

ZIP = "gift.zip"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return hostile_zip.files_of(save_random_checkpoint(tmp_path_factory.mktemp("source") / "tiny", nats=1.5, steps=7))


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def unpack(store: CheckpointStore, data: bytes, name: str | None = None) -> str:
    return store.unpack(io.BytesIO(data), ZIP, name)


def weights(change: Callable[[dict[str, torch.Tensor]], object], files: Files, tmp_path: Path) -> Files:
    """The files with other weights."""
    path = tmp_path / "weights"
    path.write_bytes(files[WEIGHTS_FILE])
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return files | {WEIGHTS_FILE: path.read_bytes()}


def test_what_is_packed_unpacks_to_the_same(files: Files, store: CheckpointStore, tmp_path: Path) -> None:
    card = {**files, "README.md": b"# tiny\n"}
    assert unpack(store, zip_of(card)) == "tiny"
    (store.root / "tiny" / "notes.txt").write_text("mine")
    with (tmp_path / "out.zip").open("wb") as file:
        store.pack("tiny", file)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert {name: archive.read(f"tiny/{name}") for name in card} == card
        assert len(archive.namelist()) == len(card), "a stranger's file was packed"
    assert unpack(store, (tmp_path / "out.zip").read_bytes(), "again") == "again"
    assert hostile_zip.files_of(store.root / "again") == card
    assert load_checkpoint(store.root / "again").record.steps == 7


def test_files_may_stand_at_the_top_or_in_one_folder(files: Files, store: CheckpointStore) -> None:
    assert unpack(store, zip_of(files, top="")) == "gift"
    assert unpack(store, zip_of(files, top="my model")) == "my model"
    assert unpack(store, zip_of(files, top=".")) == "checkpoint"
    with_folder = with_entry(files, f"{hostile_zip.TOP}/", b"", stat.S_IFDIR | 0o755)
    assert unpack(store, with_folder) == "tiny"


def test_what_a_mac_adds_is_left_out(files: Files, store: CheckpointStore) -> None:
    data = io.BytesIO(zip_of(files))
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr("__MACOSX/tiny/._config.json", b"\0\5\x16\7")
        archive.writestr("tiny/.DS_Store", b"\0")
    name = unpack(store, data.getvalue())
    assert hostile_zip.files_of(store.root / name) == files
    assert len(list((store.root / name).iterdir())) == len(files)


def bomb(files: Files) -> bytes:
    return zip_of(files | {RECORD_FILE: b" " * (MAX_TEXT_BYTES - 1)})


def long_text(files: Files) -> bytes:
    return zip_of(files | {"README.md": b"x" * (MAX_TEXT_BYTES + 1)}, compression=zipfile.ZIP_STORED)


def huge_claim(files: Files) -> bytes:
    assert next(iter(files)) == WEIGHTS_FILE
    return hostile_zip.patched(zip_of(files), 22, 24, struct.pack("<L", MAX_WEIGHTS_BYTES + 1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda files: b"", "gift.zip is no zip file"),
        (lambda files: b"hello" * 100, "gift.zip is no zip file"),
        (lambda files: zip_of(files)[:-200], "damaged or was cut short"),
        (lambda files: zip_of(files)[:300], "damaged or was cut short"),
        (lambda files: zip_of({}), r"lacks model\.safetensors, config\.json, tokenizer\.json"),
        (lambda files: with_entry(files, "../evil.json"), r"'\.\./evil\.json', which leaves its folder"),
        (lambda files: with_entry(files, "tiny/../../config.json"), "which leaves its folder"),
        (lambda files: with_entry(files, "..\\config.json"), "which leaves its folder"),
        (lambda files: with_entry(files, "/etc/config.json"), "absolute path '/etc/config.json'"),
        (lambda files: with_entry(files, "C:\\config.json"), "absolute path"),
        (lambda files: with_entry(files, "tiny\\config.json"), "no plain name"),
        (lambda files: with_entry(files, "tiny/README.md\0.txt"), "no plain name"),
        (lambda files: with_entry(files, "tiny/README.md", b"/etc/passwd", stat.S_IFLNK | 0o777), "has a link"),
        (lambda files: with_entry(files, "tiny/README.md", b"", stat.S_IFIFO | 0o644), "which is no file"),
        (lambda files: with_entry(files, "tiny/config.json"), r"has config\.json twice"),
        (lambda files: with_entry(files, "tiny/run.py"), r"'run\.py', which no checkpoint has"),
        (lambda files: with_entry(files, "tiny/model.pt"), "a pickle, which can run any code"),
        (lambda files: zip_of({"archive/data.pkl": b"", "archive/data/0": b""}, top=""), "a pickle"),
        (lambda files: with_entry(files, "other/README.md"), "more than one folder"),
        (lambda files: zip_of(files, top="a/b"), "folders in folders"),
        (lambda files: with_entry(files, "tiny/best/", b"", stat.S_IFDIR | 0o755), "folders in folders"),
        (lambda files: zip_of(files, compression=zipfile.ZIP_LZMA), "compressed in a rare way"),
        (hostile_zip.encrypted, "is encrypted"),
        (hostile_zip.understated, "damaged"),
        (hostile_zip.overstated, "damaged"),
        (bomb, r"would unpack to 3,999,999 bytes, more than 100 times"),
        (long_text, r"README\.md in gift\.zip has 4,000,001 bytes; 4,000,000 are allowed"),
        (huge_claim, r"model\.safetensors in gift\.zip has 1,000,000,001 bytes"),
        (lambda files: hostile_zip.with_many_entries(40), "has 40 entries"),
        (lambda files: hostile_zip.with_many_entries(MAX_DIRECTORY_BYTES // 50), "has more than 32 entries"),
    ],
)
def test_hostile_zip_is_refused_in_its_own_words(
    files: Files, store: CheckpointStore, tmp_path: Path, make: Callable[[Files], bytes], words: str
) -> None:
    data = make(files)
    with pytest.raises(CheckpointError, match=words):
        unpack(store, data)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints"]
    assert list(store.root.iterdir()) == [], "something was written"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda files, _: files | {WEIGHTS_FILE: b"\x80\x02}q\x00."}, "is a pickle"),
        (lambda files, _: files | {WEIGHTS_FILE: zip_of(files)}, "is a pickle"),
        (lambda files, _: files | {WEIGHTS_FILE: files[WEIGHTS_FILE][:-9]}, "truncated or no safetensors file"),
        (lambda files, _: files | {WEIGHTS_FILE: b"\xff" * 900}, "truncated or no safetensors file"),
        (lambda files, _: files | {WEIGHTS_FILE: b""}, "truncated or no safetensors file"),
        (lambda files, _: files | {CONFIG_FILE: b"{}"}, "incomplete"),
        (lambda files, _: files | {CONFIG_FILE: b"[" * 200_000}, "not JSON"),
        (lambda files, _: files | {CONFIG_FILE: b"\xff"}, "cannot be read"),
        (lambda files, _: changed(files, CONFIG_FILE, lambda it: it.update(embed_dim=32)), "of other shapes"),
        (lambda files, _: changed(files, CONFIG_FILE, lambda it: it.update(num_layers=10**9)), "too few for the 1000"),
        (lambda files, _: changed(files, CONFIG_FILE, lambda it: it.update(num_layers=2)), "lacks weights"),
        (lambda files, _: changed(files, CONFIG_FILE, lambda it: it.update(sequence_dim=10**12)), "of other shapes"),
        (lambda files, _: changed(files, TOKENIZER_FILE, lambda it: it.update(characters="ab")), "has 2 tokens"),
        (lambda files, _: changed(files, TOKENIZER_FILE, lambda it: it.update(kind="evil")), "kind is none of"),
        (lambda files, _: files | {TOKENIZER_FILE: b"[" * 200_000}, "not JSON"),
        (
            lambda files, _: changed(
                files, TOKENIZER_FILE, lambda it: it.update(characters=it["characters"][:-1] + "\ud800")
            ),
            "cannot be read",
        ),
        (lambda files, _: changed(files, RECORD_FILE, lambda it: it.update(corpus="\ud800")), "not JSON"),
        (lambda files, _: changed(files, RECORD_FILE, lambda it: it.update(steps="x")), "steps is 'x'"),
        (
            lambda files, _: changed(files, RECORD_FILE, lambda it: it.update(nats_per_character={"block": "<b>"})),
            "must be numbers",
        ),
        (lambda files, _: files | {"README.md": b"\xff"}, "cannot be read"),
        (
            lambda files, path: weights(lambda it: it["head.weight"].fill_(float("nan")), files, path),
            "no finite numbers",
        ),
        (lambda files, path: weights(lambda it: it["head.weight"].fill_(3e38), files, path), "no finite numbers"),
        (lambda files, path: weights(lambda it: it.update(extra=torch.zeros(2)), files, path), "does not ask for"),
        (
            lambda files, path: weights(lambda it: it.update({"head.weight": it["head.weight"].int()}), files, path),
            "no floating-point numbers",
        ),
    ],
)
def test_zip_of_no_checkpoint_is_refused_in_its_own_words(
    files: Files, store: CheckpointStore, tmp_path: Path, change: Callable[[Files, Path], Files], words: str
) -> None:
    data = zip_of(change(files, tmp_path))
    with pytest.raises(CheckpointError, match=words) as caught:
        unpack(store, data)
    assert str(caught.value).startswith(f"{ZIP} is no checkpoint of this project: ")
    assert str(store.root) not in str(caught.value), "the words name a folder that nobody has seen"
    assert list(store.root.iterdir()) == [], "something was written"


def test_tokenizer_with_a_pattern_of_its_own_is_refused(store: CheckpointStore, tmp_path: Path) -> None:
    text = "to be or not to be"
    for pattern, accepted in ((None, True), ("(a+)+$", False)):
        tokenizer = BPETokenizer.train(text, 10)
        tokenizer._split_pattern = pattern or tokenizer._split_pattern
        config = GPTConfig(vocab_dim=10, sequence_dim=8, embed_dim=8, num_heads=2, num_layers=1)
        save_checkpoint(tmp_path / "bpe", GPT.from_config(config), tokenizer)
        data = zip_of(hostile_zip.files_of(tmp_path / "bpe"))
        if accepted:
            assert unpack(store, data) == "tiny"
        else:
            with pytest.raises(CheckpointError, match="pattern that this project does not write"):
                unpack(store, data)


def test_rotary_context_that_fills_the_memory_is_refused(store: CheckpointStore, tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train("to be or not to be", 10)
    config = GPTConfig(vocab_dim=10, sequence_dim=8, embed_dim=8, num_heads=2, num_layers=1, rotary=True)
    save_checkpoint(tmp_path / "rotary", GPT.from_config(config), tokenizer)
    files = hostile_zip.files_of(tmp_path / "rotary")
    assert unpack(store, zip_of(files), "fits")
    with pytest.raises(
        CheckpointError, match="asks for sequence_dim 1,000,000,000, for which one text would need 64 GB"
    ):
        unpack(store, zip_of(changed(files, CONFIG_FILE, lambda it: it.update(sequence_dim=10**9))))


def test_full_disk_leaves_nothing(files: Files, store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gpt.checkpoint_store.flush_folder", full)
    with pytest.raises(CheckpointError, match=r"gift\.zip cannot be kept .*No space left on device"):
        unpack(store, zip_of(files))
    assert list(store.root.iterdir()) == []
