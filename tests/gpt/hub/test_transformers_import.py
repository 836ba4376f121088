"""GPT-2 out of transformers' format, made by transformers itself: the same logits; what is no GPT-2, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from gpt import load_checkpoint
from gpt.backends.local import LocalBackend
from gpt.checkpoint_store import CheckpointStore
from gpt.completion import CompletionRequest
from gpt.errors import CheckpointError, HubError
from gpt.hub.exchange import import_checkpoint
from gpt.hub.repository import Hub

SHAKESPEARE = Path(__file__).resolve().parent.parent.parent.parent / "checkpoints" / "shakespeare"
BOUND = 1e-4
NOBODY = Hub("http://127.0.0.1:9")


def save_gpt2(folder: Path, seed: int = 0, **settings: Any) -> GPT2LMHeadModel:
    """A GPT-2 of random weights, biases among them, as transformers saves it."""
    torch.manual_seed(seed)
    shape = {"n_positions": 64, "n_embd": 24, "n_layer": 2, "n_head": 3}
    model = GPT2LMHeadModel(GPT2Config(**(shape | settings))).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                parameter.add_(torch.randn_like(parameter) * 0.3)
            else:
                parameter.normal_(std=1.0 if "wte" in name else 0.4)
    model.save_pretrained(folder)
    return model


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """A store that has GPT-2's vocabulary, in a checkpoint."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "shakespeare").symlink_to(SHAKESPEARE)
    return CheckpointStore(tmp_path / "checkpoints")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tie_word_embeddings": False},
        {"activation_function": "gelu", "n_inner": 40, "layer_norm_epsilon": 1e-3},
        {"dtype": "float16"},
    ],
    ids=str,
)
def test_imported_logits_are_equal(tmp_path: Path, store: CheckpointStore, settings: dict[str, Any]) -> None:
    half = settings.pop("dtype", None)
    theirs = save_gpt2(tmp_path / "theirs", **settings)
    if half:
        theirs = theirs.half()
        theirs.save_pretrained(tmp_path / "theirs")
    assert import_checkpoint(NOBODY, store, str(tmp_path / "theirs"), name="mine") == "mine"
    checkpoint = load_checkpoint(store.root / "mine")
    input_ids = torch.tensor([checkpoint.tokenizer.encode("Hello, my name is <|endoftext|>")])
    with torch.no_grad():
        ours = checkpoint.model(input_ids)
        assert ours.std() > 0.5
        assert (ours - theirs.float()(input_ids).logits).abs().max() < BOUND
    assert checkpoint.stored_dtype == (torch.float16 if half else torch.float32)
    assert "python -m gpt.hub import" in checkpoint.record.command


def test_imported_model_writes_the_same_greedy_text(tmp_path: Path, store: CheckpointStore) -> None:
    theirs = save_gpt2(tmp_path / "theirs")
    import_checkpoint(NOBODY, store, str(tmp_path / "theirs"))
    backend = LocalBackend.from_checkpoint(store.root / "theirs")
    request = CompletionRequest(prompt="Once upon", temperature=0, max_new_tokens=30)
    ids = [token for chunk in backend.stream(request) for token in chunk.token_ids]
    prompt_ids = load_checkpoint(store.root / "theirs").tokenizer.encode("Once upon")
    backend.close()
    model: Any = theirs
    written = model.generate(
        torch.tensor([prompt_ids]), max_new_tokens=30, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert written[0].tolist() == prompt_ids + ids


def test_older_files_load_too(tmp_path: Path, store: CheckpointStore) -> None:
    """GPT-2's own file has no prefix, and the causal masks among the weights."""
    save_gpt2(tmp_path / "theirs")
    path = tmp_path / "theirs" / "model.safetensors"
    weights = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    save_file(weights | {"h.0.attn.bias": torch.ones(1, 1, 64, 64), "h.1.attn.masked_bias": torch.tensor(-1e4)}, path)
    assert import_checkpoint(NOBODY, store, str(tmp_path / "theirs")) == "theirs"


def change_config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def change_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return changed


def leave_only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BREAK: dict[str, tuple[Callable[[Path], object], str]] = {
    "another kind": (change_config(model_type="llama"), "is of the kind 'llama'; only gpt2"),
    "no such shape": (change_config(n_head=5), "is not that of a GPT-2: .*num_heads = 5"),
    "scores unscaled": (change_config(scale_attn_weights=False), "scale_attn_weights of .* is False; only True"),
    "silu": (change_config(activation_function="silu"), "activation_function of .* is 'silu'; only"),
    "added tokens": (change_config(vocab_size=50258), "vocab_size of .* is 50258, so tokens were added"),
    "too few layers": (change_config(n_layer=3), "has no weight h.2"),
    "too many layers": (change_config(n_layer=1), "has weights that no GPT-2 has: h.1"),
    "another width": (change_config(n_embd=48), "is not what config.json says"),
    "another head": (
        change_weights(lambda weights: weights.update({"lm_head.weight": torch.zeros(50257, 24)})),
        "has no weight lm_head.weight that is the embedding's",
    ),
    "truncated": (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 9), "cannot be read"),
    "a pickle alone": (leave_only_a_pickle, "a pickle, which can run any code and is never opened"),
    "in parts": (
        lambda folder: (folder / "model.safetensors").rename(folder / "model.safetensors.index.json"),
        "in several files",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors, so there is no"),
    "another vocabulary": (
        lambda folder: (folder / "merges.txt").write_text("#version: 0.2\na b\n"),
        "has another vocabulary than GPT-2's",
    ),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json of .* cannot be read"),
}


@pytest.mark.parametrize("name", BREAK)
def test_what_is_no_gpt2_is_refused_and_leaves_nothing(tmp_path: Path, store: CheckpointStore, name: str) -> None:
    save_gpt2(tmp_path / "theirs")
    spoil, words = BREAK[name]
    spoil(tmp_path / "theirs")
    with pytest.raises(HubError, match=words):
        import_checkpoint(NOBODY, store, str(tmp_path / "theirs"))
    assert [path.name for path in store.root.iterdir()] == ["shakespeare"]


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, store: CheckpointStore) -> None:
    save_gpt2(tmp_path / "theirs")
    change_weights(lambda weights: weights["transformer.ln_f.weight"].fill_(torch.nan))(tmp_path / "theirs")
    with pytest.raises(CheckpointError, match="weights that are no finite numbers"):
        import_checkpoint(NOBODY, store, str(tmp_path / "theirs"))
    assert [path.name for path in store.root.iterdir()] == ["shakespeare"]


@pytest.mark.parametrize("named", ["merges.txt", "tokenizer.json"])
def test_vocabulary_of_the_folder_is_recognised(tmp_path: Path, named: str) -> None:
    """Without a checkpoint that has GPT-2's vocabulary, the folder's own file is enough."""
    save_gpt2(tmp_path / "theirs")
    vocabulary = (SHAKESPEARE / "vocab.bpe").read_text(encoding="utf-8")
    if named == "merges.txt":
        (tmp_path / "theirs" / named).write_text(vocabulary.rstrip("\n"), encoding="utf-8")
    else:
        merges = vocabulary.splitlines()[1:]
        (tmp_path / "theirs" / named).write_text(json.dumps({"model": {"merges": merges}}), encoding="utf-8")
    store = CheckpointStore(tmp_path / "checkpoints")
    import_checkpoint(NOBODY, store, str(tmp_path / "theirs"))
    assert (store.root / "theirs" / "vocab.bpe").read_text(encoding="utf-8") == vocabulary
