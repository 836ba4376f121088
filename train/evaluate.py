"""python -m train.evaluate: how good a checkpoint is, in nats per character, beside the n-gram ladder."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from gpt.errors import ConfigError, GPTError

ROOT = Path(__file__).resolve().parent.parent
PROTOCOLS = ("block", "sliding", "nanogpt")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluate",
        description="Score a checkpoint on the validation part of a text, in nats per character: total nats of the "
        "tokens divided by the characters of the raw text, so that every tokenizer compares.",
        epilog="protocols: block, windows of the context that do not overlap; sliding, windows at a stride of half a "
        "context, each token scored once, with at least half a context before it; nanogpt, 200 batches of 64 random "
        "windows, fixed seed, to be put beside figures obtained in the same way only. float32, no dropout.",
    )
    parser.add_argument("checkpoint", type=Path, help="folder of the checkpoint, such as checkpoints/shakespeare")
    parser.add_argument(
        "--data",
        default="shakespeare",
        help="shakespeare (fetched once; default), sonnets (bundled), hf:OWNER/NAME, or a UTF-8 file",
    )
    parser.add_argument(
        "--train-fraction",
        type=float,
        default=0.9,
        metavar="X",
        help="the part of the characters before the validation part (default: 0.9)",
    )
    parser.add_argument(
        "--protocols",
        default=",".join(PROTOCOLS),
        metavar="LIST",
        help=f"which figures, commas between them (default: {','.join(PROTOCOLS)})",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the figures as the arguments say; give the exit code: 0, or 1 after a failure in words."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    protocols = [name.strip() for name in arguments.protocols.split(",")]
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        parser.error(f"protocols has {unknown[0]!r}; choose among {', '.join(PROTOCOLS)}")
    if not 0 < arguments.train_fraction < 1:
        parser.error(f"train-fraction is {arguments.train_fraction}; give a number between 0 and 1")
    try:
        _evaluate(arguments, protocols)
    except GPTError as error:
        print(f"python -m train.evaluate: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _evaluate(arguments: argparse.Namespace, protocols: list[str]) -> None:
    from gpt.checkpoint import load_checkpoint
    from gpt.device import choose_device
    from gpt.hub.repository import Hub
    from train.corpus import load_corpus
    from train.hub_name import is_hub_name
    from train.hub_text import HubText, pinned
    from train.metrics import nanogpt_nats, validation_tokens, window_nats
    from train.ngram import ngram_ladder

    if is_hub_name(arguments.data):
        text = HubText.open(pinned(arguments.data, ROOT / "data", Hub()), ROOT / "data", Hub())
        name, end = str(text.name), text.training_end(arguments.train_fraction)
        train_text, validation_text = text.training_tail(end), text.validation(end)
    else:
        corpus = load_corpus(arguments.data, ROOT / "data", min_characters=100)
        name = corpus.name
        train_text, validation_text = corpus.split(arguments.train_fraction)
    checkpoint = load_checkpoint(arguments.checkpoint, choose_device(arguments.device))
    model, context = checkpoint.model, checkpoint.config.sequence_dim
    tokens = validation_tokens(checkpoint.tokenizer, train_text, validation_text)
    if len(tokens) < 3:
        raise ConfigError(f"the validation part of {name} has {len(tokens) - 1} tokens; give a longer text")
    print(f"{arguments.checkpoint}: {model.num_parameters():,} parameters, context {context} tokens")
    print(
        f"{name}: {len(validation_text):,} validation characters, {len(tokens) - 1:,} tokens, "
        f"{len(validation_text) / (len(tokens) - 1):.2f} characters a token"
    )
    for protocol in protocols:
        progress = _Progress(protocol)
        if protocol == "nanogpt":
            figure = nanogpt_nats(model, tokens, checkpoint.tokenizer, progress=progress)
        else:
            stride = context if protocol == "block" else max(1, context // 2)
            figure = window_nats(model, tokens, stride, progress=progress) / len(validation_text)
        progress.clear()
        print(f"{protocol:<10} {figure:.4f} nats per character", flush=True)
    if is_hub_name(arguments.data):
        return  # its training part is not counted
    for order, figure in enumerate(ngram_ladder(train_text, validation_text), start=1):
        print(f"{order}-gram     {figure:.3f} nats per character")


class _Progress:
    """A line on standard error that says how far a figure is, where a person looks on."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown_at = 0.0

    def __call__(self, done: int, count: int) -> None:
        if sys.stderr.isatty() and time.monotonic() - self._shown_at > 0.2:
            self._shown_at = time.monotonic()
            print(f"\r{self._name}: {done / count:4.0%}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown_at:
            print("\r" + " " * 30 + "\r", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
