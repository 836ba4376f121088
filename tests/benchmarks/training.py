"""Training steps a second: our trainer beside a plain PyTorch loop, same sizes, same batch, on this machine's cores.

The plain loop is what a short script does, and nanoGPT's: torch's own layers, float32, all logits of a batch at once,
`F.cross_entropy`, AdamW. Each has a process of its own, and they take turns; the ratio is the median over the rounds.
Memory is the most that each process ever held. `--curve` compares instead what the trainer learns with bfloat16
products and with float32 ones: losses in nats per token, same batches, same dropout seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SHAPES = {"shakespeare": (64, 100), "character": (16, 256)}
"""Sequences in a batch, tokens in a sequence."""
ROOT = Path(__file__).resolve().parents[2]


def run(arguments: list[str]) -> None:
    """Measure both, and print medians, memory and the ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", choices=SHAPES, nargs="?", default="shakespeare", help="whose model (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="steps of each (%(default)s)")
    parser.add_argument("--curve", type=int, metavar="STEPS", help="print both loss curves over so many steps instead")
    parser.add_argument("--serve", choices=("bfloat16", "float32", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        _serve(options.serve, options.preset)
        return
    kinds = ("bfloat16", "float32") if options.curve else ("bfloat16", "plain")
    names = {"bfloat16": "our trainer", "float32": "the same in float32", "plain": "plain PyTorch loop"}
    contestants = {names[kind]: _Contestant(options.preset, kind) for kind in kinds}
    tokens = SHAPES[options.preset][0] * SHAPES[options.preset][1]
    count = options.curve or options.rounds
    rounds = [[contestant.step() for contestant in contestants.values()] for _ in range(count)]
    if options.curve:
        print("step  " + "  ".join(contestants))
        for step, ((_, ours, _), (_, theirs, _)) in enumerate(rounds, 1):
            print(f"{step:4}  {ours:11.4f}  {theirs:19.4f}")
        return
    print(f"\n{'tokens per second':<24} median    min    max  memory, GB")
    for number, name in enumerate(contestants):
        rates = [tokens / measured[number][0] for measured in rounds]
        memory = rounds[-1][number][2]
        print(f"{name:<24} {statistics.median(rates):6.0f} {min(rates):6.0f} {max(rates):6.0f}  {memory / 2**20:10.2f}")
    ratios = [theirs[0] / ours[0] for ours, theirs in rounds]
    print(f"{'ours / plain':<24} {statistics.median(ratios):6.2f} {min(ratios):6.2f} {max(ratios):6.2f}")


class _Contestant:
    """A process that makes one training step for each line it is sent."""

    def __init__(self, preset: str, kind: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.training", preset, "--serve", kind]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.step(), self.step()  # warm up

    def step(self) -> tuple[float, float, int]:
        """Seconds, loss, and kilobytes held so far."""
        assert self._process.stdin and self._process.stdout
        print(file=self._process.stdin, flush=True)
        seconds, loss, memory = self._process.stdout.readline().split()
        return float(seconds), float(loss), int(memory)


def _serve(kind: str, preset: str) -> None:
    """Make a step for each line that comes in; print its seconds, its loss and the memory."""
    step = _plain(preset) if kind == "plain" else _trainer(preset, kind)
    for _ in sys.stdin:
        started = time.perf_counter()
        loss = step()
        seconds = time.perf_counter() - started
        print(seconds, loss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)


def _config(preset: str, precision: str):
    from train.presets import PRESETS

    return dataclasses.replace(PRESETS[preset].config, batch_size=SHAPES[preset][0], precision=precision)


def _tokens(config):
    """The bundled sonnets, over and over, and the size of the vocabulary."""
    import torch

    from gpt.tokenizer import build_tokenizer

    text = (ROOT / "data" / "sonnets.txt").read_text(encoding="utf-8")
    tokenizer = build_tokenizer(config.tokenizer, text, checkpoints_root=ROOT / "checkpoints", tiktoken_cache=None)
    return torch.tensor(tokenizer.encode(text)).repeat(4), tokenizer.vocab_dim


def _trainer(preset: str, precision: str) -> Callable[[], float]:
    import torch

    from gpt.character_tokenizer import CharacterTokenizer
    from gpt.model import GPT
    from train.distributed import ProcessGroup
    from train.trainer import Trainer

    config = _config(preset, precision)
    torch.manual_seed(0)
    tokens, vocab_dim = _tokens(config)
    model = GPT.from_config(config.model_config(vocab_dim))
    folder = Path(tempfile.mkdtemp())
    trainer = Trainer(config, model, CharacterTokenizer("a"), tokens, tokens[:10_000], folder, ProcessGroup({}, "gloo"))
    model.train()
    trainer._copy.train()

    def step() -> float:
        loss = float(trainer.step()[0])
        trainer.state.step += 1
        return loss

    return step


def _plain(preset: str) -> Callable[[], float]:
    import torch
    import torch.nn.functional as F
    from torch import nn

    config = _config(preset, "float32")
    batch_size, length = SHAPES[preset]
    width = config.embed_dim
    torch.manual_seed(0)
    tokens, vocab_dim = _tokens(config)

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(vocab_dim, width), nn.Embedding(length, width)
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(
                    width,
                    config.num_heads,
                    4 * width,
                    config.dropout,
                    F.gelu,
                    batch_first=True,
                    norm_first=True,
                    bias=config.bias,
                )
                for _ in range(config.num_layers)
            )
            self.dropout, self.norm = nn.Dropout(config.dropout), nn.LayerNorm(width)
            self.head = nn.Linear(width, vocab_dim, bias=config.head_bias)
            self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

        def forward(self, ids):
            x = self.dropout(self.tokens(ids) + self.positions.weight)
            for block in self.blocks:
                x = block(x, src_mask=self.mask, is_causal=True)
            return self.head(self.norm(x))

    model = Plain().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step() -> float:
        starts = torch.randint(len(tokens) - length - 1, (batch_size,)).tolist()
        ids = torch.stack([tokens[start : start + length + 1] for start in starts])
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


if __name__ == "__main__":
    run(sys.argv[1:])
