"""A checkpoint's card on the Hub: the card itself, below a header that the Hub reads."""

from __future__ import annotations

import re
from typing import Any

from gpt.checkpoint_info import CheckpointInfo
from gpt.errors import HubError

HEADER = re.compile(r"\A---\n.*?\n---\n+", re.DOTALL)
TAGS = ("gpt", "safetensors")


def hub_card(info: CheckpointInfo, card: str, repository: str, license: str) -> str:
    """The README.md of a checkpoint's repository.

    Args:
        info: what the checkpoint is.
        card: its own card, empty if there is none.
        repository: its name on the Hub.
        license: the weights' licence, as the Hub names it; empty: none is stated.

    Raises:
        HubError: the Hub's library refuses the header.
    """
    from huggingface_hub import EvalResult, ModelCardData

    name = repository.rpartition("/")[2]
    figures = info.record.nats_per_character
    details: dict[str, Any] = {"pipeline_tag": "text-generation", "tags": list(TAGS)}
    if license:
        details["license"] = license
    if figures:
        details["model_name"] = name
        details["eval_results"] = [
            EvalResult(
                task_type="text-generation",
                dataset_type="text",
                dataset_name=f"{info.record.corpus or 'text'}, validation part",
                metric_type="nats_per_character",
                metric_name=f"nats per character, {protocol}",
                metric_value=figure,
            )
            for protocol, figure in sorted(figures.items())
        ]
    try:
        header = ModelCardData(**details).to_yaml()
    except ValueError as error:
        raise HubError(f"the card of {repository} cannot be written: {error}") from error
    return f"---\n{header}\n---\n\n{plain_card(card) or _facts(info, name)}"


def plain_card(text: str) -> str:
    """A card without the header."""
    return HEADER.sub("", text.replace("\r\n", "\n"), count=1)


def _facts(info: CheckpointInfo, name: str) -> str:
    """A card for a checkpoint without one."""
    config = info.config
    return (
        f"# {name}\n\n{info.parameters:,} parameters: vocabulary {config.vocab_dim:,} ({info.tokenizer_kind}), context "
        f"{config.sequence_dim} tokens, width {config.embed_dim}, {config.num_heads} heads, {config.num_layers} "
        f"blocks.\n"
    )
