"""Cross-entropy of a head over a large vocabulary, in chunks of rows, so that the logits never exist as a whole.

Shapes: N rows (batch times sequence), E embed_dim, V vocab_dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy whose gradients are taken chunk by chunk in the forward pass.

    The gradient of the loss by the logits is softmax minus one-hot, so it can be had as soon as a chunk's logits are
    there; then the chunk is forgotten. Peak memory is one chunk's logits instead of three times N x V numbers,
    and nothing is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        chunk_rows: int,
        dtype: torch.dtype,
        label_smoothing: float,
        soft_targets: Callable[[slice], Tensor] | None,
        soft_weight: float,
    ) -> Tensor:
        rows = hidden.shape[0]
        hard_weight = 1.0 - soft_weight
        needs_grad = any(ctx.needs_input_grad[:3])
        hidden_low, weight_low = hidden.to(dtype), weight.to(dtype)
        bias_low = None if bias is None else bias.to(dtype)
        grad_hidden = torch.empty_like(hidden_low) if needs_grad else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_grad else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if needs_grad and bias is not None else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, rows, chunk_rows):
            part = slice(start, start + chunk_rows)
            # (chunk, V), like the gradient below
            log_probabilities = F.linear(hidden_low[part], weight_low, bias_low).float().log_softmax(dim=-1)
            chosen = targets[part, None]
            total -= log_probabilities.gather(1, chosen).sum()
            if grad_hidden is not None and grad_weight is not None:
                probabilities = log_probabilities.exp_()
                if label_smoothing:
                    probabilities -= hard_weight * label_smoothing / probabilities.shape[1]
                if soft_targets is not None:
                    probabilities.sub_(soft_targets(part), alpha=soft_weight)
                one = torch.full_like(chosen, hard_weight * (label_smoothing - 1.0), dtype=probabilities.dtype)
                probabilities.scatter_add_(1, chosen, one)
                if grad_bias is not None:
                    grad_bias += probabilities.sum(dim=0)
                gradient = probabilities.to(dtype)
                grad_hidden[part] = gradient @ weight_low
                grad_weight += gradient.T @ hidden_low[part]
        if grad_hidden is not None and grad_weight is not None:
            ctx.save_for_backward(
                (grad_hidden / rows).to(hidden.dtype),
                (grad_weight / rows).to(weight.dtype),
                None if grad_bias is None or bias is None else (grad_bias / rows).to(bias.dtype),
            )
        return total / rows

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        scaled_bias = None if grad_bias is None else grad_bias * grad_output.to(grad_bias.dtype)
        return (
            grad_hidden * grad_output.to(grad_hidden.dtype),
            grad_weight * grad_output.to(grad_weight.dtype),
            scaled_bias,
            None,
            None,
            None,
            None,
            None,
            None,
        )


def head_cross_entropy(
    hidden: Tensor,
    head: nn.Linear,
    targets: Tensor,
    *,
    chunk_rows: int | None = None,
    dtype: torch.dtype = torch.float32,
    label_smoothing: float = 0.0,
    soft_targets: Callable[[slice], Tensor] | None = None,
    soft_weight: float = 0.0,
) -> Tensor:
    """Mean of -log softmax(head(hidden))[target], equal to `F.cross_entropy(head(hidden), targets)`.

    Label smoothing (Szegedy et al. 2016) and soft targets (Hinton et al. 2015) change the gradient alone, to that of
    `F.cross_entropy(..., label_smoothing=label_smoothing)`, and of
    `(1 - soft_weight) * F.cross_entropy(logits, targets) + soft_weight * F.cross_entropy(logits, probabilities)`; the
    value stays the plain loss, which compares with others.

    Args:
        hidden: (..., E), the states before the head.
        head: weight (V, E), bias (V) or None.
        targets: (...) int64.
        chunk_rows: rows whose logits exist at a time; None means as many as fit a CPU's cache, or 512 MB on a GPU.
        dtype: of the matrix products; sums and the softmax are float32 whatever it is.
        label_smoothing: part of the target's probability that is spread evenly over the vocabulary.
        soft_targets: gives the probabilities that other models give in some of the N rows, (rows, V) float32, on the
            same device and without gradient; such as SoftTargets.
        soft_weight: their part of the gradient, 0 to 1; 0 without soft_targets.

    Returns:
        () float32, in nats per token.
    """
    if chunk_rows is None:
        chunk_rows = max(1, (2**27 if hidden.is_cuda else 2**22) // head.out_features)
    with torch.autocast(hidden.device.type, enabled=False):  # the products' dtype is `dtype`, also inside an autocast
        loss: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden.reshape(-1, hidden.shape[-1]),
            head.weight,
            head.bias,
            targets.reshape(-1),
            chunk_rows,
            dtype,
            label_smoothing,
            soft_targets,
            soft_weight,
        )
    return loss
