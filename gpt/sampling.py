"""Sampling: from logits to the next token, by pure functions.

The order is part of the contract, since top-p before and after the temperature keep different sets:
penalties, temperature, top-k, top-p, min-p, draw. Each filter acts on what the one before it left, as a
distribution of its own; so top-p counts its probability among the top-k.

A vocabulary has many thousand columns and a filter keeps some dozen, so the exponentials come last: `candidates`
finds, without sorting the row, the few tokens that can be drawn; `distribution` filters those exactly; `draw`
takes one of them with a single number in 0..1.

Shapes: V is the vocabulary's dimension, B the rows of a batch, N the candidates of a row.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt.errors import BackendError, RequestError
from gpt.filters import top_k, top_p

MAX_TEMPERATURE = 10.0
MAX_REPETITION_PENALTY = 10.0
MAX_PENALTY = 2.0

_LARGEST = 1e30
"""A logit that no other comes near, and of which the difference to any other is still finite."""

_GROUPS = ((64, 4), (16, 2))
"""Tokens, at least, in each of the groups whose maxima bound the k-th largest logit of a row; used up to a k of one
group in so many."""

_BLOCK = 512
"""Tokens whose probabilities are added before those of the others, so that a draw adds up one by one only in there."""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How a token is drawn from the logits.

    Attributes:
        temperature: 0 to 10; the logits are divided by it; 0 always takes the most probable token.
        top_k: only the k most probable tokens are kept (Fan et al. 2018); 0 keeps all.
        top_p: above 0, to 1; only the smallest set of tokens whose probability reaches p is kept
            (Holtzman et al. 2020); 1 keeps all.
        min_p: 0 to 1; only tokens at least min_p times as probable as the most probable one are kept
            (Nguyen et al. 2024); 0 keeps all.
        repetition_penalty: above 0, to 10; logits of tokens of the prompt or the completion are divided by it where
            positive and multiplied where negative (CTRL, Keskar et al. 2019); 1 changes nothing.
        presence_penalty: -2 to 2; subtracted from the logit of each token that the completion has already; 0 is off.
        frequency_penalty: -2 to 2; subtracted once for each time that the completion has the token; 0 is off.

    Raises:
        RequestError: a field is out of range; the message names it, its value and the range.
    """

    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    def __post_init__(self) -> None:
        self._check("temperature", 0.0, MAX_TEMPERATURE)
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 0:
            raise RequestError(f"top_k is {self.top_k!r}; give a whole number of at least 0, where 0 keeps every token")
        self._check("top_p", 0.0, 1.0, above=True)
        self._check("min_p", 0.0, 1.0)
        self._check("repetition_penalty", 0.0, MAX_REPETITION_PENALTY, above=True)
        self._check("presence_penalty", -MAX_PENALTY, MAX_PENALTY)
        self._check("frequency_penalty", -MAX_PENALTY, MAX_PENALTY)

    def _check(self, name: str, low: float, high: float, *, above: bool = False) -> None:
        """Raise RequestError unless the field is a number in low..high (above: low itself is out); make it a float."""
        value = getattr(self, name)
        allowed = f"above {low:g}, to {high:g}" if above else f"from {low:g} to {high:g}"
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high or (above and value == low):  # NaN compares false, so it is refused
            raise RequestError(f"{name} is {value!r}; give a number {allowed}")
        object.__setattr__(self, name, float(value))

    @property
    def penalises(self) -> bool:
        """Whether the logits depend on the tokens that came before, beyond what the model made of them."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0


class Candidates(NamedTuple):
    """Tokens of one row, among which are all that can be drawn: ids (N,) int64, rising; logits (N,) float32."""

    ids: NDArray[np.int64]
    logits: NDArray[np.float32]


class Uniforms:
    """The numbers in 0..1 that a generator gives, which can be looked at before they are taken.

    Args:
        generator: on the CPU, so that a seed means the same on every device.
        ahead: numbers asked of it at once; it gives the same ones in any portions.
    """

    def __init__(self, generator: torch.Generator, ahead: int = 64) -> None:
        self._generator, self._ahead = generator, ahead
        self._given = np.empty(0)

    def peek(self, count: int) -> NDArray[np.float64]:
        """The next numbers (count,), which stay."""
        if len(self._given) < count:
            more = torch.rand(max(self._ahead, count), generator=self._generator, dtype=torch.float64).numpy()
            self._given = np.concatenate((self._given, more))
        return self._given[:count]

    def take(self) -> float:
        """The next number, which goes."""
        number = float(self.peek(1)[0])
        self._given = self._given[1:]
        return number


def sample(
    logits: Tensor,
    params: SamplingParams,
    generator: torch.Generator,
    seen: Mapping[int, int] | None = None,
) -> int:
    """The next token after one row of logits.

    Args:
        logits: (V,), on any device; left as they are.
        params: the filters.
        generator: gives one float64 for the draw, and none at temperature 0; on the CPU, so that a seed means the
            same on every device.
        seen: the ids of the prompt and the completion so far, each with the number of times that the completion has
            it (0 for a token of the prompt alone); read by the penalties only.

    Raises:
        BackendError: a logit is not a number, or none is finite.
    """
    row = penalise(logits, params, seen) if seen else logits
    return draw(candidates(row[None], [params])[0], params, Uniforms(generator, ahead=1))


def penalise(logits: Tensor, params: SamplingParams, seen: Mapping[int, int]) -> Tensor:
    """The row (V,) with the penalties for the tokens in `seen` applied (see `sample`): float32, on its device.

    Repetition: CTRL (Keskar et al. 2019), with negative logits multiplied, as the field has it since, because
    dividing them would reward the token. Presence and frequency: OpenAI's completion interface.
    """
    if not params.penalises or not seen:
        return logits
    logits = logits.float()
    ids = torch.tensor(list(seen), dtype=torch.int64, device=logits.device)
    counts = torch.tensor(list(seen.values()), dtype=torch.float64, device=logits.device)
    old = logits[ids].double()  # in which no penalty that is allowed is 0
    new = torch.where(old > 0, old / params.repetition_penalty, old * params.repetition_penalty)
    new = new - params.presence_penalty * (counts > 0) - params.frequency_penalty * counts
    # The smallest repetition penalties make a logit larger than float32 can be.
    return logits.index_copy(0, ids, new.clamp(-_LARGEST, _LARGEST).float())


def candidates(logits: Tensor, params: Sequence[SamplingParams]) -> list[Candidates]:
    """For each row of logits (B, V), with penalties applied, the few tokens that its own filters can leave.

    They are those at or above a bound that is cheap to find, so N may exceed top_k; `distribution` cuts exactly.
    A row with a logit that is not a number has no candidates. On CUDA only the candidates leave the device.
    """
    if logits.device.type == "cpu":
        return [_row_candidates(row, p) for row, p in zip(logits.float().numpy(), params, strict=True)]
    return _device_candidates(logits.float(), params)


def _row_candidates(row: NDArray[np.float32], params: SamplingParams) -> Candidates:
    """The candidates of one row in memory: in numpy, whose calls cost a fraction of torch's at this size."""
    k = params.top_k
    size = next((size for size, part in _GROUPS if k <= len(row) // size // part), 0)
    maxima = _group_maxima(row, size or _GROUPS[0][0])
    highest = float(maxima.max())
    if not math.isfinite(highest):
        return Candidates(np.empty(0, np.int64), np.empty(0, np.float32))
    if params.temperature == 0 or k == 1:
        ids = np.array([row.argmax()])
        return Candidates(ids, row[ids])
    if k and size:
        # The k-th largest of the groups' maxima is at most the row's, since k tokens reach it, and usually close. A
        # pass over the row and a selection among V / 64 took a third of the time of `torch.topk` at 50,257 columns.
        bound = float(np.partition(maxima, len(maxima) - k)[len(maxima) - k])
    elif not k and params.min_p > 0 and params.top_p == 1:
        bound = highest + params.temperature * math.log(params.min_p)
        bound -= 1e-5 * (1 + abs(bound))  # the filter itself compares in float64
    else:
        return Candidates(_all_ids(len(row)), row)
    ids = (row >= bound).nonzero()[0]
    return Candidates(ids, row[ids])


@functools.lru_cache(maxsize=4)
def _all_ids(count: int) -> NDArray[np.int64]:
    """The ids from 0 on, which nobody may change; making 50,257 anew took half as long as their exponentials."""
    ids = np.arange(count)
    ids.setflags(write=False)
    return ids


def _group_maxima(row: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The maxima of V // size groups into which the row is dealt like cards; of one if there are fewer tokens."""
    groups = max(1, len(row) // size)
    dealt = len(row) // groups * groups
    maxima: NDArray[np.float32] = row[:dealt].reshape(-1, groups).max(axis=0)
    rest = row[dealt:]
    np.maximum(maxima[: len(rest)], rest, out=maxima[: len(rest)])
    return maxima


def _device_candidates(logits: Tensor, params: Sequence[SamplingParams]) -> list[Candidates]:
    """The candidates of all rows at once, by torch, with one copy from the device for the batch."""
    batch_size, vocab_dim = logits.shape
    counts = [1 if p.temperature == 0 else p.top_k if 0 < p.top_k < vocab_dim else 0 for p in params]
    below = [p.temperature * math.log(p.min_p) if p.min_p > 0 and p.top_p == 1 else -math.inf for p in params]
    count, offset = torch.tensor([counts, below], dtype=logits.dtype, device=logits.device)[:, :, None]
    top = logits.topk(max(1, *counts)).values
    highest = top[:, :1]
    lowest = highest + offset
    lowest -= 1e-5 * (1 + lowest.abs())  # the filter itself compares in float64
    bound = torch.where(count > 0, top.gather(1, (count.long() - 1).clamp(min=0)), lowest)
    bound = torch.where(highest.isfinite(), bound, math.nan)  # nothing is at or above NaN
    rows, ids = (logits >= bound).nonzero(as_tuple=True)
    values = logits[rows, ids].cpu().numpy()
    ends = np.cumsum(torch.bincount(rows, minlength=batch_size).cpu().numpy())[:-1]
    return [
        Candidates(row_ids, row_values)
        for row_ids, row_values in zip(np.split(ids.cpu().numpy(), ends), np.split(values, ends), strict=True)
    ]


def distribution(row: Candidates, params: SamplingParams) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tokens that temperature, top-k, top-p and min-p leave, ids rising, and their probabilities.

    Of tied tokens the lower ids are kept, so top-k keeps exactly k.

    Returns:
        ids (M,), probabilities (M,), M >= 1, summing to 1.

    Raises:
        BackendError: there are no candidates, because a logit is not a number or none is finite.
    """
    weights, keep = _weigh(row, params)
    ids = row.ids
    if keep is not None:
        ids, weights = ids[keep], weights[keep]
    return ids, weights / weights.sum()


def _weigh(row: Candidates, params: SamplingParams) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """What each candidate weighs (N,), in proportion to its probability; which the filters keep (N,), None for all."""
    logits = row.logits
    if not len(logits):
        raise BackendError(
            "the model's logits are not finite numbers; its checkpoint is damaged or its training diverged"
        )
    if params.temperature == 0:
        best = np.arange(len(logits)) == logits.argmax()  # the first, so the lowest id, of tied ones
        return best.astype(np.float64), best
    # float64, and the highest at 0: no temperature above 0 overflows.
    scaled = logits.astype(np.float64)
    scaled -= logits.max()
    scaled /= params.temperature
    weights, keep = np.exp(scaled), None
    if 0 < params.top_k < len(logits):
        keep = top_k(logits, params.top_k)
        weights *= keep
    if params.top_p < 1:
        keep = top_p(weights, params.top_p)
    if params.min_p > 0:
        probable = scaled >= math.log(params.min_p)  # the most probable has 0 (Nguyen et al. 2024)
        keep = probable if keep is None else keep & probable
    return weights, keep


def draw(row: Candidates, params: SamplingParams, uniforms: Uniforms) -> int:
    """One token of `distribution(row, params)`, by the inverse of its cumulative distribution.

    The ids stand in rising order, not by probability: then a rounding error in the logits moves the borders a
    little, and cannot exchange two tokens.
    """
    weights, keep = _weigh(row, params)
    if params.temperature == 0:
        return int(row.ids[weights.argmax()])
    if keep is None:
        return int(row.ids[_place(weights, uniforms.take())])
    return int(row.ids[keep.nonzero()[0][_place(weights[keep], uniforms.take())]])


def _place(weights: NDArray[np.float64], uniform: float) -> int:
    """The first place at which the sum of the weights is above the number's part of all."""
    sums = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK)) if len(weights) > _BLOCK else weights
    borders = sums.cumsum()
    target = uniform * borders[-1]
    place = _first_above(borders, target, sums)
    if sums is weights:
        return place
    start, before = place * _BLOCK, borders[place - 1] if place else 0.0
    inside = weights[start : start + _BLOCK]
    return start + _first_above(before + inside.cumsum(), target, inside)


def _first_above(borders: NDArray[np.float64], target: float, weights: NDArray[np.float64]) -> int:
    """The first place whose border is above the target, or, if rounding leaves none, the last that weighs anything."""
    place = int(borders.searchsorted(target, side="right"))
    return place if place < len(borders) else int(weights.nonzero()[0][-1])
