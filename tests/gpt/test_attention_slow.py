"""SlowMultiheadAttention against torch's module, and the fast one against it where torch has no answer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gpt.attention import MultiheadAttention
from gpt.attention_slow import SlowMultiheadAttention

B, S, T, E, H = 2, 4, 6, 8, 2
WIDTHS: dict[str, dict[str, Any]] = {"self": {}, "cross": {}, "cross_widths": {"kdim": 5, "vdim": 7}}


def sequences(kind: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value; the same tensor thrice for self-attention."""
    if kind == "self":
        return (torch.randn(B, S, E, dtype=dtype, requires_grad=True),) * 3
    widths = E, WIDTHS[kind].get("kdim", E), WIDTHS[kind].get("vdim", E)
    query, key, value = (
        torch.randn(B, length, width, dtype=dtype, requires_grad=True)
        for length, width in zip((S, T, T), widths, strict=True)
    )
    return query, key, value


def randomise(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", WIDTHS)
def test_weights_load_strictly_between_all_three(kind: str, bias: bool) -> None:
    modules = [
        make(E, H, bias=bias, **WIDTHS[kind])
        for make in (nn.MultiheadAttention, MultiheadAttention, SlowMultiheadAttention)
    ]
    for source in modules:
        for target in modules:
            target.load_state_dict(randomise(source).state_dict(), strict=True)
            for name, parameter in target.named_parameters():
                assert torch.equal(parameter, source.get_parameter(name))


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_weights_load_strictly_with_the_switch(qkv_bias: bool) -> None:
    slow = SlowMultiheadAttention(E, H, qkv_bias=qkv_bias)
    fast = MultiheadAttention(E, H, qkv_bias=qkv_bias)
    slow.load_state_dict(fast.state_dict(), strict=True)
    fast.load_state_dict(slow.state_dict(), strict=True)


@pytest.mark.parametrize("mask", ["none", "key_padding_mask", "attn_mask", "per_head", "float", "causal"])
@pytest.mark.parametrize("kind", WIDTHS)
def test_slow_attention_equals_torch(kind: str, mask: str) -> None:
    torch.manual_seed(0)
    theirs = randomise(nn.MultiheadAttention(E, H, batch_first=True, **WIDTHS[kind])).double()
    slow = SlowMultiheadAttention(E, H, **WIDTHS[kind]).double()
    slow.load_state_dict(theirs.state_dict(), strict=True)
    inputs = sequences(kind, torch.float64)
    keys = inputs[1].shape[1]
    causal = torch.ones(S, keys, dtype=torch.bool).triu(keys - S + 1)
    cases: dict[str, dict[str, Any]] = {
        "none": {},
        "key_padding_mask": {"key_padding_mask": torch.arange(keys) >= torch.tensor([[keys], [2]])},
        "attn_mask": {"attn_mask": causal},
        "per_head": {"attn_mask": (torch.rand(B * H, S, keys) < 0.5).logical_and(torch.arange(keys) > 0)},
        "float": {"attn_mask": torch.randn(S, keys).double(), "key_padding_mask": torch.randn(B, keys).double()},
        "causal": {"is_causal": True},
    }
    arguments = cases[mask]
    output, weights = slow(*inputs, **arguments)
    if mask == "causal":
        arguments = {"attn_mask": causal}
    expected, expected_weights = theirs(*inputs, average_attn_weights=False, **arguments)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(weights, expected_weights)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", WIDTHS)
def test_attention_equals_slow_under_every_mask(kind: str, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bool and float masks together, a learned float mask, wholly blocked queries, causality over all of it."""
    monkeypatch.setattr(MultiheadAttention, "_use_fused", lambda *_: fused)
    torch.manual_seed(0)
    fast = randomise(MultiheadAttention(E, H, **WIDTHS[kind])).double()
    slow = SlowMultiheadAttention(E, H, **WIDTHS[kind]).double()
    slow.load_state_dict(fast.state_dict(), strict=True)
    inputs = sequences(kind, torch.float64)
    keys = inputs[1].shape[1]
    learned = torch.randn(B * H, S, keys, dtype=torch.float64)
    learned[1, 2] = -math.inf  # one head of one query sees nothing
    padding = torch.arange(keys) < torch.tensor([[0], [2]])  # in the second row, causal queries 0 and 1 see nothing
    bool_mask = torch.rand(S, keys) < 0.3
    for is_causal in (False, True):
        for arguments in (
            {"attn_mask": learned.requires_grad_(), "key_padding_mask": padding},
            {"attn_mask": bool_mask, "key_padding_mask": torch.randn(B, keys, dtype=torch.float64)},
            {"attn_mask": learned, "key_padding_mask": torch.randn(B, keys, dtype=torch.float64)},
        ):
            gradients = []
            outputs = []
            for module, options in ((fast, {"need_weights": False}), (slow, {})):
                output, _ = module(*inputs, is_causal=is_causal, **arguments, **options)
                parameters = [inputs[0], *module.parameters()] + (
                    [learned] if arguments["attn_mask"] is learned else []
                )
                gradients.append(torch.autograd.grad(output.square().sum(), parameters))
                outputs.append(output)
            torch.testing.assert_close(*outputs)
            for actual, expected in zip(*gradients, strict=True):
                assert expected.isfinite().all()
                torch.testing.assert_close(actual, expected)
            _, actual_weights = fast(*inputs, is_causal=is_causal, average_attn_weights=False, **arguments)
            torch.testing.assert_close(actual_weights, slow(*inputs, is_causal=is_causal, **arguments)[1])


def test_causal_queries_stand_at_the_last_keys() -> None:
    slow = SlowMultiheadAttention(E, H)
    query, memory = torch.randn(B, S, E), torch.randn(B, T, E)
    _, weights = slow(query, memory, memory, is_causal=True)
    assert torch.equal(weights[0, 0] > 0, torch.ones(S, T, dtype=torch.bool).tril(T - S))
    _, weights = slow(memory, query, query, is_causal=True)
    assert torch.equal(weights[0, 0] > 0, torch.ones(T, S, dtype=torch.bool).tril(S - T))
