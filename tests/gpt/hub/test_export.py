"""Exported checkpoints, loaded by transformers: the same logits, the same tokens, the same greedy text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpt import GPTConfig, load_checkpoint, save_checkpoint
from gpt.backends.local import LocalBackend
from gpt.bpe_tokenizer import BPETokenizer
from gpt.character_tokenizer import CharacterTokenizer
from gpt.completion import CompletionRequest
from gpt.errors import CheckpointError, HubError
from gpt.hub.export import export_transformers
from tests.tiny_engine import make_model

ROOT = Path(__file__).resolve().parent.parent.parent.parent
BOUND = 1e-4
TEXT = "ROMEO:\nWhat light through yonder window breaks?\n\nJULIET:\nO <|endoftext|> 3  \n"
CHARACTERS = "".join(sorted(set(TEXT)))
LEARNED: list[dict[str, Any]] = [
    {},
    {"activation": "gelu_tanh", "qkv_bias": True, "head_bias": False, "tie_head": True},
    {"activation": "relu_squared", "bias": False, "norm_bias": False, "head_bias": False},
    {"activation": "relu", "qkv_bias": True, "bias": False, "norm_bias": False, "feedforward_dim": 40},
    {"num_heads": 1, "layer_norm_eps": 1e-3},
]
BARE = {"rotary": True, "norm_bias": False, "head_bias": False}
ROTARY: list[dict[str, Any]] = [
    BARE,
    BARE | {"activation": "relu_squared", "bias": False, "tie_head": True},
    BARE | {"activation": "gelu_tanh", "qkv_bias": True, "layer_norm_eps": 1e-3},
    BARE | {"qk_norm": True, "activation": "relu_squared", "bias": False},
    BARE | {"qk_norm": True, "activation": "relu_squared", "bias": False, "tie_head": True, "layer_norm_eps": 1e-3},
]


def checkpoint_of(folder: Path, **fields: Any) -> Path:
    """A checkpoint of random weights that are large enough to matter, over the characters of TEXT."""
    tokenizer = CharacterTokenizer(CHARACTERS)
    shape = {"sequence_dim": 96, "embed_dim": 24, "num_heads": 3, "num_layers": 2, "dropout": 0.0}
    save_checkpoint(folder, make_model(GPTConfig(vocab_dim=tokenizer.vocab_dim, **(shape | fields))), tokenizer)
    return folder


@torch.no_grad()
def largest_difference(source: Path, exported: Path, text: str = TEXT) -> float:
    """Between the logits here and there."""
    checkpoint = load_checkpoint(source)
    theirs = AutoModelForCausalLM.from_pretrained(exported)
    input_ids = torch.tensor([checkpoint.tokenizer.encode(text)])
    ours = checkpoint.model(input_ids)
    assert ours.std() > 0.5  # else any model would do
    return float((theirs(input_ids).logits - ours).abs().max())


@pytest.mark.parametrize("fields", LEARNED + ROTARY, ids=str)
def test_exported_logits_are_equal(tmp_path: Path, fields: dict[str, Any]) -> None:
    source = checkpoint_of(tmp_path / "source", **fields)
    export_transformers(source, tmp_path / "exported")
    assert largest_difference(source, tmp_path / "exported") < BOUND


@pytest.mark.parametrize(
    ("name", "kind"),
    [("laptop", "Qwen3ForCausalLM"), ("verse", "Qwen3ForCausalLM"), ("shakespeare", "GPT2LMHeadModel")],
)
def test_shipped_checkpoint_is_the_same_in_a_fresh_process(tmp_path: Path, name: str, kind: str) -> None:
    source, exported, prompt = ROOT / "checkpoints" / name, tmp_path / "exported", "ROMEO:\n"
    assert export_transformers(source, exported) == kind
    checkpoint = load_checkpoint(source)
    backend = LocalBackend.from_checkpoint(source)
    request = CompletionRequest(prompt=prompt, temperature=0, max_new_tokens=40)
    greedy = prompt + "".join(chunk.text for chunk in backend.stream(request))
    backend.close()
    program = (
        "import json, sys, torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "folder, prompt = sys.argv[1:]\n"
        "model, tokenizer = (kind.from_pretrained(folder) for kind in (AutoModelForCausalLM, AutoTokenizer))\n"
        "ids = tokenizer(prompt, return_tensors='pt')\n"
        "with torch.no_grad(): logits = model(**ids).logits\n"
        "written = model.generate(**ids, max_new_tokens=40, do_sample=False)\n"
        "kind = type(model).__name__\n"
        "print(json.dumps([kind, ids['input_ids'].tolist(), logits.tolist(), tokenizer.decode(written[0])]))\n"
        "assert 'gpt' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(exported), prompt], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found, ids, logits, written = json.loads(done.stdout)
    input_ids = torch.tensor([checkpoint.tokenizer.encode(prompt)])
    assert (found, ids) == (kind, input_ids.tolist())
    with torch.no_grad():
        assert (torch.tensor(logits) - checkpoint.model(input_ids)).abs().max() < BOUND
    assert written == greedy


@pytest.mark.parametrize("kind", ["gpt2", "bpe", "character"])
def test_exported_tokenizer_gives_the_same_ids_and_text(tmp_path: Path, kind: str) -> None:
    if kind == "gpt2":
        source, text = ROOT / "checkpoints" / "shakespeare", TEXT + "'tis naïve  café 🙂\t12345\r\n don't"
    else:
        source, text = checkpoint_of(tmp_path / "source"), TEXT
        if kind == "bpe":
            tokenizer = BPETokenizer.train(TEXT * 3, 64)
            model = make_model(GPTConfig(vocab_dim=64, sequence_dim=96, embed_dim=24, num_heads=3, num_layers=1))
            save_checkpoint(source, model, tokenizer)
    export_transformers(source, tmp_path / "exported")
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path / "exported"), load_checkpoint(source).tokenizer
    ids = ours.encode(text)
    assert theirs(text)["input_ids"] == ids
    assert theirs.decode(ids) == text
    assert len(theirs) == ours.vocab_dim
    assert [theirs.decode([token]) for token in range(ours.vocab_dim)][-1] == ours.decode([ours.vocab_dim - 1])


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"qk_norm": True}, "qk_norm"),
        (BARE | {"norm_bias": True}, "norm_bias"),
        (BARE | {"head_bias": True}, "head_bias"),
        (BARE | {"qk_norm": True, "activation": "relu_squared"}, "bias"),
        (BARE | {"qk_norm": True, "activation": "relu_squared", "bias": False, "qkv_bias": True}, "qkv_bias"),
        (BARE | {"qk_norm": True, "bias": False}, "activation"),
    ],
    ids=str,
)
def test_shape_without_a_class_is_refused_by_its_field(tmp_path: Path, fields: dict[str, Any], name: str) -> None:
    source = checkpoint_of(tmp_path / "source", **fields)
    with pytest.raises(HubError, match=f"^{name} is .*; train with "):
        export_transformers(source, tmp_path / "exported")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_export_leaves_a_folder_that_holds_something(tmp_path: Path) -> None:
    source = checkpoint_of(tmp_path / "source")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(HubError, match="mine is there already and not empty"):
        export_transformers(source, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        export_transformers(tmp_path / "mine" / "none", tmp_path / "other")


def test_export_has_the_card_and_loads_no_code(tmp_path: Path) -> None:
    export_transformers(ROOT / "checkpoints" / "laptop", tmp_path / "exported")
    names = {path.name for path in (tmp_path / "exported").iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert "auto_map" not in (tmp_path / "exported" / "config.json").read_text()
