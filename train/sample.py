"""A sample of a model's text while it trains: a plain loop that never touches training's generator."""

from __future__ import annotations

import torch

from gpt.model import GPT
from gpt.tokenizer import Tokenizer


@torch.no_grad()
def sample(
    model: GPT, tokenizer: Tokenizer, prompt: str, max_new_tokens: int, *, temperature: float = 0.8, seed: int = 0
) -> str:
    """The text of max_new_tokens tokens that continue the prompt.

    Args:
        model: put in evaluation mode while this runs.
        tokenizer: the model's.
        prompt: a text of characters that the tokenizer knows.
        max_new_tokens: tokens to draw.
        temperature: the logits are divided by it.
        seed: of this sample's own generator.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    ids = tokenizer.encode(prompt) or [0]
    prompt_length = len(ids)
    for _ in range(max_new_tokens):
        context = torch.tensor([ids[-model.config.sequence_dim :]], device=device)
        logits = model.head(model.hidden_states(context)[:, -1]).float().cpu()
        ids.append(int(torch.multinomial(torch.softmax(logits[0] / temperature, dim=-1), 1, generator=generator)))
    model.train(was_training)
    return tokenizer.decode(ids[prompt_length:])
