"""What 8-bit products change: the engine's own float32 sums against them, on the bundled sonnets.

Block by block of the context, at each position: the divergence (Kullback-Leibler, nats a token) of the
8-bit distribution from the exact one, how often both have the same most probable token, and the loss of each. Then
greedy texts from the same prompts: how many of their tokens are the same before they part.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks._record import Record

if TYPE_CHECKING:
    from gpt.checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINTS = ("laptop", "shakespeare")
NEW_TOKENS = 200
QUICK = ("--tokens", "1000", "--prompts", "10")


def run(arguments: list[str], record: Record) -> None:
    """Measure both checkpoints, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks int8",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tokens", type=int, default=5000, metavar="N", help="of the sonnets (%(default)s)")
    parser.add_argument("--prompts", type=int, default=50, metavar="N", help="greedy texts (%(default)s)")
    options = parser.parse_args(arguments)
    from gpt import load_checkpoint
    from gpt.compiled.panel import VNNI

    if not VNNI:
        record.missing("int8", "it needs a processor with AVX-512 VNNI")
        return
    print(f"{'checkpoint':<12} divergence  same choice   loss, exact    8-bit  same greedy tokens of {NEW_TOKENS}")
    for name in CHECKPOINTS:
        checkpoint = load_checkpoint(ROOT / "checkpoints" / name)
        text = (ROOT / "data" / "sonnets.txt").read_text(encoding="utf-8")
        ids = checkpoint.tokenizer.encode(re.sub(r"[^A-Za-z ,.;:!?\n]", "", text))
        divergence, same, exact, whole = _distributions(checkpoint, ids[: options.tokens])
        kept = _texts(checkpoint, ids, options.prompts)
        middle = sorted(kept)[len(kept) // 2]
        print(
            f"{name:<12} {divergence:10.5f} {100 * same:10.1f} % {exact:13.4f} {whole:8.4f}  "
            f"{middle} (median; {sum(count == NEW_TOKENS for count in kept)} of {len(kept)} to the end)"
        )
        record.row(name, "divergence", "nats/token", [divergence])
        record.row(name, "same most probable token", "share", [same])
        record.row(name, "loss, exact", "nats/token", [exact])
        record.row(name, "loss, 8-bit", "nats/token", [whole])
        record.row(name, "greedy tokens before they part", "tokens", kept)


def _distributions(checkpoint: Checkpoint, ids: list[int]) -> tuple[float, float, float, float]:
    """Over all positions: mean divergence, share of the same most probable token, mean loss of both."""
    import torch

    from gpt.compiled.compiled_model import CompiledModel, Row

    model, context = checkpoint.model.eval(), checkpoint.config.sequence_dim
    paths = [CompiledModel(model, 1, 1, int8=int8) for int8 in (False, True)]
    found = list[tuple[float, float, float, float]]()
    for start in range(0, len(ids) - context, context):
        for place in range(context):
            row = Row(0, place, [ids[start + place]], (-1.0, 0, 1.0, 0.0), [0.5])
            exact, whole = (torch.tensor(path.advance([row])[0][0]).double().log_softmax(-1) for path in paths)
            following = ids[start + place + 1]
            divergence = torch.sum(exact.exp() * (exact - whole))
            same = exact.argmax() == whole.argmax()
            found.append((float(divergence), float(same), -float(exact[following]), -float(whole[following])))
    for path in paths:
        path.close()
    divergences, agreed, losses, others = (sum(values) / len(found) for values in zip(*found, strict=True))
    return divergences, agreed, losses, others


def _texts(checkpoint: Checkpoint, ids: list[int], prompts: int) -> list[int]:
    """Of each greedy text, the tokens that both write before they part."""
    from gpt.engine import Engine
    from gpt.sampling import SamplingParams

    texts = []
    for int8 in (False, True):
        engine = Engine(checkpoint.model, compiled=True, int8=int8, max_queue=prompts)
        asked = [
            engine.submit(ids[30 * n : 30 * n + 10], SamplingParams(temperature=0), NEW_TOKENS) for n in range(prompts)
        ]
        texts.append([[token.token_id for token in generation] for generation in asked])
        engine.close()
    return [
        next((n for n, (one, other) in enumerate(zip(*both, strict=True)) if one != other), NEW_TOKENS)
        for both in zip(*texts, strict=True)
    ]
