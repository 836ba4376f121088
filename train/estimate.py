"""Estimate: how long a run would take on this machine, from a few steps that are made and thrown away."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from gpt.model import GPT
from gpt.tokenizer import CharacterTokenizer
from train.config import TrainConfig
from train.corpus import Corpus
from train.distributed import ProcessGroup
from train.metrics import token_nats
from train.sample import sample
from train.teachers import Teachers
from train.trainer import Trainer

# Of English text, measured on Tiny Shakespeare.
CHARACTERS_PER_TOKEN = {"character": 1.0, "bpe": 2.6, "gpt2": 3.1}
GPT2_VOCAB_DIM = 50257
# Of the stand-in tokens; behind it lie more code points than any vocabulary here has tokens.
FIRST_CHARACTER = 0x10000
# A larger step is measured by a part of it.
MEASURED_TOKENS = 4096


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes:
        seconds: from its first step to its figures.
        step_s: a step.
        evaluation_s: an evaluation with its sample.
        scoring_s: the figures at the end.
        tokens_per_second: while it trains.
        steps: optimizer steps.
        tokens_per_step: tokens that each learns from.
        parameters: the model's.
        device: what computed.
        threads: on a CPU.
    """

    seconds: float
    step_s: float
    evaluation_s: float
    scoring_s: float
    tokens_per_second: float
    steps: int
    tokens_per_step: int
    parameters: int
    device: str
    threads: int


def total_seconds(config: TrainConfig, step_s: float, evaluation_s: float, scoring_s: float) -> float:
    """The seconds of a run whose parts take these."""
    return config.max_steps * step_s + math.ceil(config.max_steps / config.eval_interval) * evaluation_s + scoring_s


def estimate(config: TrainConfig, corpus: Corpus, device: torch.device, *, budget_s: float = 3.0) -> Estimate:
    """Make some steps of the run's shape with random tokens, and reckon from them.

    Args:
        config: the run's settings.
        corpus: the text it would learn; its length decides how long the last scoring takes.
        device: to compute on.
        budget_s: seconds to spend on steps, unless a single one takes longer.

    Raises:
        ConfigError: the teachers are not there, or do not fit.
    """
    vocab_dim = {"character": len(set(corpus.text)), "gpt2": GPT2_VOCAB_DIM}.get(config.tokenizer, config.vocab_dim)
    if config.init:
        vocab_dim = config.vocab_dim
    batch_size = max(1, min(config.batch_size, MEASURED_TOKENS // config.sequence_dim))
    part = dataclasses.replace(
        config, batch_size=batch_size, accumulation_steps=1, seed=0, short_sequence_dim=0, bpe_dropout=0.0
    )
    torch.manual_seed(0)
    model = GPT.from_config(config.model_config(vocab_dim)).to(device)
    tokens = torch.randint(vocab_dim, ((batch_size * 4 + 1) * (config.sequence_dim + 1),))
    # A stand-in that has as many tokens; the text it writes is never seen.
    tokenizer = CharacterTokenizer("".join(chr(FIRST_CHARACTER + number) for number in range(vocab_dim)))
    teachers = None
    if config.teachers:
        teachers = Teachers.of_shapes(config.teachers, vocab_dim, config.sequence_dim, device)
    trainer = Trainer(part, model, tokenizer, tokens, tokens, Path(), ProcessGroup({}, "gloo"), teachers)

    def seconds_of(work: Callable[[], object], budget_s: float) -> float:
        """The median of the repetitions that the budget allows, after one that does not count."""
        work()
        found: list[float] = []
        ends_at = time.perf_counter() + budget_s
        while not found or time.perf_counter() < ends_at:
            started = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            found.append(time.perf_counter() - started)
        return statistics.median(found)

    share = config.batch_size * config.accumulation_steps / batch_size
    step_s = seconds_of(lambda: float(trainer.step()[0]), budget_s) * share
    if config.short_sequence_dim:  # steps of as many tokens in shorter windows, which attend to fewer
        short = dataclasses.replace(part, short_sequence_dim=config.short_sequence_dim, short_fraction=1.0)
        trainer = Trainer(short, model, tokenizer, tokens, tokens, Path(), ProcessGroup({}, "gloo"), teachers)
        short_s = seconds_of(lambda: float(trainer.step()[0]), budget_s) * share
        step_s += config.short_fraction * (short_s - step_s)
    windows = tokens[: (batch_size * (config.sequence_dim + 1))].view(batch_size, -1)
    model.eval()
    window_s = seconds_of(lambda: token_nats(model, windows), budget_s / 4) / batch_size
    token_s = seconds_of(lambda: sample(model, tokenizer, chr(FIRST_CHARACTER), 4), budget_s / 8) / 4
    validation_tokens = len(corpus.split(config.train_fraction)[1]) / CHARACTERS_PER_TOKEN[config.tokenizer]
    validation_windows = validation_tokens / config.sequence_dim
    evaluation_s = min(config.eval_windows, validation_windows) * window_s + config.sample_tokens * token_s
    scoring_s = 3 * validation_windows * window_s  # once in blocks, twice in windows that slide by half
    return Estimate(
        seconds=round(total_seconds(config, step_s, evaluation_s, scoring_s), 1),
        step_s=step_s,
        evaluation_s=evaluation_s,
        scoring_s=scoring_s,
        tokens_per_second=round(trainer.tokens_per_step * share / step_s, 1),
        steps=config.max_steps,
        tokens_per_step=round(trainer.tokens_per_step * share),
        parameters=model.num_parameters(),
        device=str(device),
        threads=torch.get_num_threads() if device.type == "cpu" else 0,
    )
