"""onnxruntime over the model's graph, one stream: its text is checked against the model's before it is measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from tests.benchmarks._onnx import write_onnx

Choose = Callable[[np.ndarray, np.ndarray], int]
"""The next token, given the most probable ones' logits, the highest first, and their ids."""


class OnnxStream:
    """A session with a cache.

    Args:
        model: a GPT whose position embedding is learned, in evaluation mode.
        top_k: so many tokens can be chosen among.
        threads: of the session.
        quantised: whether the matrices are int8 by dynamic quantisation.

    Raises:
        ValueError: the graph, before it is quantised, writes another greedy text than the model.
    """

    def __init__(self, model: Any, top_k: int, threads: int, *, quantised: bool) -> None:
        config = model.config
        self._empty = np.zeros((1, config.num_heads, 0, config.embed_dim // config.num_heads), np.float32)
        self._cached = [f"{kind}{layer}" for layer in range(config.num_layers) for kind in ("keys", "values")]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write_onnx(model, path, top_k)
            self._session = self._open(path, threads)
            _check(self, model)
            if quantised:
                smaller = Path(folder) / "int8.onnx"
                quantize_dynamic(path, smaller, weight_type=QuantType.QInt8)
                self._session = self._open(smaller, threads)

    def write(self, prompt: list[int], new_tokens: int, choose: Choose) -> list[int]:
        """So many new tokens behind the prompt; together they fit into the context."""
        cache = dict.fromkeys(self._cached, self._empty)
        written, ids, place = list[int](), prompt, 0
        for _ in range(new_tokens):
            mask = np.triu(np.full((len(ids), place + len(ids)), -np.inf, np.float32), place + 1)
            given = {"ids": np.array([ids]), "positions": np.arange(place, place + len(ids)), "mask": mask}
            logits, top, *kept = self._session.run(None, given | cache)
            cache = dict(zip(self._cached, kept, strict=True))
            place += len(ids)
            written.append(choose(logits[0], top[0]))
            ids = written[-1:]
        return written

    @staticmethod
    def _open(path: Path, threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _check(stream: OnnxStream, model: Any) -> None:
    import torch

    prompt = [1, 20, 300, 4000, 5, 60, 700, 8000, 9, 10]
    text = stream.write(prompt, model.config.sequence_dim - len(prompt), lambda logits, top: int(top[0]))
    with torch.inference_mode():
        wanted = model(torch.tensor([prompt + text]))[0, len(prompt) - 1 : -1].argmax(-1).tolist()
    if text != wanted:
        raise ValueError("the ONNX graph writes another greedy text than the model")
