"""WindowSampler: every window once a pass, in an order that can be taken up anywhere."""

from __future__ import annotations

import pytest
import torch

from gpt.errors import CorpusError
from train.dataset import DataPosition, WindowSampler

LENGTH, SIZE = 103, 8
TOKENS = torch.arange(LENGTH)  # a token is its own position


def starts_of_pass(sampler: WindowSampler) -> list[int]:
    """The first positions of the windows up to the end of the pass, in their order."""
    epoch, starts = sampler.position.epoch, []
    while sampler.position.epoch == epoch:
        inputs, _ = sampler.next_batch(1)
        starts.append(int(inputs[0, 0]))
    return starts


def test_targets_are_the_inputs_next_tokens() -> None:
    inputs, targets = WindowSampler(TOKENS, SIZE, seed=1).next_batch(5)
    assert inputs.shape == targets.shape == (5, SIZE)
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(SIZE))


def test_pass_has_every_window_once() -> None:
    sampler = WindowSampler(TOKENS, SIZE, seed=1)
    for _ in range(5):
        starts = sorted(starts_of_pass(sampler))
        assert starts == list(range(starts[0], LENGTH - SIZE, SIZE)), "windows overlap, or leave something out"
        assert starts[0] < SIZE


def test_offsets_and_orders_vary_from_pass_to_pass() -> None:
    sampler = WindowSampler(TOKENS, SIZE, seed=1)
    passes = [starts_of_pass(sampler) for _ in range(12)]
    offsets = {min(starts) for starts in passes}
    assert len(offsets) >= 4
    assert max(offsets) < SIZE
    assert all(starts != sorted(starts) for starts in passes)


def test_seed_fixes_the_order_and_another_changes_it() -> None:
    one, same, other = (WindowSampler(TOKENS, SIZE, seed) for seed in (1, 1, 2))
    first = one.next_batch(40)[0]
    assert torch.equal(first, same.next_batch(40)[0])
    assert not torch.equal(first, other.next_batch(40)[0])


def test_batch_size_does_not_change_the_order() -> None:
    whole = WindowSampler(TOKENS, SIZE, seed=3).next_batch(60)[0]
    parts = WindowSampler(TOKENS, SIZE, seed=3)
    assert torch.equal(whole, torch.cat([parts.next_batch(size)[0] for size in (1, 2, 7, 20, 30)]))


@pytest.mark.parametrize("made", [0, 1, 5, 11, 12, 13, 24, 25, 40])
def test_any_position_can_be_taken_up(made: int) -> None:
    sampler = WindowSampler(TOKENS, SIZE, seed=4)
    if made:
        sampler.next_batch(made)
    position = DataPosition(sampler.position.epoch, sampler.position.window)
    resumed = WindowSampler(TOKENS, SIZE, 4, position)
    assert torch.equal(sampler.next_batch(30)[0], resumed.next_batch(30)[0])
    assert sampler.position == resumed.position


def test_fewest_tokens_make_one_window_at_every_offset() -> None:
    sampler = WindowSampler(TOKENS[: 2 * SIZE], SIZE, seed=1)
    for _ in range(20):
        assert len(starts_of_pass(sampler)) == 1


@pytest.mark.parametrize("length", [0, 1, SIZE, 2 * SIZE - 1])
def test_too_few_tokens_are_refused(length: int) -> None:
    with pytest.raises(
        CorpusError, match=f"has {length} tokens, but at least 16 .*sequence_dim = 8; give a longer text"
    ):
        WindowSampler(TOKENS[:length], SIZE, seed=1)


def test_tokens_of_each_pass_are_asked_for_by_its_number() -> None:
    """A pass's tokens may be as many as they like; a position is taken up in the tokens of its own pass."""

    def of_pass(epoch: int) -> torch.Tensor:
        return 1000 * epoch + torch.arange(LENGTH + 10 * epoch)

    sampler = WindowSampler(of_pass, SIZE, seed=1)
    for epoch in range(4):
        starts = sorted(starts_of_pass(sampler))
        first, end = starts[0] - 1000 * epoch, LENGTH + 10 * epoch - SIZE
        assert starts == list(range(starts[0], 1000 * epoch + end, SIZE))
        assert 0 <= first < SIZE
    straddling = WindowSampler(of_pass, SIZE, seed=1).next_batch(20)[0]
    assert torch.equal(straddling, straddling[:, :1] + torch.arange(SIZE)), "a window has tokens of two passes"
    resumed = WindowSampler(of_pass, SIZE, 1, DataPosition(sampler.position.epoch, 3))
    sampler.next_batch(3)
    assert torch.equal(sampler.next_batch(9)[0], resumed.next_batch(9)[0])
