"""Muon, AdamW and their schedule: against exact mathematics and plain loops."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gpt.config import GPTConfig
from gpt.model import GPT
from train.optimizer import (
    NEWTON_SCHULZ_COEFFICIENTS,
    AdamW,
    Muon,
    build_optimizers,
    learning_rate_factor,
    orthogonalize,
)

ROOT = Path(__file__).parents[2]


def matrix_with(singular_values: Tensor, rows: int, columns: int, seed: int = 0) -> Tensor:
    """A random float64 matrix that has these singular values."""
    generator = torch.Generator().manual_seed(seed)
    u, _ = torch.linalg.qr(torch.randn(rows, len(singular_values), dtype=torch.float64, generator=generator))
    v, _ = torch.linalg.qr(torch.randn(columns, len(singular_values), dtype=torch.float64, generator=generator))
    return u @ torch.diag(singular_values.double()) @ v.T


def iterated(singular_values: Tensor, steps: int = 5) -> Tensor:
    """What the iteration makes of singular values, which it maps one by one."""
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    x = singular_values.double() / singular_values.double().norm()
    for _ in range(steps):
        x = a * x + b * x**3 + c * x**5
    return x


@pytest.mark.parametrize(("rows", "columns"), [(24, 24), (48, 12), (12, 48), (1, 7), (7, 1)])
def test_orthogonalize_maps_singular_values_and_keeps_directions(rows: int, columns: int) -> None:
    values = torch.linspace(1, 5, min(rows, columns))
    matrix = matrix_with(values, rows, columns)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    expected = u @ torch.diag(iterated(s)) @ v
    torch.testing.assert_close(orthogonalize(matrix, dtype=torch.float64), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (64, 16), (16, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalize_is_near_the_polar_factor(rows: int, columns: int, dtype: torch.dtype) -> None:
    """All directions down to 1/500 of the matrix's norm get a size between 0.68 and 1.21, as documented."""
    values = torch.logspace(0, -2.3, min(rows, columns))
    matrix = matrix_with(values, rows, columns).float()
    assert values[-1] > 0.002 * matrix.norm()
    result = orthogonalize(matrix, dtype=dtype)
    assert result.dtype == dtype
    slack = 0.03 if dtype == torch.bfloat16 else 1e-3
    found = torch.linalg.svdvals(result.double())
    assert found.min() > 0.68 - slack
    assert found.max() < 1.21 + slack
    u, _, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    sizes = torch.diagonal(u.T @ result.double() @ v.T)
    assert sizes.min() > 0.68 - 2 * slack, "a direction of the matrix is not one of the result"


def test_documented_bounds_hold_for_every_singular_value() -> None:
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    x = torch.logspace(math.log10(0.002), 0, 100_000, dtype=torch.float64)
    for _ in range(5):
        x = a * x + b * x**3 + c * x**5
    assert 0.68 < x.min() < 0.69
    assert 1.20 < x.max() < 1.21


def test_orthogonalize_leaves_weak_directions_weak_and_zero_zero() -> None:
    weak = matrix_with(torch.tensor([1.0, 1e-6]), 8, 8)
    assert torch.linalg.svdvals(orthogonalize(weak, dtype=torch.float64))[1] < 0.01
    assert orthogonalize(torch.zeros(3, 4)).abs().max() == 0


def test_orthogonalize_takes_stacked_matrices_one_by_one() -> None:
    stack = torch.randn(5, 12, 30, generator=torch.Generator().manual_seed(1))
    together = orthogonalize(stack, dtype=torch.float32)
    for matrix, result in zip(stack, together, strict=True):
        torch.testing.assert_close(orthogonalize(matrix, dtype=torch.float32), result, rtol=1e-4, atol=1e-5)


def train(parameters: list[nn.Parameter], gradients: list[list[Tensor]], optimizer: torch.optim.Optimizer) -> None:
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()


def some(shapes: list[tuple[int, int]], steps: int, seed: int = 0) -> tuple[list[Tensor], list[list[Tensor]]]:
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(shape, generator=generator) for shape in shapes]
    return weights, [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(steps)]


