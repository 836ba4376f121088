"""The decode head against the linear layer that it stands for."""

import pytest
import torch
from torch import nn

from gpt import decode_head as module
from gpt.decode_head import decode_head


def make_head(bias=True, half=False, out_features=1003, in_features=78, scale=1.0):
    torch.manual_seed(0)
    head = nn.Linear(in_features, out_features, bias=bias)
    with torch.no_grad():
        head.weight.mul_(scale)
        if half:
            head.weight.copy_(head.weight.half())
    return head


@pytest.mark.parametrize("rows", [1, 2, 7, 16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("half", [True, False])
@torch.inference_mode()
def test_logits_are_the_heads(rows, bias, half):
    head = make_head(bias, half)
    states = torch.randn(rows, 78)
    logits = decode_head(head)(states)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, head(states), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_half_precision_weight_is_packed_without_loss_also_where_it_is_subnormal():
    # Half precision's normal numbers end at 6.1e-5; below, it keeps fewer digits, and the packed weight keeps them too.
    head = make_head(bias=False, half=True, scale=1e-4)
    assert head.weight.abs().max() < 6e-5
    states = torch.randn(3, 78)
    torch.testing.assert_close(decode_head(head)(states), head(states), rtol=1e-4, atol=1e-10)


def test_only_a_weight_that_half_precision_holds_is_packed():
    assert module._pack_half(make_head(half=False).weight.detach(), None) is None
    too_large = make_head(half=True)
    with torch.no_grad():
        too_large.weight[0, 0] = 1e5
    assert module._pack_half(too_large.weight.detach(), None) is None


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="torch is built without FBGEMM")
def test_a_weight_stored_at_half_precision_is_packed():
    assert module._pack_half(make_head(half=True).weight.detach(), None) is not None


@torch.inference_mode()
def test_a_head_in_another_type_is_used_as_it_is():
    head = make_head().to(torch.bfloat16)
    states = torch.randn(2, 78, dtype=torch.bfloat16)
    logits = decode_head(head)(states)
    assert logits.dtype == torch.float32 and torch.equal(logits, head(states).float())


def test_the_head_is_left_as_it_is():
    head = make_head(half=True)
    before = head.weight.detach().clone()
    decode_head(head)
    assert torch.equal(head.weight, before) and head.weight.requires_grad and head.weight.is_contiguous()
