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

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt.errors import BackendError, RequestError

MAX_TEMPERATURE = 10.0
MAX_REPETITION_PENALTY = 10.0
MAX_PENALTY = 2.0

_LARGEST = 1e30
"""A logit that no other comes near, and of which the difference to any other is still finite."""

_GROUP = 64
"""Tokens, at least, in each of the groups whose maxima bound the k-th largest logit of a row."""


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
    maxima = _group_maxima(row)
    highest = float(maxima.max())
    if not math.isfinite(highest):
        return Candidates(np.empty(0, np.int64), np.empty(0, np.float32))
    if params.temperature == 0 or params.top_k == 1:
        ids = np.array([row.argmax()])
        return Candidates(ids, row[ids])
    if 0 < params.top_k < len(row):
        # The k-th largest of the groups' maxima is at most the row's, since k tokens reach it, and usually close. A
        # pass over the row and a selection among V / 64 took a third of the time of `torch.topk` at 50,257 columns.
        among = maxima if params.top_k <= len(maxima) // 4 else row
        bound = float(np.partition(among, len(among) - params.top_k)[len(among) - params.top_k])
    elif params.min_p > 0 and params.top_p == 1:
        bound = highest + params.temperature * math.log(params.min_p)
        bound -= 1e-5 * (1 + abs(bound))  # the filter itself compares in float64
    else:
        return Candidates(np.arange(len(row)), row)
    ids = (row >= bound).nonzero()[0]
    return Candidates(ids, row[ids])


def _group_maxima(row: NDArray[np.float32]) -> NDArray[np.float32]:
    """The maxima of V // 64 groups into which the row is dealt like cards; of one if there are fewer tokens."""
    groups = max(1, len(row) // _GROUP)
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
    ids, logits = row
    if not len(ids):
        raise BackendError(
            "the model's logits are not finite numbers; its checkpoint is damaged or its training diverged"
        )
    if params.temperature == 0:
        best = int(logits.argmax())  # the first, so the lowest id, of tied ones
        return ids[best : best + 1], np.ones(1)
    # float64, and the highest at 0: no temperature above 0 overflows.
    scaled = (logits.astype(np.float64) - float(logits.max())) / params.temperature
    if 0 < params.top_k < len(ids):
        keep = top_k(scaled, params.top_k)
        ids, scaled = ids[keep], scaled[keep]
    if params.top_p < 1:
        keep = top_p(scaled, params.top_p)
        ids, scaled = ids[keep], scaled[keep]
    if params.min_p > 0:
        keep = min_p(scaled, params.min_p)
        ids, scaled = ids[keep], scaled[keep]
    weights = np.exp(scaled)
    return ids, weights / weights.sum()


def top_k(scaled: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Indices, rising, of the k largest of scaled logits (N,); of tied ones the first (Fan et al. 2018)."""
    return np.sort(np.argsort(-scaled, kind="stable")[:k])


def top_p(scaled: NDArray[np.float64], p: float) -> NDArray[np.int64]:
    """Indices, rising, of the smallest set of scaled logits (N,) whose probability reaches p (Holtzman et al. 2020).

    The token that crosses p is kept; of tied ones the first.
    """
    weights = np.exp(scaled - scaled.max())
    total = weights.sum()
    # Tokens less probable than (1 - p) / N hold less than 1 - p together, so the rest is enough, and only it is sorted.
    probable = (weights * len(weights) >= (1 - p) * total).nonzero()[0]
    order = probable[np.argsort(-weights[probable], kind="stable")]
    crossing = int(weights[order].cumsum().searchsorted(p * total))
    return np.sort(order[: crossing + 1])


def min_p(scaled: NDArray[np.float64], p: float) -> NDArray[np.int64]:
    """Indices of scaled logits (N,) at least p times as probable as the most probable (Nguyen et al. 2024)."""
    return np.flatnonzero(scaled >= scaled.max() + math.log(p))


def draw(row: Candidates, params: SamplingParams, uniforms: Uniforms) -> int:
    """One token of `distribution(row, params)`, by the inverse of its cumulative distribution.

    The ids stand in rising order, not by probability: then a rounding error in the logits moves the borders a
    little, and cannot exchange two tokens.
    """
    ids, probabilities = distribution(row, params)
    if len(ids) == 1 and params.temperature == 0:
        return int(ids[0])
    uniform = uniforms.take()
    borders = probabilities.cumsum()
    index = int(borders.searchsorted(uniform * borders[-1], side="right"))
    return int(ids[min(index, len(ids) - 1)])
