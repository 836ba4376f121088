"""The Inspect tab's pictures: their frames, and what they are drawn from."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from gpt.inspection import TextInspection
from gpt.next_token import NextToken
from gpt.sampling import SamplingParams

FOLDER = Path(__file__).parent
TEMPLATES = {
    "loss": '<p class="loss-sum"></p><div class="loss-text" role="group" aria-label="Tokens and their losses"></div>',
    "next": '<p class="next-summary" role="status"></p><div class="next-rows" role="list"></div>',
    "attention": (
        '<div class="attention"><div class="attention-heads" role="group" aria-label="Heads"></div>'
        '<div class="attention-one"><h4 class="attention-title"></h4><div class="attention-large"></div></div></div>'
    ),
    "layers": '<div class="layers-frame"></div>',
}


def picture(name: str) -> gr.HTML:
    """One of the pictures, empty; its value is what the function called after it gives."""
    return gr.HTML(
        "",
        html_template=TEMPLATES[name],
        js_on_load=(FOLDER / f"{name}_view.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=f"inspect-{name}",
    )


def loss_value(seen: TextInspection) -> str:
    """Each token over its loss, and the sums of it."""
    losses = [-logprob for logprob in seen.logprobs if logprob is not None]
    mean = sum(losses) / len(losses) if losses else 0.0
    sums = [
        [f"{mean:.2f}", "nats a token"],
        [f"{sum(losses) / max(1, seen.characters):.2f}", "nats a character"],
        [f"{math.exp(min(mean, 700)):.1f}", "perplexity"],
    ]
    return _json(
        {
            "sums": sums if losses else [],
            "tokens": seen.tokens,
            "logprobs": seen.logprobs,
            "ranks": seen.ranks,
            "guesses": _rounded(seen.guesses[-1]),
        }
    )


def attention_value(seen: TextInspection) -> str:
    """Every head's weights: 16 bits each, of each row those up to the diagonal; the others are zero."""
    layers, heads, tokens, _ = seen.attention.shape
    rows, columns = np.tril_indices(tokens)
    weights = np.rint(seen.attention[:, :, rows, columns] * 65535).astype("<u2")
    encoded = base64.b64encode(weights.tobytes()).decode()
    return _json({"tokens": seen.tokens, "layers": layers, "heads": heads, "weights": encoded})


def layers_value(seen: TextInspection) -> str:
    """What each layer would say after each token."""
    return _json({"tokens": seen.tokens, "guesses": [_rounded(layer) for layer in seen.guesses]})


def next_value(token: NextToken, params: SamplingParams) -> str:
    """The next token's distribution, and what the filters keep of it."""
    kept = token.filter(params)
    return _json(
        {
            "vocab_dim": token.vocab_dim,
            "tokens": kept.tokens,
            "left": kept.left,
            "others": kept.others,
            "others_drawn": kept.others_drawn,
        }
    )


def next_error(words: str) -> str:
    """Words in the place of the distribution."""
    return _json({"error": words})


def _rounded(guesses: Any) -> list[Any]:
    return [[[text, round(probability, 4)] for text, probability in row] for row in guesses]


def _json(value: Any) -> str:
    # No "<" in the text: whatever a visitor types, it is never taken for a tag on its way to the page.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
