"""SelfMultiheadAttentionBlock against torch.nn.TransformerEncoderLayer(norm_first=True) with the same weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.attention import MultiheadAttention
from gpt.block import ACTIVATIONS, SelfMultiheadAttentionBlock
from gpt.errors import ConfigError
from gpt.kv_cache import KVCache

B, S, E, H = 3, 6, 12, 3
CAUSAL = torch.ones(S, S, dtype=torch.bool).triu(1)
PADDING = torch.arange(S) >= torch.tensor([[6], [4], [1]])
MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "src_mask": {"src_mask": CAUSAL},
    "float": {"src_mask": torch.linspace(-2, 2, S * S).view(S, S).masked_fill(CAUSAL, -math.inf)},
    "per_head": {"src_mask": torch.linspace(-1, 1, B * H * S * S).view(B * H, S, S)},
    "padding": {"src_key_padding_mask": PADDING},
    "both": {"src_mask": CAUSAL, "src_key_padding_mask": PADDING},
}


def pair(activation: str, bias: bool = True) -> tuple[nn.TransformerEncoderLayer, SelfMultiheadAttentionBlock]:
    """torch's layer with random parameters everywhere, and ours with the same."""
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(E, H, 4 * E, 0.0, activation, 1e-3, True, True, bias)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = SelfMultiheadAttentionBlock(E, H, dropout=0.0, activation=activation, layer_norm_eps=1e-3, bias=bias)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return theirs, ours


def run(module: nn.Module, src: Tensor, **arguments: Any) -> list[Tensor]:
    """The output, and the gradients of the input and of every parameter."""
    src = src.clone().requires_grad_()
    output = module(src, **arguments)
    return [output, *torch.autograd.grad(output.square().sum(), [src, *module.parameters()])]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_block_equals_torch(activation: str, mask: str) -> None:
    theirs, ours = pair(activation)
    src = torch.randn(B, S, E)
    expected = run(theirs, src, **MASKS[mask])
    torch.testing.assert_close(run(ours, src, **MASKS[mask]), expected, rtol=1e-4, atol=1e-4)
    if mask == "src_mask":
        torch.testing.assert_close(run(ours, src, is_causal=True), expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(src, **MASKS[mask]), expected[0].detach())
        output, weights = ours.attend(src, **MASKS[mask])
    torch.testing.assert_close(output, expected[0].detach())
    assert weights is not None and weights.shape == (B, H, S, S)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, S))


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_block_without_biases_equals_torch(activation: str) -> None:
    theirs, ours = pair(activation, bias=False)
    assert not any(name.endswith("bias") for name, _ in ours.named_parameters())
    src = torch.randn(B, S, E)
    torch.testing.assert_close(run(ours, src), run(theirs, src), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("gelu_tanh", lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
        ("relu_squared", lambda x: x.clamp(min=0) ** 2),
        ("gelu", lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))),
        ("relu", F.relu),
    ],
)
def test_block_activation_is_what_its_name_says(activation: str, function: Any) -> None:
    block = SelfMultiheadAttentionBlock(E, H, 5, dropout=0.0, activation=activation)
    nn.init.zeros_(block.self_attn.out_proj.weight)  # attention adds nothing; what remains is the feed-forward
    x = torch.randn(B, S, E)
    expected = x + block.linear2(function(block.linear1(block.norm2(x))))
    torch.testing.assert_close(block(x), expected)


def test_block_has_an_activation_for_each_name_and_refuses_others() -> None:
    with pytest.raises(ConfigError, match="activation is 'tanh'; choose one of gelu, gelu_tanh, relu, relu_squared"):
        SelfMultiheadAttentionBlock(E, H, activation="tanh")
    assert list(ACTIVATIONS) == ["gelu", "gelu_tanh", "relu", "relu_squared"]


def test_block_switches_leave_biases_out() -> None:
    everything = set(SelfMultiheadAttentionBlock(E, H).state_dict())
    without_qkv = set(SelfMultiheadAttentionBlock(E, H, qkv_bias=False).state_dict())
    assert everything - without_qkv == {"self_attn.in_proj_bias"}
    without_norm = set(SelfMultiheadAttentionBlock(E, H, norm_bias=False).state_dict())
    assert everything - without_norm == {"norm1.bias", "norm2.bias"}
    only_norm = set(SelfMultiheadAttentionBlock(E, H, bias=False, norm_bias=True).state_dict())
    assert {name for name in only_norm if name.endswith("bias")} == {"norm1.bias", "norm2.bias"}
    assert SelfMultiheadAttentionBlock(E, H).linear1.out_features == 4 * E


def test_block_drops_both_branches_and_the_attention_weights() -> None:
    torch.manual_seed(0)
    block = SelfMultiheadAttentionBlock(E, H, dropout=0.25, attention_dropout=0.5)
    assert (block.self_attn.dropout, SelfMultiheadAttentionBlock(E, H, dropout=0.25).self_attn.dropout) == (0.5, 0.25)
    x = torch.randn(200, S, E)
    assert torch.equal(block.eval()(x), block(x))
    block.train()
    nn.init.constant_(block.self_attn.out_proj.bias, 1.0)
    nn.init.zeros_(block.self_attn.out_proj.weight)
    nn.init.zeros_(block.linear2.weight)
    nn.init.constant_(block.linear2.bias, 10.0)
    added = (block(x) - x).round(decimals=3)  # each branch adds nothing, or its constant / 0.75
    kinds, counts = added.unique(return_counts=True)
    torch.testing.assert_close(kinds, torch.tensor([0.0, 1.333, 13.333, 14.667]))
    shares = counts / added.numel()
    torch.testing.assert_close(shares, torch.tensor([1, 3, 3, 9]) / 16, rtol=0, atol=5 * 0.5 / math.sqrt(added.numel()))


@pytest.mark.parametrize("rotary", [False, True])
def test_block_over_a_cache_equals_the_block_without(rotary: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    block = SelfMultiheadAttentionBlock(E, H, rotary=rotary, qk_norm=rotary).eval()
    src = torch.randn(B, S, E)
    for fused in (True, False):
        monkeypatch.setattr(MultiheadAttention, "_use_fused", lambda *_, fused=fused: fused)
        cache = KVCache(1, B, H, E // H, S)
        parts = []
        for part in src.split([3, 1, 2], dim=1):
            parts.append(block(part, is_causal=True, kv_cache=cache.layers[0]))
            cache.advance(part.shape[1])
        torch.testing.assert_close(torch.cat(parts, dim=1), block(src, is_causal=True))
