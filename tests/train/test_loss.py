"""The loss in chunks: F.cross_entropy's value and gradients, without the logits as a whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from train.loss import head_cross_entropy

ROWS, WIDTH, VOCAB = 37, 12, 301


def problem(bias: bool, rows: int = ROWS) -> tuple[Tensor, nn.Linear, Tensor]:
    torch.manual_seed(5)
    hidden = torch.randn(rows, WIDTH, requires_grad=True)
    head = nn.Linear(WIDTH, VOCAB, bias=bias)
    return hidden, head, torch.randint(VOCAB, (rows,))


def gradients(loss: Tensor, hidden: Tensor, head: nn.Linear) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [hidden, *head.parameters()]))


@pytest.mark.parametrize("chunk_rows", [1, 5, 36, 37, 100, None])
@pytest.mark.parametrize("bias", [True, False])
def test_loss_and_gradients_are_cross_entropys(bias: bool, chunk_rows: int | None) -> None:
    hidden, head, targets = problem(bias)
    exact_head = nn.Linear(WIDTH, VOCAB, bias=bias, dtype=torch.float64)
    exact_head.load_state_dict(head.state_dict())
    exact_hidden = hidden.detach().double().requires_grad_()
    expected = F.cross_entropy(exact_head(exact_hidden), targets)
    loss = head_cross_entropy(hidden, head, targets, chunk_rows=chunk_rows)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=2e-6)
    exact = gradients(expected, exact_hidden, exact_head)
    for gradient, wanted in zip(gradients(loss, hidden, head), exact, strict=True):
        torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=1e-8)


def test_gradient_follows_what_is_done_to_the_loss() -> None:
    hidden, head, targets = problem(bias=True)
    whole = gradients(head_cross_entropy(hidden, head, targets, chunk_rows=5), hidden, head)
    third = gradients(head_cross_entropy(hidden, head, targets, chunk_rows=5) / 3, hidden, head)
    for gradient, part in zip(whole, third, strict=True):
        torch.testing.assert_close(part, gradient / 3)


def test_batches_of_sequences_are_rows() -> None:
    hidden, head, targets = problem(bias=True, rows=36)
    flat = head_cross_entropy(hidden, head, targets, chunk_rows=7)
    folded = head_cross_entropy(hidden.view(4, 9, WIDTH), head, targets.view(4, 9), chunk_rows=7)
    assert torch.equal(flat, folded)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("chunk_rows", [5, 37])
def test_bfloat16_products_stay_near(chunk_rows: int, autocast: bool) -> None:
    hidden, head, targets = problem(bias=True)
    expected = F.cross_entropy(head(hidden), targets)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = head_cross_entropy(hidden, head, targets, chunk_rows=chunk_rows, dtype=torch.bfloat16)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=3e-3)
    pairs = zip(gradients(loss, hidden, head), gradients(expected, hidden, head), strict=True)
    for gradient, wanted in pairs:
        assert gradient.dtype == torch.float32
        assert (gradient - wanted).norm() < 0.02 * wanted.norm()


def test_float32_products_stay_float32_inside_autocast() -> None:
    hidden, head, targets = problem(bias=True)
    outside = head_cross_entropy(hidden, head, targets)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(outside, head_cross_entropy(hidden, head, targets))


def test_bfloat16_model_gets_bfloat16_gradients() -> None:
    hidden, head, targets = problem(bias=True)
    low = head.bfloat16()
    states = hidden.detach().bfloat16().requires_grad_()
    loss = head_cross_entropy(states, low, targets, dtype=torch.bfloat16)
    assert [gradient.dtype for gradient in gradients(loss, states, low)] == [torch.bfloat16] * 3


class _Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_never_exist_as_a_whole(dtype: torch.dtype) -> None:
    rows, chunk = 400, 20
    hidden, head, targets = problem(bias=True, rows=rows)
    with _Largest() as largest:
        head_cross_entropy(hidden, head, targets, chunk_rows=chunk, dtype=dtype).backward()
    assert largest.numel == max(chunk * VOCAB, VOCAB * WIDTH, rows * WIDTH)
    with _Largest() as largest:
        F.cross_entropy(head(hidden), targets).backward()
    assert largest.numel == rows * VOCAB


def test_chunks_of_the_large_vocabulary_are_small_by_default() -> None:
    head = nn.Linear(2, 50257)
    hidden = torch.randn(1000, 2, requires_grad=True)
    with _Largest() as largest:
        head_cross_entropy(hidden, head, torch.zeros(1000, dtype=torch.int64))
    assert largest.numel <= 2**23


def test_nothing_is_kept_for_gradients_that_nobody_wants() -> None:
    hidden, head, targets = problem(bias=True)
    loss = head_cross_entropy(hidden.detach(), head.requires_grad_(False), targets)
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(F.cross_entropy(head(hidden), targets).item(), rel=2e-6)


@pytest.mark.parametrize("chunk_rows", [1, 5, 37, None])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_soft_targets_have_their_part_of_the_gradient_and_none_of_the_value(
    weight: float, smoothing: float, chunk_rows: int | None
) -> None:
    hidden, head, targets = problem(bias=True)
    soft = torch.randn(ROWS, VOCAB).softmax(dim=-1)
    logits = head(hidden)
    hard = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    exact = (1 - weight) * hard + weight * F.cross_entropy(logits, soft)
    loss = head_cross_entropy(
        hidden,
        head,
        targets,
        chunk_rows=chunk_rows,
        label_smoothing=smoothing,
        soft_targets=lambda rows: soft[rows],
        soft_weight=weight,
    )
    assert loss.item() == pytest.approx(F.cross_entropy(logits, targets).item(), rel=2e-6)
    pairs = zip(gradients(loss, hidden, head), gradients(exact, hidden, head), strict=True)
    for gradient, wanted in pairs:
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-7)
