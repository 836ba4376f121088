"""MultiheadAttention against torch.nn.MultiheadAttention with the same weights, on every computing path."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.attention import MultiheadAttention
from gpt.errors import ConfigError

B, S, T, E, H = 3, 5, 7, 12, 3
WIDTHS: dict[str, dict[str, Any]] = {"self": {}, "cross": {}, "cross_widths": {"kdim": 10, "vdim": 8}}
MASKS = [
    "none",
    "key_padding_bool",
    "key_padding_float",
    "attn_bool",
    "attn_float",
    "attn_bool_per_head",
    "attn_float_per_head",
    "both_bool",
    "both_float",
    "causal",
]


@pytest.fixture(params=["fused", "written"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the two ways to compute, by force; what the code would choose is one of them."""
    monkeypatch.setattr(MultiheadAttention, "_use_fused", lambda *_: request.param == "fused")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def pair(*, dropout: float = 0.0, bias: bool = True, dtype: torch.dtype = torch.float32, **widths: Any) -> tuple:
    """torch's module and ours with its weights; the biases too are random, so that a forgotten one shows."""
    theirs = nn.MultiheadAttention(E, H, dropout=dropout, bias=bias, batch_first=True, dtype=dtype, **widths)
    for name, parameter in theirs.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    ours = MultiheadAttention(E, H, dropout=dropout, bias=bias, dtype=dtype, **widths)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


