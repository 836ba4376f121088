"""The functions of one number against float64's, over every size of number."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numba import njit

from gpt.compiled import functions

X = np.concatenate([np.linspace(-100, 100, 200_001), np.geomspace(1e-30, 1, 1000), -np.geomspace(1e-30, 1, 1000)])
X = X.astype(np.float32)


def over(function, x):
    @njit
    def fill(x, out):
        for i in range(len(x)):
            out[i] = function(x[i])

    out = np.empty_like(x)
    fill(x, out)
    return out.astype(np.float64)


def test_exp_is_within_rounding():
    x = X[np.abs(X) <= 87]
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(over(functions.exp, x) - exact) / exact).max() < 1.5e-7
    assert over(functions.exp, np.array([-1e30, -np.inf], np.float32)).max() == 0


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("gelu", F.gelu),
        ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")),
        ("relu", F.relu),
    ],
)
def test_activations_are_within_rounding(name, exact):
    expected = exact(torch.from_numpy(X).double()).numpy()
    error = np.abs(over(getattr(functions, name), X) - expected)
    assert (error / np.maximum(1, np.abs(expected))).max() < 3e-7
