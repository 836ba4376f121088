"""One stream of text: the engine beside transformers' `generate` with its cache, same weights, same settings.

Each has a process of its own, and they take turns, a text each in every round; so what else the machine does meets
them alike. transformers runs with one thread and with one a core. The ratio is the median over the rounds, each to
whichever of the two was faster in it: by the clock, which is what counts on a machine that has nothing else to do,
and by processor time, which says more on a busy one.

The shakespeare configuration, with the weights of checkpoints/shakespeare where they are and random ones (rounded to
half precision, as those are stored) elsewhere; prompt of 10 tokens, 90 new ones, temperature 0.8, top_k 50. GPT-2's
format has no bias on the head, so transformers adds none: that spares it work.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "shakespeare"
PROMPT_TOKENS, NEW_TOKENS = 10, 90


def run(arguments: list[str]) -> None:
    """Measure all of them, and print medians, ranges and the ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks decode",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="texts of each (%(default)s)")
    parser.add_argument("--serve", choices=("engine", "transformers"), help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        _serve(options.serve, options.threads)
        return
    every_core = str(os.cpu_count() or 1)
    contestants = {
        name: _Contestant(["--serve", *more])
        for name, more in {
            "engine": ["engine"],
            "transformers, 1 thread": ["transformers", "--threads", "1"],
            f"transformers, {every_core} threads": ["transformers", "--threads", every_core],
        }.items()
    }
    rounds = [[contestant.measure() for contestant in contestants.values()] for _ in range(options.rounds)]
    for contestant in contestants.values():
        contestant.close()
    for index, clock in enumerate(("second", "second of processor time")):
        print(f"\n{f'tokens per {clock}':<32} median    min    max")
        for name, measured in zip(contestants, zip(*rounds, strict=True), strict=True):
            rates = [rate[index] for rate in measured]
            print(f"{name:<32} {statistics.median(rates):6.0f} {min(rates):6.0f} {max(rates):6.0f}")
        ratios = [ours[index] / max(rate[index] for rate in theirs) for ours, *theirs in rounds]
        print(f"{'engine / transformers':<32} {statistics.median(ratios):6.2f} {min(ratios):6.2f} {max(ratios):6.2f}")


class _Contestant:
    """A process that makes one text for each line it is sent."""

    def __init__(self, arguments: list[str]) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.decode", *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.measure()  # the first text warms up

    def measure(self) -> list[float]:
        """Tokens per second of one text, by the clock and by processor time."""
        assert self._process.stdin and self._process.stdout
        print(file=self._process.stdin, flush=True)
        return [NEW_TOKENS / float(seconds) for seconds in self._process.stdout.readline().split()]

    def close(self) -> None:
        self._process.communicate()


def _serve(kind: str, threads: int | None) -> None:
    """Make a text for each line that comes in; print the seconds it took, and those of processor time."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    generate = _engine() if kind == "engine" else _transformers()
    for seed, _ in enumerate(sys.stdin):
        prompt = torch.randint(50257, (PROMPT_TOKENS,), generator=torch.Generator().manual_seed(seed)).tolist()
        started, started_cpu = time.perf_counter(), time.process_time()
        generate(prompt, seed)
        print(time.perf_counter() - started, time.process_time() - started_cpu, flush=True)


def _model():
    import torch

    from gpt import GPT, GPTConfig, load_checkpoint

    if CHECKPOINT.is_dir():
        return load_checkpoint(CHECKPOINT).model
    torch.manual_seed(0)
    config = GPTConfig(vocab_dim=50257, sequence_dim=100, embed_dim=78, num_heads=13, num_layers=4)
    model = GPT.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    return model


def _engine() -> Callable[[list[int], int], None]:
    """Generation by the engine, in its background thread, read as a backend reads it."""
    from gpt.engine import Engine

    engine = Engine(_model())

    def generate(prompt: list[int], seed: int) -> None:
        assert len(list(engine.submit(prompt, max_new_tokens=NEW_TOKENS, seed=seed))) == NEW_TOKENS

    return generate


def _transformers() -> Callable[[list[int], int], None]:
    """Generation by transformers, with the model's weights."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    model = _model()
    config = model.config
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_dim,
            n_positions=config.sequence_dim,
            n_embd=config.embed_dim,
            n_head=config.num_heads,
            n_layer=config.num_layers,
            activation_function="gelu",
            layer_norm_epsilon=config.layer_norm_eps,
            tie_word_embeddings=False,
            eos_token_id=None,
            bos_token_id=None,
            pad_token_id=0,
        )
    ).eval()
    weights = {
        "transformer.wte.weight": model.token_embedding.weight,
        "transformer.wpe.weight": model.position_embedding.weight,
        "transformer.ln_f.weight": model.norm.weight,
        "transformer.ln_f.bias": model.norm.bias,
        "lm_head.weight": model.head.weight,
    }
    for number, block in enumerate(model.blocks):
        at = f"transformer.h.{number}."
        weights |= {
            at + "ln_1.weight": block.norm1.weight,
            at + "ln_1.bias": block.norm1.bias,
            at + "ln_2.weight": block.norm2.weight,
            at + "ln_2.bias": block.norm2.bias,
            at + "attn.c_attn.weight": block.self_attn.in_proj_weight.t(),
            at + "attn.c_attn.bias": torch.zeros(3 * config.embed_dim),
            at + "attn.c_proj.weight": block.self_attn.out_proj.weight.t(),
            at + "attn.c_proj.bias": block.self_attn.out_proj.bias,
            at + "mlp.c_fc.weight": block.linear1.weight.t(),
            at + "mlp.c_fc.bias": block.linear1.bias,
            at + "mlp.c_proj.weight": block.linear2.weight.t(),
            at + "mlp.c_proj.bias": block.linear2.bias,
        }
    theirs.load_state_dict(weights, strict=True)
    with torch.no_grad():
        ids = torch.arange(config.sequence_dim)[None]
        torch.testing.assert_close(theirs(ids).logits + model.head.bias, model(ids), rtol=1e-4, atol=1e-4)

    @torch.inference_mode()
    def generate(prompt: list[int], seed: int) -> None:
        torch.manual_seed(seed)
        ids = torch.tensor([prompt])
        output = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=0.8,
            top_k=50,
            use_cache=True,
            max_new_tokens=NEW_TOKENS,
        )
        assert output.shape[1] == PROMPT_TOKENS + NEW_TOKENS

    return generate


if __name__ == "__main__":
    run(sys.argv[1:])
