"""The parts of a step: embedding, LayerNorm, products, attention; each for some rows or some panels."""

from __future__ import annotations

import math

import numpy as np

from gpt.compiled.functions import ROUND, ROUND_BITS, exp, gelu, gelu_tanh, relu
from gpt.compiled.kernel import kernel, summing
from gpt.compiled.memory import bits_of_float, bytes_of, integers, reals, words
from gpt.compiled.panel import (
    GROUP,
    HALF,
    TILE,
    WHOLE,
    WIDTH,
    float_1,
    float_tile,
    half_1,
    half_tile,
    largest,
    whole_1,
    whole_tile,
)

STORE, ADD, ACTIVATE, RANK = 0, 1, 2, 3
"""What becomes of a product: it is stored, added to what stands there, put through the activation, or stored with
the largest of each panel noted."""

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_EPS = np.float32(np.finfo(np.float32).eps)
_LARGEST = np.float32(127.0)
_SMALLEST = np.float32(np.finfo(np.float32).tiny)


@kernel
def embed(s, row):
    """A row's token embedding, with its position where those are learned, into x."""
    width = s.embed_dim
    x = reals(s.x, row * s.width, width)
    token = reals(s.embedding, integers(s.tokens, row, 1)[0] * width, width)
    for e in range(width):
        x[e] = token[e]
    if s.learned:
        position = reals(s.positions, integers(s.places, row, 1)[0] * width, width)
        for e in range(width):
            x[e] += position[e]


@summing
def norm(s, number, source, target):
    """LayerNorm `number` (Ba et al. 2016) of row `source` of x, into row `target` of normed."""
    width = s.embed_dim
    x, out = reals(s.x, source * s.width, width), reals(s.normed, target * s.width, width)
    total = _ZERO
    for e in range(width):
        total += x[e]
    mean = total / np.float32(width)
    square = _ZERO
    for e in range(width):
        square += (x[e] - mean) * (x[e] - mean)
    scale = _ONE / np.float32(math.sqrt(square / np.float32(width) + np.float32(s.eps)))
    parts = integers(s.norms, 2 * number, 2)
    weight = reals(parts[0], 0, width)
    for e in range(width):
        out[e] = (x[e] - mean) * scale * weight[e]
    if parts[1]:
        bias = reals(parts[1], 0, width)
        for e in range(width):
            out[e] += bias[e]


@kernel
def quantise(s, source, stride, depth, row):
    """Row `row` of what a product multiplies, as whole numbers -127 to 127 times a scale of the row's own."""
    x, codes = reals(source, row * stride, depth), bytes_of(s.codes, row * s.codes_width, s.codes_width)
    largest, finite = _SMALLEST, _ZERO
    for d in range(depth):
        largest = max(largest, abs(x[d]))
        finite += x[d] * _ZERO
    times, total = _LARGEST / largest, np.int32(0)
    if finite != _ZERO:  # a number that is none makes the whole row so
        largest, times = np.float32(np.nan), _ZERO
    for d in range(depth):
        code = bits_of_float(x[d] * times + ROUND) - ROUND_BITS
        codes[d] = code
        total += code
    for d in range(depth, s.codes_width):
        codes[d] = 0
    reals(s.scales, row, 1)[0] = largest / _LARGEST
    words(s.sums, row, 1)[0] = total


@kernel
def multiply(s, matrix, source, stride, depth, target, width, mode, rows, first, last):
    """Panels first to last of a product: rows at `source` (rows, depth) times a matrix, plus its bias, to `target`.

    `stride` and `width` are the numbers from one row to the next in source and target, which has room for whole
    panels; `mode` says what becomes of the product. Where the matrix is of whole numbers, the rows are those that
    `quantise` left.
    """
    stored, panels, bias, _ = integers(s.matrices, 4 * matrix, 4)
    if stored == WHOLE:
        _multiply_whole(s, matrix, depth, target, width, mode, rows, first, last)
        return
    half, add = stored == HALF, int(mode == ADD)
    for panel in range(first, last):
        left = panel * WIDTH
        at = panels + left * depth * (2 if half else 4)
        row = 0
        while row < rows:
            x, out = source + 4 * row * stride, target + 4 * (row * width + left)
            tile = TILE if row + TILE <= rows else 1
            if half and tile == 1:
                half_1(x, stride, at, depth, bias + 4 * left, out, width, add)
            elif half:
                half_tile(x, stride, at, depth, bias + 4 * left, out, width, add)
            elif tile == 1:
                float_1(x, stride, at, depth, bias + 4 * left, out, width, add)
            else:
                float_tile(x, stride, at, depth, bias + 4 * left, out, width, add)
            _finish(s, panel, target, width, mode, row, tile)
            row += tile


