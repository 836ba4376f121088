"""Rotary positions: what a rotation keeps, and what the tables promise."""

from __future__ import annotations

import math

import pytest
import torch

from gpt.rotary import apply_rotary, rotary_table

CPU = torch.device("cpu")


def rotated(x: torch.Tensor, position: int) -> torch.Tensor:
    cos, sin = rotary_table(1024, x.shape[-1], CPU, x.dtype)
    return apply_rotary(x, cos[position], sin[position])


def test_rotary_product_depends_on_the_distance_alone() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 10, dtype=torch.float64)
    products = {(m, n): rotated(q, m) @ rotated(k, n) for m in (0, 3, 200, 900) for n in (m, m + 1, m + 90)}
    for (m, n), product in products.items():
        torch.testing.assert_close(product, q @ rotated(k, n - m))
    torch.testing.assert_close(products[3, 3], q @ k)
    assert not torch.isclose(products[3, 4], q @ k)


def test_rotary_turns_pairs_as_complex_numbers() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 8, dtype=torch.float64)
    angles = 5 * 10000.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    turned = torch.complex(x[:, :4], x[:, 4:]) * torch.polar(torch.ones(4, dtype=torch.float64), angles)
    torch.testing.assert_close(rotated(x, 5), torch.cat((turned.real, turned.imag), dim=-1))
    torch.testing.assert_close(rotated(x, 5).norm(dim=-1), x.norm(dim=-1))


def test_rotary_leaves_position_zero_as_it_is() -> None:
    x = torch.randn(4, 6)
    assert torch.equal(rotated(x, 0), x)


def test_rotary_table_keeps_its_digits_at_large_positions() -> None:
    last = 2**17 - 1
    angles = [last * 10000.0 ** (-pair / 3) for pair in range(3)]
    for dtype, tolerance in ((torch.float32, 1e-7), (torch.float64, 1e-10)):
        cos, sin = rotary_table(last + 1, 6, CPU, dtype)
        assert cos.dtype == sin.dtype == dtype
        assert cos[-1].tolist() == pytest.approx([math.cos(angle) for angle in angles], abs=tolerance)
        assert sin[-1].tolist() == pytest.approx([math.sin(angle) for angle in angles], abs=tolerance)


def test_rotary_table_made_in_inference_mode_serves_training() -> None:
    with torch.inference_mode():
        cos, sin = rotary_table(37, 4, CPU, torch.float32)
    x = torch.randn(37, 4, requires_grad=True)
    apply_rotary(x, cos, sin).square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())  # a rotation keeps the length
