"""python -m gpt.checkpoints: what the page's Models tab does, in the terminal."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt.atomic import partial_of
from gpt.errors import CheckpointError, CheckpointNameError, GPTError

if TYPE_CHECKING:
    from gpt.checkpoint_info import CheckpointInfo
    from gpt.checkpoint_store import CheckpointStore

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
CLOSED_PIPE = 141  # 128 + SIGPIPE


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m gpt.checkpoints",
        description="List, show, rename, delete, pack and unpack checkpoints. A run's best one goes by the run's name.",
        epilog="exit status: 0 done; 1 it failed; 2 an argument is wrong; 130 after Ctrl-C; "
        "141 when the program that reads the output has gone",
    )
    parser.add_argument(
        "--root", type=Path, default=CHECKPOINTS, metavar="FOLDER", help="the folder of checkpoints (%(default)s)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="every checkpoint: name, parameters, nats per character, megabytes, corpus")
    show = commands.add_parser("show", help="what one is, and its model card")
    rename = commands.add_parser("rename", help="give one, or a run with its best, another name")
    delete = commands.add_parser("delete", help="delete one, or a whole run with its state; asks first")
    pack = commands.add_parser("pack", help="write one into a zip file")
    unpack = commands.add_parser("unpack", help="add the one that a zip file holds, once it was loaded strictly")
    for command in (show, delete, pack):
        command.add_argument("name", metavar="NAME", help="as list shows it")
    rename.add_argument("name", metavar="OLD", help="as list shows it")
    rename.add_argument("new_name", metavar="NEW", help="letters, digits, '.', '_', '-' and spaces")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    pack.add_argument("file", type=Path, metavar="FILE.zip", help="a file that is not there yet")
    unpack.add_argument("file", type=Path, metavar="FILE.zip", help="made by pack or by the page's Download")
    unpack.add_argument("--name", metavar="NAME", help="what to call it (what its folder in the zip is called)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say; the exit status."""
    parser = build_parser()
    options = parser.parse_args(argv)
    from gpt.checkpoint_store import SHIPPED, CheckpointStore

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    shipped = SHIPPED if options.root.resolve() == CHECKPOINTS else ()
    store = CheckpointStore(options.root, shipped=shipped)
    try:
        {"list": _list, "show": _show, "rename": _rename, "delete": _delete, "pack": _pack, "unpack": _unpack}[
            options.command
        ](store, options)
        sys.stdout.flush()
    except GPTError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, CheckpointNameError) else 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Nothing may be written to it any more, not even what Python flushes as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    return 0


def _list(store: CheckpointStore, _options: argparse.Namespace) -> None:
    """Print a line for each checkpoint, its fields parted by tabs."""
    from gpt.checkpoint_info import damaged_checkpoints, list_checkpoints

    for info in list_checkpoints(store.root):
        figure = info.record.nats_per_character.get("sliding", info.record.nats_per_character.get("block"))
        fields = (
            info.name,
            f"{info.parameters}",
            "" if figure is None else f"{figure:.3f}",
            f"{info.size_bytes / 1e6:.1f}",
            info.record.corpus,
        )
        print("\t".join(fields))
    for message in damaged_checkpoints(store.root):
        print(f"left out: {message}", file=sys.stderr)


def _show(store: CheckpointStore, options: argparse.Namespace) -> None:
    """Print what the checkpoint is, and its card."""
    from gpt.checkpoint_info import read_card

    info = store.find(options.name)
    for label, text in _facts(info):
        print(f"{label + ':':<12}{text}")
    if card := read_card(info.folder):
        print(f"\n{card}", end="")


def _facts(info: CheckpointInfo) -> list[tuple[str, str]]:
    record = info.record
    facts = [
        ("name", info.name),
        ("folder", str(info.folder)),
        ("parameters", f"{info.parameters:,}"),
        ("context", f"{info.config.sequence_dim} tokens"),
        ("tokenizer", info.tokenizer_kind),
        ("bytes", f"{info.size_bytes:,}"),
        ("corpus", record.corpus),
        ("steps", f"{record.best_step or record.steps:,}" if record.steps else ""),
        ("trained", record.created_at),
        *((f"{name}", f"{figure:.4f} nats per character") for name, figure in record.nats_per_character.items()),
    ]
    return [(label, text) for label, text in facts if text]


def _rename(store: CheckpointStore, options: argparse.Namespace) -> None:
    store.rename(options.name, options.new_name)


def _delete(store: CheckpointStore, options: argparse.Namespace) -> None:
    """Delete after a yes: the option's, or one typed at a terminal."""
    info = store.find(options.name)
    if not options.yes:
        if not sys.stdin.isatty():
            raise CheckpointError(f"{info.name!r} was not deleted: nobody is there to be asked; say so with --yes")
        run = " and its whole run, which cannot go on then" if store.is_run(info) else ""
        print(f"Delete {info.name!r}{run}? It cannot be brought back. [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CheckpointError(f"{info.name!r} was not deleted, as you said")
    store.delete(info.name)


def _pack(store: CheckpointStore, options: argparse.Namespace) -> None:
    """Write the zip beside its place first, so that the file is complete or absent."""
    path: Path = options.file
    if path.exists():
        raise CheckpointError(f"{path} is there already; give another file, or delete it first")
    partial = partial_of(path)
    try:
        with partial.open("wb") as file:
            store.pack(options.name, file)
        os.replace(partial, path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written ({error.strerror or error}); give another file") from error
    finally:
        partial.unlink(missing_ok=True)


def _unpack(store: CheckpointStore, options: argparse.Namespace) -> None:
    """Print the name that the new checkpoint got."""
    try:
        with options.file.open("rb") as file:
            print(store.unpack(file, options.file.name, options.name))
    except OSError as error:
        raise CheckpointError(f"{options.file} cannot be read ({error.strerror or error}); give a zip file") from error


if __name__ == "__main__":
    sys.exit(main())
