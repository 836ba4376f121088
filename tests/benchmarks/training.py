"""Training steps a second: our trainer beside a plain PyTorch loop, same sizes, same batch, on this machine's cores.

The plain loop is what a short script does, and nanoGPT's: torch's own layers, float32, all logits of a batch at once,
`F.cross_entropy`, AdamW. Ours multiplies in bfloat16 where the processor has instructions for it. Each has a process of
its own, and they take turns; the ratio is the median over the rounds.
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks._contestant import ContestantError
from tests.benchmarks._record import Record

if TYPE_CHECKING:
    from train.distributed import ProcessGroup

SHAPES = {"shakespeare": (64, 100), "character": (16, 256)}
"""Sequences in a batch, tokens in a sequence."""
QUICK = ("shakespeare", "--rounds", "2", "--batch-size", "16")
ROOT = Path(__file__).resolve().parents[2]


def run(arguments: list[str], record: Record) -> None:
    """Measure both, and print medians, memory and the ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(SHAPES)
    parser.add_argument("presets", type=_preset, nargs="*", metavar="PRESET", help=f"of {names}: whose models (all)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="steps of each (%(default)s)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="sequences in a batch (the preset's own)")
    parser.add_argument("--curve", type=int, metavar="STEPS", help="print both loss curves over so many steps instead")
    parser.add_argument("--serve", choices=("auto", "bfloat16", "float32", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for preset in options.presets or SHAPES:
        batch_size = options.batch_size or SHAPES[preset][0]
        if options.serve:
            serve(_step(options.serve, preset, batch_size))
        else:
            _compare(preset, batch_size, options, record)


def _preset(name: str) -> str:
    # argparse's choices refuse that none is given.
    if name not in SHAPES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SHAPES)}")
    return name


def _compare(preset: str, batch_size: int, options: argparse.Namespace, record: Record) -> None:
    kinds = ("bfloat16", "float32") if options.curve else ("auto", "plain")
    names = {
        "auto": "our trainer",
        "bfloat16": "our trainer in bfloat16",
        "float32": "the same in float32",
        "plain": "plain PyTorch loop",
    }
    command = ["tests.benchmarks.training", preset, "--batch-size", str(batch_size), "--serve"]
    contestants = {names[kind]: Steps([sys.executable, "-m", *command, kind]) for kind in kinds}
    rounds = list[list[tuple[float, float, int]]]()
    try:
        for _ in range(options.curve or options.rounds):
            rounds.append([contestant.step() for contestant in contestants.values()])
        for contestant in contestants.values():
            contestant.close()
    finally:
        length = SHAPES[preset][1]
        table = f"training {preset}, {batch_size} x {length}"
        if options.curve:
            _print_curves(list(contestants), rounds, table, record)
        elif rounds:
            print_rates(list(contestants), rounds, batch_size * length, table, record)


def _print_curves(
    names: Sequence[str], rounds: Sequence[Sequence[tuple[float, float, int]]], table: str, record: Record
) -> None:
    print(f"\n{table}\nstep  " + "  ".join(names))
    for step, ((_, ours, _), (_, theirs, _)) in enumerate(rounds, 1):
        print(f"{step:4}  {ours:11.4f}  {theirs:19.4f}")
        record.row(table, f"loss at step {step}", "nats per token", [ours], float32=theirs)


def print_rates(
    names: Sequence[str],
    rounds: Sequence[Sequence[tuple[float, float, int]]],
    tokens: int,
    table: str,
    record: Record,
) -> None:
    """Print and keep tokens per second and memory of each, and how many times as fast the first is.

    Args:
        names: of the contestants, as in a round.
        rounds: what each step took, by round and contestant; at least one.
        tokens: in a step.
        table: the name of the table.
        record: keeps the rows.
    """
    print(f"\n{table}\n{'tokens per second':<40} median    min    max  memory, GB")
    for number, name in enumerate(names):
        rates = [tokens / measured[number][0] for measured in rounds]
        memory = rounds[-1][number][2] / 2**20
        print(f"{name:<40} {statistics.median(rates):6.0f} {min(rates):6.0f} {max(rates):6.0f}  {memory:10.2f}")
        record.row(table, name, "tokens/s", rates, memory_gb=memory)
    for number, name in enumerate(names[1:], 1):
        ratios = [measured[number][0] / measured[0][0] for measured in rounds]
        title = f"the first / {name}"
        print(f"{title:<40} {statistics.median(ratios):6.2f} {min(ratios):6.2f} {max(ratios):6.2f}")
        record.row(table, title, "times as fast", ratios)


class Steps:
    """A process that makes one training step for each line it is sent.

    Args:
        command: what starts it; it calls `serve`.
        environment: of the process; None is this one's.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.step(), self.step()  # warm up

    def step(self) -> tuple[float, float, int]:
        """Seconds, loss, and kilobytes held so far.

        Raises:
            ContestantError: the process has ended.
        """
        assert self._process.stdin and self._process.stdout
        try:
            print(file=self._process.stdin, flush=True)
            seconds, loss, memory = self._process.stdout.readline().split()
        except (BrokenPipeError, ValueError):
            raise ContestantError("a trainer's process ended; what it said stands above") from None
        return float(seconds), float(loss), int(memory)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve(step: Callable[[], float]) -> None:
    """Make a step for each line that comes in; print its seconds, its loss and the memory."""
    for _ in sys.stdin:
        started = time.perf_counter()
        loss = step()
        seconds = time.perf_counter() - started
        print(seconds, loss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)


def _step(kind: str, preset: str, batch_size: int) -> Callable[[], float]:
    from train.distributed import ProcessGroup

    if kind == "plain":
        return _plain(preset, batch_size)
    return make_trainer(preset, kind, batch_size, ProcessGroup({}, "gloo"))


def _config(preset: str, precision: str, batch_size: int):
    from train.presets import PRESETS

    return dataclasses.replace(PRESETS[preset].config, batch_size=batch_size, precision=precision)


def _tokens(config):
    """The bundled sonnets, over and over, and the size of the vocabulary."""
    import torch

    from gpt.tokenizer import build_tokenizer

    text = (ROOT / "data" / "sonnets.txt").read_text(encoding="utf-8")
    tokenizer = build_tokenizer(config.tokenizer, text, checkpoints_root=ROOT / "checkpoints", tiktoken_cache=None)
    return torch.tensor(tokenizer.encode(text)).repeat(4), tokenizer.vocab_dim


def make_trainer(preset: str, precision: str, batch_size: int, processes: ProcessGroup) -> Callable[[], float]:
    """One step of our trainer a call, its loss in nats per token.

    Args:
        preset: whose model.
        precision: of the products.
        batch_size: sequences of this process in a step.
        processes: that train together.
    """
    import torch

    from gpt.character_tokenizer import CharacterTokenizer
    from gpt.model import GPT
    from train.trainer import Trainer

    config = _config(preset, precision, batch_size)
    torch.manual_seed(0)
    tokens, vocab_dim = _tokens(config)
    model = GPT.from_config(config.model_config(vocab_dim))
    folder = Path(tempfile.mkdtemp())
    trainer = Trainer(config, model, CharacterTokenizer("a"), tokens, tokens[:10_000], folder, processes)
    model.train()
    trainer._copy.train()

    def step() -> float:
        loss = float(trainer.step()[0])
        trainer.state.step += 1
        return loss

    return step


def _plain(preset: str, batch_size: int) -> Callable[[], float]:
    import torch
    import torch.nn.functional as F
    from torch import nn

    config = _config(preset, "float32", batch_size)
    length = SHAPES[preset][1]
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
    run(sys.argv[1:], Record())
