"""How good a model is: nats per character on a whole validation text, each token scored once, beside n-grams.

Total nats are divided by the characters of the raw text, so that every tokenizer compares. The figures are float32,
without dropout. The text's first token is predicted from the last token of the training part before it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.model import GPT
from gpt.tokenizer import Tokenizer

Progress = Callable[[int, int], None]
PROTOCOLS = ("block", "sliding", "nanogpt")


@torch.inference_mode()
def token_nats(model: GPT, windows: Tensor) -> Tensor:
    """-log p of each window's tokens given those before it in the window.

    Args:
        model: in evaluation mode.
        windows: (B, S + 1) int64.

    Returns:
        (B, S) float32, on the CPU, for tokens 1 to S of each window.
    """
    device = next(model.parameters()).device
    windows = windows.to(device)
    hidden = model.hidden_states(windows[:, :-1])
    rows = max(1, (2**27 if hidden.is_cuda else 2**23) // model.config.vocab_dim)
    flat, targets = hidden.flatten(0, 1), windows[:, 1:].flatten()
    parts = [
        F.cross_entropy(model.head(flat[start : start + rows]).float(), targets[start : start + rows], reduction="none")
        for start in range(0, len(flat), rows)
    ]
    return torch.cat(parts).view(windows.shape[0], -1).cpu()


def validation_tokens(tokenizer: Tokenizer, train_text: str, validation_text: str) -> Tensor:
    """The validation text's tokens behind the training text's last one, (n + 1,) int64; the n are scored."""
    # The last line is enough to find the last token; encoding all of the training text is not needed.
    context = tokenizer.encode(train_text[-200:])[-1:]
    return torch.tensor(context + tokenizer.encode(validation_text))


def window_nats(
    model: GPT, tokens: Tensor, stride: int, *, batch_size: int = 32, progress: Progress | None = None
) -> float:
    """Total nats of tokens[1:], each scored once, in windows of sequence_dim.

    Args:
        model: its mode is left as it is; put it in evaluation mode.
        tokens: (n + 1,) int64; the first is context alone.
        stride: from window to window, at most sequence_dim. With sequence_dim windows do not overlap ("block"); with
            less, a window scores only the tokens that the one before it did not ("sliding").
        batch_size: windows at a time.
        progress: told the tokens done and all.
    """
    size = min(model.config.sequence_dim, len(tokens) - 1)
    stride = min(stride, size)
    count = len(tokens) - 1
    # (first position, tokens scored at its end)
    spans = [(0, size)]
    while spans[-1][0] + size < count:
        start = min(spans[-1][0] + stride, count - size)
        spans.append((start, start - spans[-1][0]))
    total = 0.0
    done = 0
    for index in range(0, len(spans), batch_size):
        batch = spans[index : index + batch_size]
        nats = token_nats(model, torch.stack([tokens[start : start + size + 1] for start, _ in batch]))
        for row, (_, scored) in zip(nats, batch, strict=True):
            total += float(row[size - scored :].double().sum())
            done += scored
        if progress is not None:
            progress(done, count)
    return total


def nanogpt_nats(
    model: GPT,
    tokens: Tensor,
    tokenizer: Tokenizer,
    *,
    seed: int = 1337,
    batches: int = 200,
    progress: Progress | None = None,
) -> float:
    """Nats per character over 200 batches of 64 random windows, as nanoGPT's train.py estimates its loss.

    Only beside figures had in the same way: windows overlap, and early positions with little context weigh as
    much as late ones.
    """
    size = min(model.config.sequence_dim, len(tokens) - 1)
    generator = torch.Generator().manual_seed(seed)
    nats = 0.0
    characters = 0
    for index in range(batches):
        starts = torch.randint(len(tokens) - size, (64,), generator=generator)
        windows = tokens[starts[:, None] + torch.arange(size + 1)]
        nats += float(token_nats(model, windows).double().sum())
        characters += sum(len(tokenizer.decode(window[1:].tolist())) for window in windows)
        if progress is not None:
            progress(index + 1, batches)
    return nats / characters
