"""Dropout: probability, scaling, gradient, and where it does nothing."""

from __future__ import annotations

import math

import pytest
import torch

from gpt.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_zeroes_with_its_probability_and_scales_the_rest(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.full((300, 301), 2.0, dtype=dtype)  # an odd number of elements: four share a random number
    y = Dropout(p)(x)
    assert y.dtype == dtype
    assert y.shape == x.shape
    dropped = y == 0
    spread = math.sqrt(p * (1 - p))
    assert abs(dropped.double().mean().item() - p) < 5 * spread / math.sqrt(x.numel())
    torch.testing.assert_close(
        y[~dropped], x[~dropped] / (1 - p), rtol=1e-2 if dtype == torch.bfloat16 else 1e-4, atol=0
    )
    for lag in (1, 2, 3, 4, 301):  # neighbours, and those above each other, are dropped independently
        pairs = (dropped.flatten()[lag:] & dropped.flatten()[:-lag]).double().mean().item()
        assert abs(pairs - p * p) < 6 * spread / math.sqrt(x.numel())


def test_dropout_gradient_is_what_it_multiplied_by() -> None:
    x = torch.ones(50, 7, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y.detach())
    assert 0 < (y == 0).sum() < y.numel()


def test_dropout_does_nothing_outside_training_or_without_probability() -> None:
    x = torch.randn(5, 3)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert Dropout(0.5)(torch.empty(0, 3)).shape == (0, 3)


def test_dropout_repeats_under_a_seed_and_differs_between_calls() -> None:
    x, dropout = torch.ones(40, 40), Dropout(0.5)
    torch.manual_seed(7)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(7)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [1.0, 0.999999])
def test_dropout_of_almost_all_gives_zeros_and_no_error(p: float) -> None:
    assert Dropout(p)(torch.ones(10)).eq(0).all()
