"""The local backend over a small model of bytes, so that characters and stop strings straddle tokens all the time."""

import gc
import threading
import time

import pytest
import torch

from gpt.backends.local import LocalBackend
from gpt.character_tokenizer import CharacterTokenizer
from gpt.checkpoint import Checkpoint, save_checkpoint
from gpt.completion import CompletionRequest
from gpt.config import GPTConfig
from gpt.errors import (
    BackendClosedError,
    CheckpointError,
    ConfigError,
    QueueFullError,
    RequestError,
    UnknownCharacterError,
)
from gpt.model import GPT
from gpt.record import TrainingRecord

BYTES = [
    b"a",
    b"b",
    b" ",
    b"\n",
    b"RO",
    b"MEO:",
    b"\xc3",
    b"\xa9",
    b"\xe2",
    b"\x82",
    b"\xac",
    b"b\xf0\x9f",
    b"\x98\x80",
]


class ByteTokenizer:
    """Tokens of whole and broken characters."""

    kind = "bpe"
    vocab_dim = len(BYTES)

    def encode(self, text):
        return [BYTES.index(character.encode()) for character in text if character.encode() in BYTES]

    def decode_bytes(self, ids):
        return b"".join(BYTES[token_id] for token_id in ids)

    def decode(self, ids):
        return self.decode_bytes(ids).decode("utf-8", errors="replace")


