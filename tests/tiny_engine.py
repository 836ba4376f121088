"""A tiny model whose text wanders, and engines over it that are stepped by hand."""

from __future__ import annotations

from typing import Any

import torch

from gpt.config import GPTConfig
from gpt.engine import Engine
from gpt.generation import Generation
from gpt.model import GPT
from gpt.sampling import SamplingParams

CONFIG = GPTConfig(vocab_dim=61, sequence_dim=16, embed_dim=16, num_heads=2, num_layers=2)
GREEDY = SamplingParams(temperature=0.0)
COMPILED = False


def make_model(config: GPTConfig = CONFIG, seed: int = 0) -> GPT:
    """A model whose greedy text wanders: with the weights it starts from, it would repeat one token."""
    torch.manual_seed(seed)
    model = GPT.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            large = "embedding" in name or name == "head.weight"
            parameter.normal_(std=1.0 if large else 0.5 if parameter.dim() > 1 else 0.1)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return model.eval()


def make_engine(model: GPT | None = None, **options: Any) -> Engine:
    """An engine on the path of the test's `path` fixture, or else PyTorch's."""
    return Engine(model or make_model(), background=False, **{"compiled": COMPILED, **options})


def prompt(length: int, seed: int = 0) -> list[int]:
    ids: list[int] = torch.randint(61, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return ids


def run(engine: Engine, *generations: Generation) -> list[list[int]]:
    """Step until there is nothing to do; the ids of each generation."""
    while engine.step():
        pass
    return [[token.token_id for token in generation] for generation in generations]


@torch.no_grad()
def uncached_greedy(model: GPT, ids: list[int], new_tokens: int) -> list[int]:
    """The documented rule without a cache: the window grows to sequence_dim, then only its last half goes on."""
    capacity = model.config.sequence_dim
    window, generated = ids[-capacity:], list[int]()
    for _ in range(new_tokens):
        if len(window) > capacity:
            window = window[-max(1, capacity // 2) :]
        window.append(int(model(torch.tensor([window]))[0, -1].argmax()))
        generated.append(window[-1])
    return generated
