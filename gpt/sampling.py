"""Sampling: from logits to the next token, by pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpt.errors import RequestError

MAX_TEMPERATURE = 10.0
MAX_REPETITION_PENALTY = 10.0
MAX_PENALTY = 2.0


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How a token is drawn from the logits; the filters act in the order of the fields below the penalties.

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
        """Raise RequestError unless the field is a finite number in low..high (above: low itself is out); make it a float."""
        value = getattr(self, name)
        allowed = f"above {low:g}, to {high:g}" if above else f"from {low:g} to {high:g}"
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not low <= value <= high or (above and value == low):
            raise RequestError(f"{name} is {value!r}; give a number {allowed}")
        object.__setattr__(self, name, float(value))
