"""Log-probabilities against the softmax."""

import pytest
import torch

from gpt.logprobs import logprobs


@pytest.mark.parametrize("vocab_dim", [5, 100, 50257])
def test_logprobs_are_those_of_the_softmax_in_falling_order(vocab_dim):
    logits = (torch.randn(4, vocab_dim, generator=torch.Generator().manual_seed(1)) * 8).round() / 2
    chosen, counts = [0, 1, 4, 3], [0, 1, 3, 5]
    found = logprobs(logits, chosen, counts)
    for row, token_id, count, (logprob, alternatives) in zip(logits, chosen, counts, found, strict=True):
        expected = row.double().log_softmax(0)
        assert logprob == pytest.approx(expected[token_id].item(), abs=1e-5)
        order = sorted(range(vocab_dim), key=lambda i: (-row[i].item(), i))[:count]
        assert [i for i, _ in alternatives] == order
        assert [p for _, p in alternatives] == pytest.approx(expected[order].tolist(), abs=1e-5)
