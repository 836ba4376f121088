"""python -m gpt.hub: checkpoints to and from the Hugging Face Hub, and to and from transformers' format."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt.byte_size import byte_size
from gpt.errors import CheckpointNameError, GPTError

if TYPE_CHECKING:
    from gpt.checkpoint_info import CheckpointInfo
    from gpt.checkpoint_store import CheckpointStore
    from gpt.hub.repository import Progress

CHECKPOINTS = Path(__file__).resolve().parent.parent.parent / "checkpoints"
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
LONGEST_PROGRESS = len("999.9 MB of 999.9 MB")  # a shorter line covers a longer one
SHOWN_EVERY_S = 0.2


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m gpt.hub",
        description="Push checkpoints to the Hugging Face Hub and pull them from it; export one to transformers' "
        "format, and import GPT-2 from it, both with the same logits. Weights are safetensors always; nothing pickled "
        "is ever loaded.",
        epilog="environment: HF_TOKEN, a token for what is not public and for pushing; HF_HOME, where downloads are "
        "kept; HF_ENDPOINT, another server. exit status: 0 done; 1 it failed; 2 an argument is wrong; 130 after Ctrl-C",
    )
    parser.add_argument(
        "--root", type=Path, default=CHECKPOINTS, metavar="FOLDER", help="the folder of checkpoints (%(default)s)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    push = commands.add_parser("push", help="a checkpoint to a repository: weights, tokenizer, record, and a card")
    pull = commands.add_parser("pull", help="the checkpoint of a repository, once it was loaded strictly")
    export = commands.add_parser("export", help="a checkpoint as a folder that transformers loads")
    import_ = commands.add_parser("import", help="GPT-2 or a fine-tune of it, from the Hub or a transformers folder")
    for command in (push, export):
        command.add_argument("checkpoint", metavar="CHECKPOINT", help="its name in --root, or its folder")
    push.add_argument("repository", metavar="REPOSITORY", help="OWNER/NAME; made if it is not there")
    push.add_argument("--private", action="store_true", help="if it is made now, nobody else sees it")
    push.add_argument("--license", default="", metavar="ID", help="the weights' licence on the card, such as mit")
    push.add_argument("--message", default="", metavar="TEXT", help="the commit's")
    pull.add_argument("repository", metavar="REPOSITORY", help="OWNER/NAME")
    import_.add_argument(
        "source", metavar="SOURCE", help="a folder, or a repository: gpt2, gpt2-medium, gpt2-large, gpt2-xl, OWNER/NAME"
    )
    for command in (pull, import_):
        command.add_argument("--name", metavar="NAME", help="what to call it here (the repository's or folder's name)")
        command.add_argument("--revision", metavar="REVISION", help="a branch, tag or commit (the newest)")
    export.add_argument("folder", type=Path, metavar="FOLDER", help="a folder that is not there yet")
    export.add_argument("--format", choices=("transformers",), default="transformers", help="(default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say; the exit status."""
    parser = build_parser()
    options = parser.parse_args(argv)
    from gpt.checkpoint_store import SHIPPED, CheckpointStore

    store = CheckpointStore(options.root, shipped=SHIPPED if options.root.resolve() == CHECKPOINTS else ())
    work = {"push": _push, "pull": _pull, "export": _export, "import": _import}[options.command]
    try:
        print(work(store, options))
    except GPTError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, CheckpointNameError) else 1
    except KeyboardInterrupt:
        print("stopped; nothing half-written is left", file=sys.stderr)
        return INTERRUPTED
    return 0


def _push(store: CheckpointStore, options: argparse.Namespace) -> str:
    """The commit's address."""
    from gpt.hub.exchange import push_checkpoint
    from gpt.hub.repository import Hub

    _quiet(bars=sys.stderr.isatty())
    info = _find(store, options.checkpoint)
    return push_checkpoint(
        Hub(),
        info,
        options.repository,
        private=options.private,
        license=options.license,
        message=options.message,
    )


def _pull(store: CheckpointStore, options: argparse.Namespace) -> str:
    """The name that the checkpoint got."""
    from gpt.hub.exchange import pull_checkpoint
    from gpt.hub.repository import Hub

    _quiet()
    with _progress() as progress:
        return pull_checkpoint(
            Hub(), store, options.repository, name=options.name, revision=options.revision, progress=progress
        )


def _export(store: CheckpointStore, options: argparse.Namespace) -> str:
    """The folder."""
    from gpt.hub.export import export_transformers

    found = export_transformers(_find(store, options.checkpoint).folder, options.folder)
    print(f"as a {found}, for AutoModelForCausalLM and AutoTokenizer, in", file=sys.stderr)
    return str(options.folder)


def _import(store: CheckpointStore, options: argparse.Namespace) -> str:
    """The name that the checkpoint got."""
    from gpt.hub.exchange import import_checkpoint
    from gpt.hub.repository import Hub

    _quiet()
    with _progress() as progress:
        return import_checkpoint(
            Hub(),
            store,
            options.source,
            name=options.name,
            revision=options.revision,
            progress=progress,
            tiktoken_cache=os.environ.get("TIKTOKEN_CACHE_DIR"),
        )


def _find(store: CheckpointStore, name: str) -> CheckpointInfo:
    """A checkpoint by its name, or by its folder."""
    from gpt.checkpoint_info import read_info

    return read_info(Path(name)) if (Path(name) / "config.json").is_file() else store.find(name)


def _quiet(*, bars: bool = False) -> None:
    """Let the library say nothing of its own, but for the bars of what it uploads: an error comes in words."""
    from huggingface_hub.utils import disable_progress_bars, logging

    if not bars:
        disable_progress_bars()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """A line on standard error that says how much has arrived, where a person looks on."""
    shown_at = 0.0

    def show(received: int, total: int) -> None:
        nonlocal shown_at
        if sys.stderr.isatty() and (time.monotonic() - shown_at > SHOWN_EVERY_S or received == total):
            shown_at = time.monotonic()
            text = f"{byte_size(received)} of {byte_size(total)}"
            print(f"\r{text:<{LONGEST_PROGRESS}}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if shown_at:
            print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
