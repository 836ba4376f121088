"""Muon for the blocks' matrices, AdamW for everything else, and the schedule of both rates.

Muon (Keller Jordan 2024, https://kellerjordan.github.io/posts/muon/) replaces a matrix's momentum by its nearest
semi-orthogonal matrix, found by a Newton-Schulz iteration, so that every direction of the update has the same size.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

# The coefficients drive singular values to between 0.68 and 1.21 in five steps, rather than to 1 exactly in many.
NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The nearest semi-orthogonal matrices, U V^T of each U S V^T, approximately.

    Five steps bring every singular value of at least 1/500 of the matrix's Frobenius norm to between 0.68 and 1.21
    (bfloat16 adds a rounding error of up to 0.03); smaller ones stay smaller, and zero stays zero.

    Args:
        matrices: (..., rows, columns).
        steps: Newton-Schulz iterations.
        dtype: of the iterations.

    Returns:
        (..., rows, columns) in `dtype`.
    """
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices  # the products below are of the smaller side
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    orthogonal: Tensor = x.mT if tall else x
    return orthogonal


class _Optimizer(torch.optim.Optimizer):
    """torch's, without what surrounds its calls in a training for torch.compile: importing that takes over a second."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class AdamW(_Optimizer, torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter 2019): torch's, to the last bit, which starts a training in a second less."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class Muon(_Optimizer):
    """Momentum, orthogonalized (Jordan 2024), with decoupled weight decay.

    The update of a matrix is -lr * sqrt(max(1, rows / columns)) * orthogonalize(Nesterov momentum).

    Args:
        params: matrices, (rows, columns).
        lr: learning rate.
        momentum: of the gradients' moving sum.
        weight_decay: decay per step is lr * weight_decay.
        splits: in how many matrices stacked by rows a parameter is taken apart; 3 for a fused query-key-value
            projection.
        dtype: of the Newton-Schulz iterations.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        splits: dict[nn.Parameter, int] | None = None,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._splits = splits or {}
        self._dtype = dtype

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient; matrices of the same shape go through the iteration together."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                buffer = state["momentum_buffer"]
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(buffer, group["momentum"])  # Nesterov
                parts = self._splits.get(parameter, 1)
                for target, part in zip(parameter.chunk(parts), update.chunk(parts), strict=True):
                    by_shape[(part.shape[0], part.shape[1])].append((target, part))
            for (rows, columns), pairs in by_shape.items():
                updates = orthogonalize(torch.stack([part for _, part in pairs]), dtype=self._dtype)
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for (target, _), update in zip(pairs, updates, strict=True):
                    target.mul_(1 - group["lr"] * group["weight_decay"]).add_(update.to(target.dtype), alpha=-scale)
        return loss


def build_optimizers(
    model: nn.Module,
    *,
    learning_rate: float,
    muon_learning_rate: float,
    weight_decay: float,
    muon_weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.95),
    orthogonalize_dtype: torch.dtype = torch.bfloat16,
) -> list[torch.optim.Optimizer]:
    """The optimizers of a GPT, over all of its parameters.

    With muon_learning_rate 0 AdamW (Loshchilov and Hutter 2019) has everything; else Muon has the blocks' matrices,
    queries, keys and values apart, and iterates in orthogonalize_dtype. Weight decay acts on matrices and embeddings,
    not on biases and norms.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    splits: dict[nn.Parameter, int] = {}
    for name, parameter in model.named_parameters():
        if muon_learning_rate and name.startswith("blocks.") and parameter.dim() == 2:
            matrices.append(parameter)
            splits[parameter] = 3 if name.endswith("in_proj_weight") else 1
        else:
            (decayed if parameter.dim() == 2 else plain).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": weight_decay}]
    if plain:
        groups.append({"params": plain, "weight_decay": 0.0})
    optimizers: list[torch.optim.Optimizer] = [AdamW(groups, lr=learning_rate, betas=betas, fused=True)]
    if matrices:
        muon = Muon(
            matrices,
            lr=muon_learning_rate,
            weight_decay=muon_weight_decay,
            splits=splits,
            dtype=orthogonalize_dtype,
        )
        optimizers.append(muon)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def learning_rate_factor(step: int, max_steps: int, warmup_fraction: float, final_fraction: float = 0.0) -> float:
    """What the peak rates are multiplied by in step `step`, counted from 0.

    It rises linearly over the first warmup_fraction of max_steps and falls linearly to final_fraction, which it
    would reach in step max_steps, the first that is not made; so no step is wasted on a rate of zero.
    """
    warmup_steps = max(1, round(max_steps * warmup_fraction))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return final_fraction + (1 - final_fraction) * (max_steps - step) / max(1, max_steps - warmup_steps + 1)