def sequences(kind: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """The distinct inputs: one for self-attention, three for cross-attention."""
    if kind == "self":
        return [torch.randn(B, S, E, dtype=dtype)]
    widths = WIDTHS[kind]
    shapes = (B, S, E), (B, T, widths.get("kdim", E)), (B, T, widths.get("vdim", E))
    return [torch.randn(shape, dtype=dtype) for shape in shapes]


def masks(name: str, num_keys: int, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Arguments for both modules; no query has all keys blocked, for there torch gives NaN."""
    padding = torch.arange(num_keys) >= num_keys - torch.arange(B)[:, None]
    attn = torch.rand(S, num_keys) < 0.4
    attn_per_head = torch.rand(B * H, S, num_keys) < 0.4
    attn[:, 0] = attn_per_head[:, :, 0] = False
    added_padding = torch.randn(B, num_keys, dtype=dtype).masked_fill(padding, -math.inf)
    added = torch.randn(S, num_keys, dtype=dtype).masked_fill(attn, -math.inf)
    added_per_head = torch.randn(B * H, S, num_keys, dtype=dtype).masked_fill(attn_per_head, -math.inf)
    return {
        "none": {},
        "key_padding_bool": {"key_padding_mask": padding},
        "key_padding_float": {"key_padding_mask": added_padding},
        "attn_bool": {"attn_mask": attn},
        "attn_float": {"attn_mask": added},
        "attn_bool_per_head": {"attn_mask": attn_per_head},
        "attn_float_per_head": {"attn_mask": added_per_head},
        "both_bool": {"key_padding_mask": padding, "attn_mask": attn_per_head},
        "both_float": {"key_padding_mask": added_padding, "attn_mask": added},
        "causal": {"attn_mask": torch.ones(S, num_keys, dtype=torch.bool).triu(num_keys - S + 1)},
    }[name]


def run(module: nn.Module, inputs: list[Tensor], **arguments: Any) -> dict[str, Tensor]:
    """Outputs, weights, and the gradients of all inputs and parameters for a fixed loss over both."""
    inputs = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    module.zero_grad()
    query, key, value = inputs if len(inputs) == 3 else inputs * 3
    output, weights = module(query, key, value, **arguments)
    results = {"output": output} if weights is None else {"output": output, "weights": weights}
    loss = sum(
        (result.double() * torch.linspace(-1, 1, result.numel()).view_as(result)).sum() for result in results.values()
    )
    loss.backward()
    results |= {f"gradient of input {index}": tensor.grad for index, tensor in enumerate(inputs)}
    results |= {f"gradient of {name}": parameter.grad for name, parameter in module.named_parameters()}
    return results


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], msg=f"{name}: {{}}".format)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_equals_torch(path: None, dtype: torch.dtype, kind: str, mask: str) -> None:
    theirs, ours = pair(dtype=dtype, **WIDTHS[kind])
    inputs = sequences(kind, dtype)
    arguments = masks(mask, inputs[-1].shape[1], dtype) | {"need_weights": False}
    expected = run(theirs, inputs, **arguments)
    assert_same(run(ours, inputs, **arguments), expected)
    if mask == "causal":
        assert_same(run(ours, inputs, is_causal=True, need_weights=False), expected)  # acts on its own, lower right
        assert_same(run(ours, inputs, is_causal=True, **arguments), expected)

    ours.eval()
    with torch.no_grad():
        output, _ = ours(*(inputs if len(inputs) == 3 else inputs * 3), **arguments)
    torch.testing.assert_close(output, expected["output"].detach())


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_weights_equal_torch(dtype: torch.dtype, kind: str, mask: str, average: bool) -> None:
    theirs, ours = pair(dtype=dtype, **WIDTHS[kind])
    inputs = sequences(kind, dtype)
    arguments = masks(mask, inputs[-1].shape[1], dtype) | {"average_attn_weights": average}
    expected = run(theirs, inputs, **arguments)
    assert_same(run(ours, inputs, **arguments), expected)
    if mask == "causal":
        assert_same(run(ours, inputs, is_causal=True, average_attn_weights=average), expected)


@pytest.mark.parametrize("mask", ["none", "both_bool", "both_float", "causal"])
@pytest.mark.parametrize("kind", ["self", "cross_widths"])
@pytest.mark.parametrize("half", ["autocast", "bfloat16"])
def test_attention_equals_torch_in_half_precision(path: None, half: str, kind: str, mask: str) -> None:
    dtype = torch.bfloat16 if half == "bfloat16" else torch.float32
    theirs, ours = pair(dtype=dtype, **WIDTHS[kind])
    inputs = sequences(kind, dtype)
    for need_weights in (False, True):
        arguments = masks(mask, inputs[-1].shape[1], dtype) | {"need_weights": need_weights}
        with torch.autocast("cpu", torch.bfloat16) if half == "autocast" else nullcontext():
            actual, expected = run(ours, inputs, **arguments), run(theirs, inputs, **arguments)
        assert actual["output"].dtype == expected["output"].dtype == torch.bfloat16
        for name, tensor in expected.items():
            difference = actual[name].float() - tensor.float()
            assert difference.norm() <= 0.1 * tensor.float().norm(), name  # over many seeds, up to 0.04


def test_attention_may_train_after_it_has_inferred() -> None:
    """What is kept from one call to the next, such as a causal mask, must serve both."""
    _, ours = pair()
    x = torch.randn(1, 23, E)  # a length that no other test has
    with torch.inference_mode():
        output, _ = ours(x, x, x, is_causal=True)
    results = run(ours, [x], is_causal=True)
    torch.testing.assert_close(results["output"], output)


def test_attention_without_bias_equals_torch(path: None) -> None:
    theirs, ours = pair(bias=False)
    assert ours.in_proj_bias is None and ours.out_proj.bias is None
    inputs = sequences("self")
    assert_same(run(ours, inputs, need_weights=False), run(theirs, inputs, need_weights=False))


@pytest.mark.parametrize("average", [True, False])
def test_attention_takes_unbatched_input(path: None, average: bool) -> None:
    theirs, ours = pair()
    query, memory = torch.randn(S, E), torch.randn(T, E)
    padding = torch.arange(T) >= 5
    for attn_mask in (torch.rand(S, T) < 0.3, torch.rand(H, S, T) < 0.3):
        attn_mask[..., 0] = False
        for need_weights in (True, False):
            arguments = {
                "key_padding_mask": padding,
                "attn_mask": attn_mask,
                "need_weights": need_weights,
                "average_attn_weights": average,
            }
            expected = run(theirs, [query, memory, memory], **arguments)
            assert_same(run(ours, [query, memory, memory], **arguments), expected)
            assert expected["output"].shape == (S, E)


@pytest.mark.parametrize("kind", WIDTHS)
def test_attention_takes_sequence_first_input(path: None, kind: str) -> None:
    _, ours = pair(**WIDTHS[kind])
    theirs = nn.MultiheadAttention(E, H, **WIDTHS[kind])
    second = MultiheadAttention(E, H, batch_first=False, **WIDTHS[kind])
    for module in (theirs, second):
        module.load_state_dict(ours.state_dict(), strict=True)
    inputs = [tensor.transpose(0, 1) for tensor in sequences(kind)]
    for need_weights in (True, False):
        arguments = masks("both_bool", inputs[-1].shape[0]) | {"need_weights": need_weights}
        assert_same(run(second, inputs, **arguments), run(theirs, inputs, **arguments))


@pytest.mark.parametrize("kind", WIDTHS)
def test_attention_draws_the_same_dropout_as_torch(path: None, kind: str) -> None:
    """From the same seed, so that probability, scaling, place and the weights handed out are all torch's."""
    theirs, ours = pair(dropout=0.4, **WIDTHS[kind])
    inputs = sequences(kind)
    for need_weights in (True, False):
        arguments = masks("both_float", inputs[-1].shape[1]) | {"need_weights": need_weights}
        results = []
        for module in (ours, theirs):
            torch.manual_seed(1)
            results.append(run(module, inputs, **arguments))
        assert_same(*results)
    assert not torch.equal(run(ours, inputs)["output"], run(ours, inputs)["output"])


def test_attention_drops_weights_with_its_probability(path: None) -> None:
    _, ours = pair(dropout=0.3)
    x = torch.randn(1, S, E).expand(4000, S, E)
    with torch.no_grad():
        trained, dropped = ours(x, x, x, average_attn_weights=False)
        mean = ours(x, x, x, need_weights=False)[0].mean(0)
        output, weights = ours.eval()(x, x, x, average_attn_weights=False)
    kept = dropped != 0
    assert abs(kept.float().mean().item() - 0.7) < 5 * math.sqrt(0.21 / kept.numel())
    torch.testing.assert_close(dropped[kept], weights[kept] / 0.7)
    for sample in (mean, trained.mean(0)):  # over 4,000 rows the scaling leaves the mean where it is
        torch.testing.assert_close(sample, output[0], rtol=0, atol=5 * trained.std(0).max().item() / math.sqrt(4000))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("mask", ["key_padding", "attn_bool", "attn_float", "per_head", "two_halves", "causal"])
def test_attention_of_a_wholly_blocked_query_is_zero(
    path: None, mask: str, need_weights: bool, dtype: torch.dtype
) -> None:
    """The output is then the output projection's bias, and every gradient is a number."""
    _, ours = pair(dtype=dtype)
    inputs = [torch.randn(B, length, E, dtype=dtype) for length in (S, 3, 3)]
    blocked = torch.zeros(B, S, dtype=torch.bool)
    blocked[1] = True
    row = torch.zeros(S, 3, dtype=torch.bool)
    row[2] = True
    arguments: dict[str, Any] = {"key_padding_mask": blocked[:, :3]}
    if mask == "causal":  # two keys fewer than queries: the first two queries see nothing
        arguments, blocked = {"is_causal": True}, (torch.arange(S) < S - 3).expand(B, S)
    elif mask != "key_padding":
        blocked = row[:, 0].expand(B, S)
        arguments = {
            "attn_bool": {"attn_mask": row},
            "attn_float": {"attn_mask": torch.zeros(S, 3, dtype=dtype).masked_fill(row, -math.inf)},
            "per_head": {"attn_mask": row.expand(B * H, S, 3)},
            "two_halves": {
                "attn_mask": row & (torch.arange(3) < 2),
                "key_padding_mask": (torch.arange(3) == 2).expand(B, 3),
            },
        }[mask]
    results = run(ours, inputs, need_weights=need_weights, **arguments)
    bias = ours.out_proj.bias.expand(B, S, E)
    assert torch.equal(results["output"][blocked], bias[blocked])
    assert not torch.isclose(results["output"][~blocked], bias[~blocked]).all()
    if need_weights:
        assert results["weights"][blocked].eq(0).all()
    for name, tensor in results.items():
        assert tensor.isfinite().all(), name


def test_attention_qkv_bias_leaves_the_output_projection_its_own(path: None) -> None:
    without = MultiheadAttention(E, H, qkv_bias=False)
    assert set(without.state_dict()) == {"in_proj_weight", "out_proj.weight", "out_proj.bias"}
    only = MultiheadAttention(E, H, bias=False, qkv_bias=True)
    assert set(only.state_dict()) == {"in_proj_weight", "in_proj_bias", "out_proj.weight"}
    nn.init.normal_(without.out_proj.bias)
    theirs = nn.MultiheadAttention(E, H, batch_first=True)
    theirs.load_state_dict(without.state_dict() | {"in_proj_bias": torch.zeros(3 * E)})
    inputs = sequences("self")
    torch.testing.assert_close(run(without, inputs)["output"], run(theirs, inputs)["output"])


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_attention_normalises_queries_and_keys(path: None, kind: str) -> None:
    ours = MultiheadAttention(E, H, qk_norm=True)
    inputs = sequences(kind)
    query, key, value = inputs if len(inputs) == 3 else inputs * 3
    q, k, v = (
        F.linear(x, w).unflatten(-1, (H, E // H)).transpose(1, 2)
        for x, w in zip((query, key, value), ours.in_proj_weight.chunk(3), strict=True)
    )
    q, k = (x / x.square().mean(-1, keepdim=True).sqrt() for x in (q, k))
    weights = (q @ k.mT / math.sqrt(E // H)).softmax(-1)
    expected = ours.out_proj((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(ours(query, key, value, need_weights=False)[0], expected)
    torch.testing.assert_close(ours(query, key, value, average_attn_weights=False)[1], weights)


def test_attention_initialises_as_torch_does() -> None:
    modules = []
    for make in (MultiheadAttention, nn.MultiheadAttention):
        torch.manual_seed(3)
        modules.append(make(48, 4))
    assert [x.std().item() for x in modules[0].parameters()] == pytest.approx(
        [x.std().item() for x in modules[1].parameters()], rel=0.05
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"embed_dim": 10, "num_heads": 3},
            "embed_dim is 10 and num_heads is 3; embed_dim must be a positive multiple",
        ),
        ({"embed_dim": 0, "num_heads": 3}, "embed_dim is 0 and num_heads is 3"),
        ({"embed_dim": 12, "num_heads": 0}, "embed_dim is 12 and num_heads is 0"),
        ({"embed_dim": 12, "num_heads": 3, "dropout": 1.0}, "dropout is 1.0; give a probability from 0"),
        ({"embed_dim": 12, "num_heads": 3, "dropout": -0.1}, "dropout is -0.1; give a probability from 0"),
        ({"embed_dim": 9, "num_heads": 3, "rotary": True}, "rotary needs an even head width"),
    ],
)
def test_attention_refuses_bad_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MultiheadAttention(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key_padding_mask": torch.zeros(B, S + 1)}, r"key_padding_mask has shape \(3, 6\); .* must be \(3, 5\)"),
        ({"key_padding_mask": torch.zeros(S, S)}, r"key_padding_mask has shape \(5, 5\); .* must be \(3, 5\)"),
        ({"attn_mask": torch.zeros(S, S + 1)}, r"attn_mask has shape \(5, 6\); .* must be \(5, 5\) or \(9, 5, 5\)"),
        ({"attn_mask": torch.zeros(B, S, S)}, r"attn_mask has shape \(3, 5, 5\); .* must be \(5, 5\) or \(9, 5, 5\)"),
        ({"attn_mask": torch.zeros(S, S, dtype=torch.int64)}, r"attn_mask has dtype torch.int64; it must be bool"),
        ({"key_padding_mask": torch.zeros(B, S, dtype=torch.uint8)}, "key_padding_mask has dtype torch.uint8"),
    ],
)
def test_attention_refuses_bad_masks(arguments: dict[str, Any], message: str) -> None:
    x = torch.randn(B, S, E)
    with pytest.raises(ConfigError, match=message):
        MultiheadAttention(E, H)(x, x, x, **arguments)


def test_attention_refuses_rotary_positions_between_two_sequences() -> None:
    with pytest.raises(ConfigError, match="rotary positions are for self-attention; pass the same tensor"):
        MultiheadAttention(E, H, rotary=True)(torch.randn(B, S, E), torch.randn(B, T, E), torch.randn(B, T, E))