def test_muon_is_the_plain_loop() -> None:
    lr, momentum, decay = 0.02, 0.95, 0.1
    weights, gradients = some([(8, 8), (8, 8), (24, 8), (8, 24)], steps=4)
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    train(parameters, gradients, Muon(parameters, lr, momentum, decay))
    for index, weight in enumerate(weights):
        expected, buffer = weight.double(), torch.zeros_like(weight).double()
        for step in gradients:
            gradient = step[index].double()
            buffer = momentum * buffer + (1 - momentum) * gradient
            u, s, v = torch.linalg.svd(momentum * buffer + (1 - momentum) * gradient, full_matrices=False)
            rows, columns = weight.shape
            expected = (1 - lr * decay) * expected
            expected -= lr * max(1.0, rows / columns) ** 0.5 * (u @ torch.diag(iterated(s)) @ v)
        moved = (parameters[index].double() - weight.double()).norm()
        assert (parameters[index].double() - expected).norm() < 0.05 * moved  # the iteration is in bfloat16


def test_muon_splits_equal_parameters_apart() -> None:
    weights, gradients = some([(24, 8)], steps=3)
    fused = nn.Parameter(weights[0].clone())
    apart = [nn.Parameter(part.clone()) for part in weights[0].chunk(3)]
    train([fused], gradients, Muon([fused], 0.02, weight_decay=0.1, splits={fused: 3}))
    train(apart, [list(step[0].chunk(3)) for step in gradients], Muon(apart, 0.02, weight_decay=0.1))
    torch.testing.assert_close(fused, torch.cat(list(apart)), rtol=0, atol=1e-6)
    whole = nn.Parameter(weights[0].clone())
    train([whole], gradients, Muon([whole], 0.02, weight_decay=0.1))
    assert (whole - fused).abs().max() > 1e-3


def test_muon_does_the_same_with_matrices_of_one_shape_as_with_each_alone() -> None:
    weights, gradients = some([(8, 8)] * 3, steps=3)
    together = [nn.Parameter(weight.clone()) for weight in weights]
    train(together, gradients, Muon(together, 0.02))
    for index, weight in enumerate(weights):
        alone = nn.Parameter(weight.clone())
        train([alone], [[step[index]] for step in gradients], Muon([alone], 0.02))
        torch.testing.assert_close(alone, together[index], rtol=0, atol=5e-4)


def test_muon_weight_decay_is_decoupled() -> None:
    weights, gradients = some([(8, 8)], steps=1)
    plain, decayed = nn.Parameter(weights[0].clone()), nn.Parameter(weights[0].clone())
    train([plain], gradients, Muon([plain], 0.1))
    train([decayed], gradients, Muon([decayed], 0.1, weight_decay=0.5))
    torch.testing.assert_close(plain - decayed, 0.1 * 0.5 * weights[0], rtol=0, atol=1e-6)


def test_muon_leaves_a_parameter_without_gradient_alone() -> None:
    (weight,), _ = some([(8, 8)], steps=0)
    parameter = nn.Parameter(weight.clone())
    Muon([parameter], 0.1, weight_decay=0.5).step()
    assert torch.equal(parameter, weight)


@pytest.mark.parametrize("fused", [False, True])
def test_adamw_is_torchs_to_the_last_bit(fused: bool) -> None:
    weights, gradients = some([(8, 8), (1, 24)], steps=4)
    mine, theirs = ([nn.Parameter(weight.clone()) for weight in weights] for _ in range(2))
    for parameters, kind in ((mine, AdamW), (theirs, torch.optim.AdamW)):
        groups = [{"params": parameters[:1], "weight_decay": 0.3}, {"params": parameters[1:], "weight_decay": 0.0}]
        train(parameters, gradients, kind(groups, lr=0.02, betas=(0.8, 0.9), fused=fused))
    assert all(torch.equal(*pair) for pair in zip(mine, theirs, strict=True))
    assert not torch.equal(mine[0], weights[0])


