"""TextInspection: what a model makes of a text, token by token and layer by layer.

Everything here comes from `GPT.inspect`, the attention's own weights (`need_weights`) and the model's final norm and
head; nothing reaches into a module.

Shapes: T tokens, L num_layers, H num_heads, V vocab_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt.errors import RequestError
from gpt.model import GPT
from gpt.next_token import NextToken
from gpt.tokenizer import Tokenizer

MAX_TOKENS = 128
"""More cannot be read in a picture with one row a token."""
GUESSES = 5


class Guess(NamedTuple):
    """A token that may come next: its text and its probability."""

    text: str
    probability: float


@dataclass(frozen=True)
class TextInspection:
    """What a model makes of a text.

    Attributes:
        tokens: T texts, those of the tokens; bytes that are no whole character as in Python's escapes.
        left_out: the number of tokens of the text before these.
        attention: (L, H, T, T) float32; [.., i, j] is how much token i looks at token j.
        guesses: for each of the L + 1 states, the embedding's and each layer's, and for each token: the GUESSES most
            probable next tokens, by falling probability, were the head to follow there. The last is the model's own.
        logprobs: T log-probabilities (nats) that the model gives each token after those before it; None for the first.
        ranks: T places, from 1, of each token among all that were possible, by probability; None for the first.
        characters: the number of characters that the tokens after the first spell.
        next_token: the distribution of what comes after the text.
    """

    tokens: tuple[str, ...]
    left_out: int
    attention: NDArray[np.float32]
    guesses: tuple[tuple[tuple[Guess, ...], ...], ...]
    logprobs: tuple[float | None, ...]
    ranks: tuple[int | None, ...]
    characters: int
    next_token: NextToken


def inspect_text(model: GPT, tokenizer: Tokenizer, text: str) -> TextInspection:
    """What the model makes of the text: of its last sequence_dim tokens, and MAX_TOKENS at most.

    Raises:
        RequestError: the text has no tokens.
        UnknownCharacterError: it has a character that the tokenizer does not know.
    """
    ids = tokenizer.encode(text)
    if not ids:
        raise RequestError("the text is empty; type at least one character")
    kept = ids[-min(model.config.sequence_dim, MAX_TOKENS) :]
    input_ids = torch.tensor([kept], device=model.head.weight.device)
    with torch.inference_mode():
        seen = model.inspect(input_ids)
        guesses = [_top(model.head(model.norm(states))[0]) for states in seen.hidden_states]
        attention = torch.stack(seen.attention_weights)[:, 0].float().cpu().numpy()
        logits = seen.logits[0].float()
        logprobs, ranks = _scores(logits[:-1], input_ids[0, 1:])
    texts: dict[int, str] = {}

    def show(token_id: int) -> str:
        if token_id not in texts:
            texts[token_id] = tokenizer.decode_bytes([token_id]).decode("utf-8", errors="backslashreplace")
        return texts[token_id]

    return TextInspection(
        tokens=tuple(show(token_id) for token_id in kept),
        left_out=len(ids) - len(kept),
        attention=attention,
        guesses=tuple(
            tuple(
                tuple(Guess(show(token_id), probability) for token_id, probability in zip(*row, strict=True))
                for row in zip(top_ids, probabilities, strict=True)
            )
            for top_ids, probabilities in guesses
        ),
        logprobs=(None, *logprobs),
        ranks=(None, *ranks),
        characters=len(tokenizer.decode(kept)) - len(tokenizer.decode(kept[:1])),
        next_token=NextToken(logits[-1], show),
    )


def _top(logits: Tensor) -> tuple[list[list[int]], list[list[float]]]:
    """The ids and probabilities of the GUESSES most probable tokens of each row of logits (T, V)."""
    probabilities, ids = logits.float().softmax(-1).topk(min(GUESSES, logits.shape[-1]))
    return ids.tolist(), probabilities.tolist()


def _scores(logits: Tensor, ids: Tensor) -> tuple[list[float], list[int]]:
    """The log-probability (nats) and the rank, from 1, of each id (T,) in its row of logits (T, V)."""
    chosen = logits.gather(1, ids[:, None])
    logprobs = chosen[:, 0] - logits.logsumexp(-1)
    return logprobs.tolist(), ((logits > chosen).sum(-1) + 1).tolist()
