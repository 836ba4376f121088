"""State: everything that the compiled step reads and writes, behind one record of numbers and addresses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMBERS = (
    "embed_dim",
    "num_heads",
    "head_dim",
    "feedforward_dim",
    "num_layers",
    "vocab_dim",
    "activation",  # its place in functions.ACTIVATIONS
    "learned",  # 1 where positions are learned, 0 where they are rotary
    "qk_norm",
    "helpers",  # threads that may help
    "max_slots",  # M
    "capacity",  # C, of a slot
    "width",  # E, rounded up to whole panels
    "qkv_width",  # 3 E, rounded up
    "hidden_width",  # F, rounded up
    "logits_width",  # V, rounded up
    "whole",  # 1 where the matrices are of 8-bit whole numbers
    "codes_width",  # the largest depth of a product, rounded up to GROUP
)
ADDRESSES = (
    "matrices",  # int64 (4 L + 1, 4): what it is stored as, the addresses of its panels, its bias, its scales or 0
    "norms",  # int64 (2 L + 1, 2): addresses of weight, and of bias or 0
    "embedding",  # float32 (V, E)
    "positions",  # float32 (C, E) learned; or (C, D): D / 2 cosines, then as many sines
    "keys",  # float32 (L, M, H, D, C)
    "values",
    "x",  # float32 (N, width): the residual stream of the token rows of one step
    "normed",  # float32 (N, width)
    "qkv",  # float32 (N, qkv_width)
    "attended",  # float32 (N, width)
    "scores",  # float32 (N, H, C): of each head, its scores against what is in the cache
    "hidden",  # float32 (N, hidden_width)
    "logits",  # float32 (M, logits_width)
    "codes",  # int8 (N, codes_width): what the next product multiplies, as whole numbers,
    "scales",  # float32 (N,): of each row, what they are to be multiplied by,
    "sums",  # int32 (N,): and their sum
    "maxima",  # float32 (M, panels of the head): the largest of each; not a number where one of them is none
    "tokens",  # int64 (N,): of each token row its id,
    "slots",  # the slot of its sequence,
    "places",  # and its position there
    "wanted",  # int64 (M,): the token rows that get logits
    "settings",  # float64 (M, 4): temperature, top_k, top_p, min_p of each; a temperature below 0 draws nothing
    "uniforms",  # float64 (steps, M): a number in 0..1 for each draw
    "drawn",  # int64 (steps, M): the tokens, -1 where there is nothing to draw from
    "alternatives",  # int64 (M,): how many of the most probable tokens each is given; below 0 for no scores
    "totals",  # float64 (steps, M): the logarithm of the sum of the exponentials of the raw logits
    "chosen",  # float64 (steps, M): the raw logit of what was drawn
    "best_ids",  # int64 (steps, M, MAX_ALTERNATIVES): the most probable tokens
    "best_logits",  # float64 (steps, M, MAX_ALTERNATIVES): their raw logits
    "control",  # int64: shared cells, see gpt.compiled.team
)

RECORD = np.dtype([(name, np.int64) for name in NUMBERS + ADDRESSES] + [("eps", np.float64)])


def make_record(numbers: dict[str, int], arrays: dict[str, NDArray[Any]], eps: float) -> NDArray[Any]:
    """The record, an array of one; the arrays, all contiguous, must live as long as it is used."""
    record = np.zeros(1, RECORD)
    for name in NUMBERS:
        record[name] = numbers[name]
    for name in ADDRESSES:
        assert arrays[name].flags.c_contiguous
        record[name] = arrays[name].ctypes.data
    record["eps"] = eps
    return record
