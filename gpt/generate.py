"""python -m gpt.generate: a completion in the terminal, as it is made.

The prompt and its completion go to standard output, everything else to standard error.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt.errors import ConfigError, GPTError, RequestError, UnknownCharacterError

if TYPE_CHECKING:
    from gpt.completion import CompletionRequest

CHECKPOINT = Path(__file__).resolve().parent.parent / "checkpoints" / "verse"
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
CLOSED_PIPE = 141  # 128 + SIGPIPE


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m gpt.generate",
        description="Continue a text with a checkpoint's model; print the prompt and what follows, as it is made.",
        epilog="exit status: 0 done; 1 it failed; 2 an argument is wrong; 130 after Ctrl-C; "
        "141 when the program that reads the output has gone",
    )
    parser.add_argument(
        "--checkpoint", type=Path, default=CHECKPOINT, metavar="FOLDER", help="the checkpoint's folder (%(default)s)"
    )
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="the text to continue, at least one character")
    length = parser.add_argument_group("where it ends")
    length.add_argument(
        "--max-new-tokens", type=int, default=200, metavar="N", help="tokens to generate, 1 to 4096 (%(default)s)"
    )
    length.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end before this text; may be given up to 8 times; a line break is $'\\n' in most shells",
    )
    sampling = parser.add_argument_group("how a token is drawn; the filters act in this order")
    for option, default, text in (
        ("--repetition-penalty", 1.0, "above 0 to 10: how much less likely tokens of the text so far are; 1: off"),
        ("--presence-penalty", 0.0, "-2 to 2: taken from the logit of a token that the completion has; 0: off"),
        ("--frequency-penalty", 0.0, "-2 to 2: the same, once for each time that it has the token; 0: off"),
        ("--temperature", 0.8, "0 to 10: above 1 bolder, below 1 safer, 0 always the most probable token"),
        ("--top-k", 50, "keep the N most probable tokens; 0: off"),
        ("--top-p", 1.0, "above 0 to 1: keep the fewest tokens with this probability together; 1: off"),
        ("--min-p", 0.0, "0 to 1: keep tokens at least this fraction as probable as the most probable; 0: off"),
    ):
        kind = type(default)
        sampling.add_argument(
            option, type=kind, default=default, metavar="N" if kind is int else "X", help=f"{text} (%(default)s)"
        )
    sampling.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="0 to 2**63 - 1: the same seed repeats the text (one is drawn and reported)",
    )
    machine = parser.add_argument_group("where it runs")
    machine.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s: a GPU if there is one)"
    )
    machine.add_argument(
        "--threads", type=int, metavar="N", help="threads on a CPU (one for models below 32 million parameters)"
    )
    machine.add_argument(
        "--int8", action="store_true", help="8-bit products: faster, not quite the same text (needs AVX-512 VNNI)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Generate as the arguments say; the exit status."""
    parser = build_parser()
    options = parser.parse_args(argv)
    # Here, so that --help and a mistyped option need not wait for torch.
    from gpt.completion import CompletionRequest

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    try:
        request = CompletionRequest(
            prompt=options.prompt,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            min_p=options.min_p,
            repetition_penalty=options.repetition_penalty,
            presence_penalty=options.presence_penalty,
            frequency_penalty=options.frequency_penalty,
            max_new_tokens=options.max_new_tokens,
            seed=options.seed,
            stop=options.stop,
        )
        _generate(request, options)
    except GPTError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, (RequestError, ConfigError, UnknownCharacterError)) else 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Nothing may be written to it any more, not even what Python flushes as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    return 0


def _generate(request: CompletionRequest, options: argparse.Namespace) -> None:
    """Print the prompt, the completion as it comes, and on standard error how long it took."""
    from gpt.backends.local import LocalBackend

    backend = LocalBackend.from_checkpoint(
        options.checkpoint, options.device, max_streams=1, num_threads=options.threads, int8=options.int8
    )
    try:
        started = time.perf_counter()
        stream = backend.stream(request)
        print(request.prompt, end="", flush=True)
        tokens, seed = 0, 0
        for chunk in stream:
            print(chunk.text, end="", flush=True)
            tokens, seed = tokens + len(chunk.token_ids), chunk.seed
        print(flush=True)
        seconds = time.perf_counter() - started
        print(f"{tokens} tokens in {seconds:.2f} s, {tokens / seconds:.0f} tokens/s, seed {seed}", file=sys.stderr)
    finally:
        backend.close()


if __name__ == "__main__":
    sys.exit(main())
