"""A GPT built by hand: the model, the engine that runs it, and the pages that use it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpt.attention import MultiheadAttention
    from gpt.block import SelfMultiheadAttentionBlock
    from gpt.checkpoint import load_checkpoint, save_checkpoint
    from gpt.config import GPTConfig
    from gpt.model import GPT

__all__ = [
    "GPT",
    "GPTConfig",
    "MultiheadAttention",
    "SelfMultiheadAttentionBlock",
    "load_checkpoint",
    "save_checkpoint",
]

_HOMES = {
    "GPT": "gpt.model",
    "GPTConfig": "gpt.config",
    "MultiheadAttention": "gpt.attention",
    "SelfMultiheadAttentionBlock": "gpt.block",
    "load_checkpoint": "gpt.checkpoint",
    "save_checkpoint": "gpt.checkpoint",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for, so that `--help` and an early error need not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gpt' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
