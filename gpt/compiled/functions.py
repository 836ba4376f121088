"""The functions of one number that a step needs, written so that the compiler makes eight or sixteen at a time.

Each is within a few units in the last place of float32 of the exact one, as torch's own vectorised ones are.
"""

from __future__ import annotations

import numpy as np

from gpt.compiled.kernel import within
from gpt.compiled.memory import bits_of_float, float_of_bits

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "relu_squared")
"""By number, as the compiled code knows them."""

_ONE = np.float32(1.0)
_HALF = np.float32(0.5)
_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
ROUND = np.float32(12582912.0)  # 1.5 * 2**23: adding it leaves a float32's nearest whole number in its low bits
ROUND_BITS = np.int32(0x4B400000)
_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)
_C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / n) for n in (2, 6, 24, 120, 720, 5040))


@within
def exp(x):
    """Give e ** x of a float32; 0 below -87, and e ** 88 above 88.

    x = n ln 2 + r with |r| <= ln 2 / 2; 2 ** n is written into the exponent, e ** r is Taylor's polynomial of degree
    7, whose remainder is below 6e-9 there (Cody and Waite 1980 for the two parts of ln 2).
    """
    zero = x < _LOWEST
    x = min(max(x, _LOWEST), _HIGHEST)
    shifted = x * _LOG2E + ROUND
    n = shifted - ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    e = ((((((_C7 * r + _C6) * r + _C5) * r + _C4) * r + _C3) * r + _C2) * r + _ONE) * r + _ONE
    power = float_of_bits(np.int32((bits_of_float(shifted) - ROUND_BITS + np.int32(127)) << np.int32(23)))
    return np.float32(0.0) if zero else e * power


_P = np.float32(0.3275911)
_A1, _A2, _A3 = np.float32(0.254829592), np.float32(-0.284496736), np.float32(1.421413741)
_A4, _A5 = np.float32(-1.453152027), np.float32(1.061405429)
_SQRT_HALF = np.float32(0.7071067811865476)


@within
def gelu(x):
    """Give x times the normal distribution function; erf by Abramowitz and Stegun 7.1.26, error below 1.5e-7."""
    z = abs(x) * _SQRT_HALF
    t = _ONE / (_ONE + _P * z)
    tail = ((((_A5 * t + _A4) * t + _A3) * t + _A2) * t + _A1) * t * exp(-z * z)  # 1 - erf(z)
    return _HALF * x * (_ONE + (_ONE - tail if x >= np.float32(0.0) else tail - _ONE))


_SQRT_2_PI = np.float32(0.7978845608028654)
_CUBIC = np.float32(0.044715)


@within
def gelu_tanh(x):
    """GPT-2's approximation of gelu (Hendrycks and Gimpel 2016): x / (1 + e ** (-2 u))."""
    u = _SQRT_2_PI * (x + _CUBIC * x * x * x)
    return x / (_ONE + exp(np.float32(-2.0) * u))


@within
def relu(x):
    """Give x where it is positive, else 0."""
    return max(x, np.float32(0.0))