@kernel
def _multiply_whole(s, matrix, depth, target, width, mode, rows, first, last):
    """`multiply` of 8-bit whole numbers."""
    _, panels, bias, scales = integers(s.matrices, 4 * matrix, 4)
    groups, stride, add = (depth + GROUP - 1) // GROUP, s.codes_width, int(mode == ADD)
    for panel in range(first, last):
        left = panel * WIDTH
        at, scale, offset = panels + left * groups * GROUP, scales + 4 * left, bias + 4 * left
        row = 0
        while row < rows:
            tile, out = TILE if row + TILE <= rows else 1, target + 4 * (row * width + left)
            codes, of_row, total = s.codes + row * stride, s.scales + 4 * row, s.sums + 4 * row
            if tile == 1:
                whole_1(codes, stride, of_row, total, at, groups, scale, offset, out, width, add)
            else:
                whole_tile(codes, stride, of_row, total, at, groups, scale, offset, out, width, add)
            _finish(s, panel, target, width, mode, row, tile)
            row += tile


@kernel
def _finish(s, panel, target, width, mode, row, count):
    """What becomes of a panel of `count` rows of a product, besides being stored or added."""
    if mode < ACTIVATE:
        return
    for i in range(row, row + count):
        at = i * width + panel * WIDTH
        if mode == ACTIVATE:
            _activate(s.activation, reals(target, at, WIDTH))
        else:
            reals(s.maxima, i * (width // WIDTH) + panel, 1)[0] = largest(target + 4 * at)


@kernel
def _activate(activation, values):
    if activation == 0:
        for c in range(len(values)):
            values[c] = gelu(values[c])
    elif activation == 1:
        for c in range(len(values)):
            values[c] = gelu_tanh(values[c])
    elif activation == 2:
        for c in range(len(values)):
            values[c] = relu(values[c])
    else:
        for c in range(len(values)):
            values[c] = relu(values[c]) * relu(values[c])


@summing
def remember(s, layer, row):
    """Norm and turn a row's queries and keys where the model does; put its keys and values into the cache."""
    width, heads, capacity = s.head_dim, s.num_heads, s.capacity
    slot, place = integers(s.slots, row, 1)[0], integers(s.places, row, 1)[0]
    half = width // 2
    if s.qk_norm or not s.learned:
        for part in range(2 * heads):  # the queries of each head, then its keys
            x = reals(s.qkv, row * s.qkv_width + part * width, width)
            if s.qk_norm:
                square = _ZERO
                for d in range(width):
                    square += x[d] * x[d]
                scale = _ONE / np.float32(math.sqrt(square / np.float32(width) + _EPS))
                for d in range(width):
                    x[d] *= scale
            if not s.learned:
                turn = reals(s.positions, place * width, width)
                for d in range(half):
                    first, second = x[d], x[half + d]
                    x[d] = first * turn[d] - second * turn[half + d]
                    x[half + d] = first * turn[half + d] + second * turn[d]
    start = (layer * s.max_slots + slot) * heads * width
    new = reals(s.qkv, row * s.qkv_width + heads * width, 2 * heads * width)
    for d in range(heads * width):
        reals(s.keys, (start + d) * capacity + place, 1)[0] = new[d]
        reals(s.values, (start + d) * capacity + place, 1)[0] = new[heads * width + d]


@summing
def attend(s, layer, row, head):
    """One head's attention from one row to all that its slot holds up to it, into attended."""
    width, capacity = s.head_dim, s.capacity
    slot, length = integers(s.slots, row, 1)[0], integers(s.places, row, 1)[0] + 1
    query = reals(s.qkv, row * s.qkv_width + head * width, width)
    start = ((layer * s.max_slots + slot) * s.num_heads + head) * width
    scores = reals(s.scores, (row * s.num_heads + head) * capacity, length)
    scale = _ONE / np.float32(math.sqrt(np.float32(width)))
    for t in range(length):
        scores[t] = _ZERO
    for d in range(width):
        scaled, keys = query[d] * scale, reals(s.keys, (start + d) * capacity, length)
        for t in range(length):
            scores[t] += scaled * keys[t]
    highest = scores[0]
    for t in range(length):
        highest = scores[t] if scores[t] > highest else highest
    _exp_all(scores, highest)
    total = _ZERO
    for t in range(length):
        total += scores[t]
    out = reals(s.attended, row * s.width + head * width, width)
    for d in range(width):
        values, result = reals(s.values, (start + d) * capacity, length), _ZERO
        for t in range(length):
            result += scores[t] * values[t]
        out[d] = result / total


@kernel
def _exp_all(scores, highest):
    """Put e ** (score - highest) in place of each score; in no other order than written, which exp relies on."""
    for t in range(len(scores)):
        scores[t] = exp(scores[t] - highest)
