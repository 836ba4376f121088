"""CompiledModel: a GPT as compiled code with a cache of its own, for a CPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt.compiled.functions import ACTIVATIONS
from gpt.compiled.panel import GROUP, VNNI, WIDTH
from gpt.compiled.score import MAX_ALTERNATIVES
from gpt.compiled.state import make_record
from gpt.compiled.step import advance
from gpt.compiled.team import AWAKE, CELLS, CLOSED, help_out
from gpt.compiled.weights import aligned, pack
from gpt.errors import ConfigError
from gpt.logprobs import Scores
from gpt.model import GPT

MAX_STEPS = 8
"""Tokens, at most, that one call makes for each of its sequences."""

_CLOSING_S = 0.01


class Row(NamedTuple):
    """One sequence's part of a step.

    Attributes:
        slot: where its keys and values stand.
        place: position of the first of its tokens.
        ids: its next tokens.
        settings: None where no logits are wanted after its last token; else temperature, top_k, top_p and min_p, a
            temperature below 0 to draw nothing.
        uniforms: a number in 0..1 for each step, for the draw.
        alternatives: how many of the most probable tokens to give, to MAX_ALTERNATIVES; -1 for no scores.
    """

    slot: int
    place: int
    ids: Sequence[int]
    settings: tuple[float, int, float, float] | None
    uniforms: Sequence[float] | NDArray[np.float64]
    alternatives: int = -1


class CompiledModel:
    """Advances sequences over one model; bit for bit the same for a sequence whatever runs beside it.

    For one thread at a time, besides the helpers that it starts itself.

    Args:
        model: on the CPU at float32; its weights are copied, but for the embedding.
        max_slots: sequences that it holds at once.
        max_tokens: tokens that one step reads, at most.
        num_threads: threads that share a step, the caller's included.
        int8: multiply whole numbers of 8 bits instead: each row of what a product reads, and each column of its
            matrix, is rounded to 255 steps of a scale of its own (sums are exact; everything else stays float32).

    Raises:
        ConfigError: int8 on a processor without AVX-512 VNNI.

    Memory of the cache: 2 * num_layers * max_slots * embed_dim * (sequence_dim, rounded up to 16) float32, taken from
    the system as sequences grow into it.
    """

    def __init__(self, model: GPT, max_slots: int, max_tokens: int, num_threads: int = 1, int8: bool = False) -> None:
        if int8 and not VNNI:
            raise ConfigError("int8 needs a processor with AVX-512 VNNI, which this one lacks; leave int8 off")
        config = model.config
        feedforward_dim = config.feedforward_dim or 4 * config.embed_dim
        numbers = {
            "embed_dim": config.embed_dim,
            "num_heads": config.num_heads,
            "head_dim": config.head_dim,
            "feedforward_dim": feedforward_dim,
            "num_layers": config.num_layers,
            "vocab_dim": config.vocab_dim,
            "activation": ACTIVATIONS.index(config.activation),
            "learned": int(not config.rotary),
            "qk_norm": int(config.qk_norm),
            "helpers": num_threads - 1,
            "max_slots": max_slots,
            "capacity": -(-config.sequence_dim // 16) * 16,
            "width": _panels(config.embed_dim),
            "qkv_width": _panels(3 * config.embed_dim),
            "hidden_width": _panels(feedforward_dim),
            "logits_width": _panels(config.vocab_dim),
            "whole": int(int8),
            "codes_width": -(-max(config.embed_dim, feedforward_dim) // GROUP) * GROUP,
        }
        weights, self._kept = pack(model, int8)
        count = max(max_tokens, max_slots)
        cache = (config.num_layers, max_slots, config.num_heads, config.head_dim, numbers["capacity"])
        floats = {
            "keys": cache,
            "values": cache,
            "x": (max_tokens, numbers["width"]),
            "normed": (count, numbers["width"]),
            "qkv": (max_tokens, numbers["qkv_width"]),
            "attended": (max_tokens, numbers["width"]),
            "scores": (max_tokens, config.num_heads, numbers["capacity"]),
            "hidden": (max_tokens, numbers["hidden_width"]),
            "logits": (max_slots, numbers["logits_width"]),
            "maxima": (max_slots, numbers["logits_width"] // WIDTH),
        }
        self._arrays: dict[str, NDArray[Any]] = {
            **weights,
            **{name: aligned(shape, np.float32) for name, shape in floats.items()},
            **{name: np.zeros(max_tokens, np.int64) for name in ("tokens", "slots", "places")},
            "codes": aligned((count, numbers["codes_width"]), np.int8),
            "scales": np.zeros(count, np.float32),
            "sums": np.zeros(count, np.int32),
            "wanted": np.zeros(max_slots, np.int64),
            "settings": np.zeros((max_slots, 4)),
            "uniforms": np.zeros((MAX_STEPS, max_slots)),
            "drawn": np.zeros((MAX_STEPS, max_slots), np.int64),
            "alternatives": np.zeros(max_slots, np.int64),
            **{name: np.zeros((MAX_STEPS, max_slots)) for name in ("totals", "chosen")},
            "best_ids": np.zeros((MAX_STEPS, max_slots, MAX_ALTERNATIVES), np.int64),
            "best_logits": np.zeros((MAX_STEPS, max_slots, MAX_ALTERNATIVES)),
            "control": aligned((CELLS,), np.int64),
        }
        self._state = make_record(numbers, self._arrays, config.layer_norm_eps)
        self._num_helpers, self._vocab_dim = num_threads - 1, config.vocab_dim
        self._wake = threading.Event()
        self._helpers: list[threading.Thread] = []
        self._closed = False

    def advance(self, rows: Sequence[Row], steps: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64], Scores]:
        """Feed each row's tokens, then what was drawn after them, for so many steps in all.

        Args:
            rows: with more steps than one, of one token each, all wanted and drawn.
            steps: 1 to MAX_STEPS; each sequence must have room for them.

        Returns:
            logits: (wanted rows, vocab_dim) of the last step, a view that the next call overwrites.
            drawn: (steps, wanted rows), -1 where there is nothing to draw from; a view too.
            scores: of the wanted rows that have alternatives; views too.
        """
        arrays, count, wanted = self._arrays, 0, 0
        for slot, place, ids, settings, uniforms, alternatives in rows:
            end = count + len(ids)
            arrays["tokens"][count:end] = ids
            arrays["slots"][count:end] = slot
            arrays["places"][count:end] = range(place, place + len(ids))
            count = end
            if settings is not None:
                arrays["wanted"][wanted] = count - 1
                arrays["settings"][wanted], arrays["alternatives"][wanted] = settings, alternatives
                arrays["uniforms"][:steps, wanted] = uniforms
                wanted += 1
        if arrays["control"][AWAKE] < self._num_helpers:
            self.wake()
        advance(self._state, count, wanted, steps)
        scores = Scores(*(arrays[name][:steps, :wanted] for name in ("totals", "chosen", "best_ids", "best_logits")))
        return arrays["logits"][:wanted, : self._vocab_dim], arrays["drawn"][:steps, :wanted], scores

    def erase(self, slot: int) -> None:
        """Zero a slot: after a failure it may hold what is not a number."""
        self._arrays["keys"][:, slot] = 0
        self._arrays["values"][:, slot] = 0

    def close(self) -> None:
        """End the helpers."""
        self._closed = True
        self._arrays["control"][CLOSED] = 1
        for helper in self._helpers:
            while helper.is_alive():  # one that wakes takes the call back, perhaps from another that is about to wait
                self._wake.set()
                helper.join(_CLOSING_S)

    def wake(self) -> None:
        """Call the helpers; they sleep when there has been no work for a millisecond."""
        while len(self._helpers) < self._num_helpers:
            helper = threading.Thread(target=self._help, name=f"gpt-helper-{len(self._helpers) + 1}", daemon=True)
            self._helpers.append(helper)
            helper.start()
        self._wake.set()

    def _help(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            help_out(self._state)


def _panels(columns: int) -> int:
    """Columns, rounded up to whole panels."""
    return -(-columns // WIDTH) * WIDTH
