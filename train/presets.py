"""The presets: named starting points, with what each is expected to take and to reach."""

from __future__ import annotations

from dataclasses import dataclass, replace

from train.config import TrainConfig


@dataclass(frozen=True)
class Preset:
    """A named TrainConfig.

    Attributes:
        config: its settings.
        summary: what it is, in a line.
        minutes: how long it takes, and on what; "not run" if it never ran to its end.
        result: its validation figure in nats per character; "not run" if it never ran to its end.
    """

    config: TrainConfig
    summary: str
    minutes: str
    result: str


_LAPTOP = TrainConfig(
    preset="laptop",
    activation="relu_squared",
    bias=False,
    norm_bias=False,
    head_bias=False,
    rotary=True,
    qk_norm=True,
    zero_init=True,
    max_steps=1500,
    learning_rate=8e-3,
    muon_learning_rate=0.04,
    eval_interval=250,
    save_interval=250,
    checkpoint_dtype="float16",
)

PRESETS: dict[str, Preset] = {
    "laptop": Preset(
        _LAPTOP,
        "1.05M parameters, a vocabulary of 1,024 trained on the corpus; readable lines in three to five minutes",
        "3.1 minutes on two cores of an AMD EPYC server with bfloat16, 5.1 without (November 2026)",
        "block 1.443, sliding 1.426, over three seeds",
    ),
    "best": Preset(
        replace(
            _LAPTOP,
            preset="best",
            sequence_dim=256,
            short_sequence_dim=64,
            batch_size=8,
            dropout=0.2,
            max_steps=3200,
            eval_interval=400,
            eval_windows=64,
            save_interval=400,
        ),
        "1.05M parameters over a vocabulary like laptop's, with four times its context and twice its tokens; the best "
        "figure without teachers",
        "19 to 25 minutes on one core of an AMD EPYC server without bfloat16 (November 2026)",
        "block 1.424, sliding 1.417, over three seeds",
    ),
    "shakespeare": Preset(
        TrainConfig(
            preset="shakespeare",
            tokenizer="gpt2",
            vocab_dim=50257,
            sequence_dim=100,
            embed_dim=78,
            num_heads=13,
            dropout=0.25,
            max_steps=2400,
            batch_size=16,
            learning_rate=4e-3,
            muon_learning_rate=0.02,
            weight_decay=0.3,
            label_smoothing=0.03,
            bpe_dropout=0.02,
            eval_interval=200,
            eval_windows=360,
            checkpoint_dtype="float16",
        ),
        "8,193,457 parameters over GPT-2's vocabulary",
        "82 minutes on one such core",
        "block 1.495, sliding 1.496, one run that was lengthened on its way (see its card)",
    ),
    "character": Preset(
        TrainConfig(
            preset="character",
            tokenizer="character",
            vocab_dim=65,
            sequence_dim=256,
            embed_dim=384,
            num_heads=6,
            num_layers=6,
            dropout=0.2,
            bias=False,
            norm_bias=False,
            head_bias=False,
            rotary=True,
            max_steps=5000,
            batch_size=64,
            learning_rate=1e-3,
            final_fraction=0.1,
            eval_interval=250,
            save_interval=250,
        ),
        "10.67M parameters, one token a character",
        "not run",
        "not run",
    ),
    "gpt2": Preset(
        TrainConfig(
            preset="gpt2",
            tokenizer="gpt2",
            vocab_dim=50257,
            sequence_dim=1024,
            embed_dim=768,
            num_heads=12,
            num_layers=12,
            dropout=0.1,
            attention_dropout=0.1,
            max_steps=20000,
            batch_size=16,
            learning_rate=6e-4,
            eval_interval=500,
            eval_windows=32,
            save_interval=500,
        ),
        "163,059,793 parameters, GPT-2's sizes; for several GPUs and a corpus larger than Tiny Shakespeare",
        "not run",
        "not run",
    ),
    "gpt2-shakespeare": Preset(
        TrainConfig(
            preset="gpt2-shakespeare",
            init="gpt2",
            tokenizer="gpt2",
            vocab_dim=50257,
            sequence_dim=1024,
            embed_dim=768,
            num_heads=12,
            num_layers=12,
            dropout=0.1,
            attention_dropout=0.1,
            activation="gelu_tanh",
            qkv_bias=True,
            head_bias=False,
            tie_head=True,
            max_steps=100,
            batch_size=1,
            accumulation_steps=32,
            learning_rate=3e-5,
            warmup_fraction=0.1,
            eval_interval=10,
            eval_windows=32,
            patience=3,
            save_interval=10,
        ),
        "124,439,808 parameters: GPT-2's own weights, fetched once (0.5 GB) and fine-tuned; for a GPU, or patience",
        "not run",
        "not run",
    ),
    "tiny": Preset(
        TrainConfig(
            preset="tiny",
            data="sonnets",
            tokenizer="character",
            vocab_dim=65,
            sequence_dim=32,
            embed_dim=32,
            num_heads=2,
            num_layers=2,
            rotary=True,
            max_steps=100,
            batch_size=8,
            learning_rate=4e-3,
            muon_learning_rate=0.02,
            eval_interval=20,
            eval_windows=32,
            save_interval=10,
            sample_tokens=40,
        ),
        "29,830 parameters on the bundled sonnets, for tests",
        "5 seconds on two cores like laptop's",
        "block 2.474 on the sonnets",
    ),
}