def test_optimizers_do_not_import_the_compiler() -> None:
    """Importing torch.compile's machine takes longer than all else that a training begins with."""
    code = (
        "import sys, torch; from train.optimizer import AdamW, Muon\n"
        "for kind in (AdamW, Muon):\n"
        "    weight = torch.nn.Parameter(torch.ones(2, 2))\n"
        "    optimizer = kind([weight], lr=0.1)\n"
        "    weight.square().sum().backward(); optimizer.step(); optimizer.zero_grad()\n"
        "    assert weight.grad is None and weight[0, 0] < 1\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def build(muon_learning_rate: float, **shape: Any) -> tuple[GPT, list[torch.optim.Optimizer]]:
    config = GPTConfig(vocab_dim=11, sequence_dim=8, embed_dim=8, num_heads=2, num_layers=2, **shape)
    model = GPT.from_config(config)
    optimizers = build_optimizers(
        model,
        learning_rate=0.003,
        muon_learning_rate=muon_learning_rate,
        weight_decay=0.1,
        muon_weight_decay=0.2,
        betas=(0.8, 0.9),
    )
    return model, optimizers


@pytest.mark.parametrize("shape", [{}, {"bias": False, "norm_bias": False, "head_bias": False, "rotary": True}])
@pytest.mark.parametrize("muon_learning_rate", [0.0, 0.02])
def test_every_parameter_is_in_exactly_one_optimizer(muon_learning_rate: float, shape: dict[str, bool]) -> None:
    model, optimizers = build(muon_learning_rate, **shape)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    assert [type(optimizer) for optimizer in optimizers] == [AdamW, *([Muon] if muon_learning_rate else [])]


def test_tied_head_is_in_one_optimizer() -> None:
    model, optimizers = build(0.02, tie_head=True, head_bias=False)
    held = [
        id(parameter) for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]
    ]
    assert held.count(id(model.head.weight)) == 1


@pytest.mark.parametrize("muon_learning_rate", [0.0, 0.02])
def test_biases_and_norms_do_not_decay(muon_learning_rate: float) -> None:
    model, optimizers = build(muon_learning_rate)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay = {
        names[id(parameter)]: group["weight_decay"]
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, value in decay.items():
        if "norm" in name or name.endswith("bias"):
            assert value == 0, name
        elif muon_learning_rate and name.startswith("blocks."):
            assert value == 0.2, name
        else:
            assert value == 0.1, name
    assert sum(value == 0 for value in decay.values()) == 2 * (4 + 3) + 2 + 1


def test_muon_has_the_blocks_matrices_and_takes_queries_keys_and_values_apart() -> None:
    model, (_, muon) = build(0.02)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    held = {names[id(parameter)] for parameter in muon.param_groups[0]["params"]}
    suffixes = ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
    assert held == {f"blocks.{block}.{suffix}" for block in (0, 1) for suffix in suffixes}
    assert isinstance(muon, Muon)
    splits = {names[id(parameter)]: parts for parameter, parts in muon._splits.items()}
    assert {name for name, parts in splits.items() if parts == 3} == {
        "blocks.0.self_attn.in_proj_weight",
        "blocks.1.self_attn.in_proj_weight",
    }


def test_settings_reach_the_optimizers() -> None:
    _, (adamw, muon) = build(0.02)
    assert all((group["lr"], group["initial_lr"]) == (0.003, 0.003) for group in adamw.param_groups)
    assert all(group["betas"] == (0.8, 0.9) for group in adamw.param_groups)
    assert [(group["lr"], group["initial_lr"]) for group in muon.param_groups] == [(0.02, 0.02)]


def test_schedule_rises_falls_and_ends() -> None:
    factors = [learning_rate_factor(step, 100, 0.1, 0.2) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[4] == pytest.approx(0.5)
    assert factors[9] == 1.0
    assert factors[100] == pytest.approx(0.2)  # the first step that is not made
    falls = [before - after for before, after in itertools.pairwise(factors[9:])]
    assert falls == pytest.approx([0.8 / 91] * 91)
    assert max(factors) == 1.0


def test_schedule_without_rest_never_wastes_a_step() -> None:
    factors = [learning_rate_factor(step, 50, 0.0) for step in range(50)]
    assert factors[0] == 1.0
    assert factors[-1] == pytest.approx(1 / 50)
    assert min(factors) > 0


@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("max_steps", [1, 2, 3])
def test_schedule_of_a_short_run_is_positive(max_steps: int, warmup: float) -> None:
    factors = [learning_rate_factor(step, max_steps, warmup) for step in range(max_steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1.0