@pytest.fixture(autouse=True)
def _one_thread():
    """Models this small gain nothing from a second thread, and lose much when the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_checkpoint(tokenizer=None):
    tokenizer = tokenizer or ByteTokenizer()
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_dim=tokenizer.vocab_dim, sequence_dim=24, embed_dim=16, num_heads=2, num_layers=2, dropout=0.5
    )
    model = GPT.from_config(config)
    with torch.no_grad():
        model.head.weight.normal_(std=1.0)
    return Checkpoint(
        model, tokenizer, config, TrainingRecord(nats_per_character={"block": 1.6, "sliding": 1.5}), torch.float32
    )


@pytest.fixture
def backend():
    backend = LocalBackend(make_checkpoint(), name="tiny", max_streams=8, max_queue=8)
    yield backend
    backend.close()


def request(**fields):
    return CompletionRequest(**{"prompt": "ab a", "temperature": 1.0, "max_new_tokens": 60, "seed": 3, **fields})


def text_of(chunks):
    return "".join(chunk.text for chunk in chunks)


def ids_of(chunks):
    return [token_id for chunk in chunks for token_id in chunk.token_ids]


@pytest.mark.parametrize("seed", range(8))
def test_chunks_joined_are_the_decoded_ids(backend, seed):
    chunks = list(backend.stream(request(seed=seed)))
    assert len(ids_of(chunks)) == 60 and len(chunks) > 20
    assert text_of(chunks) == backend._tokenizer.decode(ids_of(chunks))
    assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert {(chunk.seed, chunk.prompt_tokens) for chunk in chunks} == {(seed, 4)}
    assert all(chunk.text and not chunk.logprobs for chunk in chunks)
    assert text_of(backend.stream(request(seed=seed))) == text_of(chunks)


def test_a_text_of_any_length_ends_with_all_its_tokens(backend):
    whole = list(backend.stream(request()))
    for length in range(1, 60):
        chunks = list(backend.stream(request(max_new_tokens=length)))
        assert ids_of(chunks) == ids_of(whole)[:length]
        assert text_of(chunks) == backend._tokenizer.decode(ids_of(chunks))
        assert chunks[-1].finish_reason == "length"


@pytest.mark.parametrize("seed", range(3))
def test_every_stop_string_ends_the_same_text_before_itself(backend, seed):
    whole = text_of(backend.stream(request(seed=seed)))
    for start in range(0, len(whole) - 3, 5):
        for length in (1, 2, 3):
            stop = whole[start : start + length]
            chunks = list(backend.stream(request(seed=seed, stop=["never", stop])))
            assert text_of(chunks) == whole[: whole.index(stop)]
            assert chunks[-1].finish_reason == "stop"
            assert all(chunk.text for chunk in chunks[:-1])
            assert backend._tokenizer.decode(ids_of(chunks)).startswith(text_of(chunks))


def test_logprobs_carry_one_entry_a_token_with_sorted_alternatives(backend):
    chunks = list(backend.stream(request(logprobs=4)))
    for chunk in chunks:
        assert tuple(token.token_id for token in chunk.logprobs) == chunk.token_ids
        for token in chunk.logprobs:
            assert token.text == backend._tokenizer.decode([token.token_id]) and token.logprob < 0
            assert len(token.alternatives) == 4
            values = [alternative.logprob for alternative in token.alternatives]
            assert values == sorted(values, reverse=True)
            same = [a.logprob for a in token.alternatives if a.token_id == token.token_id]
            assert same == [] or same == [pytest.approx(token.logprob, abs=1e-5)]
    assert all(not token.alternatives for chunk in backend.stream(request(logprobs=0)) for token in chunk.logprobs)


def test_a_drawn_seed_is_reported_and_repeats(backend):
    chunks = list(backend.stream(request(seed=None)))
    assert text_of(backend.stream(request(seed=chunks[0].seed))) == text_of(chunks)
    assert next(backend.stream(request(seed=None))).seed != chunks[0].seed


def test_refusals_come_at_once_and_before_the_first_chunk(backend):
    with pytest.raises(RequestError, match="which has no tokens"):
        backend.stream(request(prompt="zz"))
    with pytest.raises(RequestError, match="half a character"):
        backend.stream(request(prompt="a\ud800"))
    characters = LocalBackend(make_checkpoint(CharacterTokenizer.train("ab a")))
    with pytest.raises(UnknownCharacterError, match="z"):
        characters.stream(request(prompt="abz"))
    characters.close()
    with pytest.raises(BackendClosedError):
        characters.stream(request())


def test_a_full_queue_is_refused_at_once():
    backend = LocalBackend(make_checkpoint(), max_streams=1, max_queue=1)
    streams = [backend.stream(request(max_new_tokens=4096)) for _ in range(2)]
    with pytest.raises(QueueFullError):
        backend.stream(request())
    streams[1].close()
    backend.stream(request()).close()
    backend.close()


def wait_until_idle(backend):
    deadline = time.monotonic() + 10
    while backend._engine.active or backend._engine.waiting:
        assert time.monotonic() < deadline, "a closed stream keeps its place"
        time.sleep(0.001)


@pytest.mark.parametrize("end", ["close", "close before the first chunk", "forget", "stop string"])
def test_a_stream_that_ends_early_frees_its_place(backend, end):
    stream = backend.stream(request(max_new_tokens=4096, stop=["a"] if end == "stop string" else []))
    if end == "stop string":
        list(stream)
    elif end == "forget":
        next(stream)
        del stream
        gc.collect()
    else:
        if end == "close":
            next(stream)
        stream.close()
    wait_until_idle(backend)


def test_eight_stream_side_by_side(backend):
    alone = [text_of(backend.stream(request(seed=seed))) for seed in range(8)]
    texts = [""] * 8

    def consume(seed):
        texts[seed] = text_of(backend.stream(request(seed=seed)))

    consumers = [threading.Thread(target=consume, args=(seed,)) for seed in range(8)]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join(30)
    assert texts == alone


def test_closing_ends_streams_under_way(backend):
    stream = backend.stream(request(max_new_tokens=4096))
    next(stream)
    backend.close()
    backend.close()
    with pytest.raises(BackendClosedError):
        list(stream)


def test_info_says_what_is_served(backend):
    info = backend.info()
    assert (info.kind, info.name, info.device, info.sequence_dim) == ("local", "tiny", "cpu", 24)
    assert info.parameters == sum(p.numel() for p in make_checkpoint().model.parameters())
    assert info.nats_per_character == (("block", 1.6), ("sliding", 1.5))


def test_a_checkpoint_folder_is_served_under_its_name(tmp_path):
    checkpoint = make_checkpoint(CharacterTokenizer.train("ab a"))
    for folder, name in (("play", "play"), ("run/best", "run")):
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        save_checkpoint(tmp_path / folder, checkpoint.model, checkpoint.tokenizer, dtype=torch.float16)
        backend = LocalBackend.from_checkpoint(tmp_path / folder, device="auto")
        assert backend.info().name == name
        assert len(text_of(backend.stream(request()))) == 60
        backend.close()
    with pytest.raises(CheckpointError):
        LocalBackend.from_checkpoint(tmp_path / "none")


def test_a_device_that_is_not_there_is_refused_in_words(tmp_path):
    with pytest.raises(ConfigError, match="device is 'abacus'; choose auto, cpu, cuda or cuda:N"):
        LocalBackend.from_checkpoint(tmp_path, device="abacus")
