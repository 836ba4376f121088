"""Samples of a model's text: plain loops that never touch training's generator."""

from __future__ import annotations

import torch

from gpt.kv_cache import KVCache
from gpt.model import GPT
from gpt.sampling import SamplingParams
from gpt.sampling import sample as draw
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


@torch.no_grad()
def sample_texts(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str,
    count: int,
    characters: int,
    *,
    temperature: float = 0.8,
    top_k: int = 50,
    seed: int = 0,
) -> list[str]:
    """`count` texts that continue the prompt, each cut after so many characters, drawn side by side.

    The model's context ends as in the engine: when it is full, its last half is read anew, and the text goes on.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        prompt: a text of characters that the tokenizer knows, at least one.
        count: texts.
        characters: of each, without the prompt's.
        temperature, top_k: as in SamplingParams.
        seed: text i has a generator of its own, seeded with seed + i.

    Raises:
        RequestError: temperature or top_k is out of range.
        BackendError: the model's logits are not finite.
    """
    params = SamplingParams(temperature=temperature, top_k=top_k)
    device, context = next(model.parameters()).device, model.config.sequence_dim
    generators = [torch.Generator().manual_seed(seed + row) for row in range(count)]
    rows = torch.tensor([tokenizer.encode(prompt)] * count)
    start = rows.shape[1]
    new, cache = rows[:, -max(1, context // 2) :], KVCache.from_config(model.config, count, device=device)
    while True:
        logits = model.head(model.hidden_states(new.to(device), cache)[:, -1]).float().cpu()
        ids = [draw(row, params, generator) for row, generator in zip(logits, generators, strict=True)]
        rows = torch.cat((rows, torch.tensor(ids)[:, None]), dim=1)
        # A token has a character at least, or is part of one; decoding all of them at each step would be slow.
        if rows.shape[1] - start >= characters / 8 and (rows.shape[1] - start) % 16 == 0:
            texts = [tokenizer.decode(row[start:].tolist()) for row in rows]
            if min(map(len, texts)) > characters:  # the last character may be half of one
                return [text[:characters] for text in texts]
        new = rows[:, -1:]
        if cache.lengths[0] == context:
            new, cache = rows[:, -max(1, context // 2) :], KVCache.from_config(model.config, count, device=device)
