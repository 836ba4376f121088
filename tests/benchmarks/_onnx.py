"""The model as an ONNX graph with a cache of keys and values: ids in, the most probable tokens of the last place out.

Written node by node, so that it needs onnx alone. Its inputs are ids (1, T), positions (T), an additive mask
(T, P + T), and for each layer the keys and values of the P tokens before, (1, H, P, D); its outputs are the logits and
ids of the most probable tokens, (1, K) each, and the keys and values with the new ones behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 20, 10


def write_onnx(model: Any, path: Path, top_k: int) -> None:
    """Write the graph of a model with learned positions, and with no bias on queries, keys and values."""
    config, graph = model.config, _Graph()
    heads, depth = config.num_heads, config.embed_dim // config.num_heads
    inputs: list[tuple[str, int, list[int | str]]] = [
        ("ids", TensorProto.INT64, [1, "T"]),
        ("positions", TensorProto.INT64, ["T"]),
    ]
    inputs.append(("mask", TensorProto.FLOAT, ["T", "S"]))
    outputs: list[tuple[str, int, list[int | str]]] = [("logits", TensorProto.FLOAT, [1, top_k])]
    outputs.append(("top", TensorProto.INT64, [1, top_k]))
    split = graph.constant(np.array([0, 0, heads, depth]))
    joined = graph.constant(np.array([0, 0, config.embed_dim]))
    x = graph.add(
        "Add",
        graph.add("Gather", graph.weight(model.token_embedding.weight), "ids"),
        graph.add("Gather", graph.weight(model.position_embedding.weight), "positions"),
    )
    for number, block in enumerate(model.blocks):
        attention, normed = block.self_attn, graph.norm(x, block.norm1)
        parts = []
        for weight in attention.in_proj_weight.chunk(3):
            flat = graph.add("MatMul", normed, graph.weight(weight.t()))
            parts.append(graph.add("Transpose", graph.add("Reshape", flat, split), perm=[0, 2, 1, 3]))
        for at, name in ((1, "keys"), (2, "values")):
            kept = f"{name}{number}"
            inputs.append((kept, TensorProto.FLOAT, [1, heads, "P", depth]))
            outputs.append((f"{kept}_after", TensorProto.FLOAT, [1, heads, "S", depth]))
            parts[at] = graph.add("Concat", kept, parts[at], out=f"{kept}_after", axis=2)
        queries, keys, values = parts
        queries = graph.add("Mul", queries, graph.constant(np.float32(depth**-0.5)))
        scores = graph.add("MatMul", queries, graph.add("Transpose", keys, perm=[0, 1, 3, 2]))
        weights = graph.add("Softmax", graph.add("Add", scores, "mask"), axis=-1)
        attended = graph.add("Transpose", graph.add("MatMul", weights, values), perm=[0, 2, 1, 3])
        x = graph.add("Add", x, graph.linear(graph.add("Reshape", attended, joined), attention.out_proj))
        inner = graph.add("Gelu", graph.linear(graph.norm(x, block.norm2), block.linear1))
        x = graph.add("Add", x, graph.linear(inner, block.linear2))
    last = graph.add("Gather", graph.norm(x, model.norm), graph.constant(np.int64(-1)), axis=1)
    graph.top_k(graph.linear(last, model.head), top_k)
    written = helper.make_graph(
        graph.nodes,
        "gpt",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        graph.constants,
    )
    proto = helper.make_model(written, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(proto)
    onnx.save(proto, path)


class _Graph:
    """Nodes and constants, each named by its number."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Any) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, tensor: Any) -> str:
        return self.constant(tensor.detach().contiguous().numpy())

    def add(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or f"node{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def linear(self, x: str, layer: Any) -> str:
        return self.add("Add", self.add("MatMul", x, self.weight(layer.weight.t())), self.weight(layer.bias))

    def norm(self, x: str, layer: Any) -> str:
        return self.add(
            "LayerNormalization", x, self.weight(layer.weight), self.weight(layer.bias), axis=-1, epsilon=layer.eps
        )

    def top_k(self, logits: str, count: int) -> None:
        self.nodes.append(helper.make_node("TopK", [logits, self.constant(np.array([count]))], ["logits", "top"]))
