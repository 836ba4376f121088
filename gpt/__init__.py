"""A GPT built by hand: the model, the engine that runs it, and the pages that use it."""

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
