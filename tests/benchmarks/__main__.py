"""python -m tests.benchmarks: measure everything beside what it is compared with, or by NAME one thing of it.

Every other file of this folder is a benchmark; its `run` takes the arguments behind its name and a Record, and QUICK
are the arguments with which it takes seconds. Figures move from machine to machine and from hour to hour: quote the
ratios.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from gpt.atomic import write_file
from tests.benchmarks._contestant import ContestantError
from tests.benchmarks._machine import load, machine
from tests.benchmarks._picture import pictures
from tests.benchmarks._record import Record
from tests.benchmarks._suite import ROWS, measure

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "runs" / "benchmarks"
FIRST = ("decode", "streams", "training", "ranks", "scale")
"""The others follow by the alphabet."""
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark in this process, or several in processes of their own; the exit status."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure everything that can run here beside what it is compared with, each in its own process or "
        "in turn: print tables, and write all figures as JSON and pictures of them. With NAME, measure that one thing.",
        epilog=f"NAME is one of {', '.join(names)}. A benchmark's own options: python -m tests.benchmarks NAME --help. "
        "Peers that are not installed are left out; requirements-benchmarks.txt has them. Ctrl-C keeps what was "
        "measured.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and shorter lists: minutes in all")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help=f"for what is written ({OUTPUT.relative_to(ROOT)})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="for the figures (benchmarks.json in that folder)")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="only draw the pictures of such a file again")
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)  # of a process that this command started
    parser.add_argument("name", nargs="?", metavar="NAME", help="measure this alone; writes only what is asked for")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its own options")
    options = parser.parse_args(argv)
    if options.name not in (None, *names):
        parser.error(f"NAME is {options.name!r}; choose one of {', '.join(names)}")
    try:
        if options.draw:
            _draw(options.draw, options.output or options.draw.parent)
            return 0
        if options.name and not (options.json or options.output):
            _one(options.name, options.arguments, quick=options.quick, rows=options.rows)
            return 0
        return 0 if _several(options, names) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except ContestantError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{parser.prog}: error: {error.filename} cannot be read or written ({error.strerror})", file=sys.stderr)
        return 1
    except (KeyError, ValueError) as error:
        if not options.draw:
            raise
        print(f"{parser.prog}: error: {options.draw} is no file of figures ({error!r})", file=sys.stderr)
        return 1


def _one(name: str, arguments: Sequence[str], *, quick: bool, rows: Path | None) -> None:
    if rows is None:
        print(f"load before the run: {load():.2f} on {machine()['cores']} cores", file=sys.stderr)
    benchmark = importlib.import_module(f"tests.benchmarks.{name}")
    benchmark.run([*(benchmark.QUICK if quick else ()), *arguments], Record(rows))


def _several(options: argparse.Namespace, names: Sequence[str]) -> bool:
    """Measure one by name or all that can run here, and write the JSON; whether all of it succeeded."""
    chosen = [options.name] if options.name else [*FIRST, *(name for name in names if name not in FIRST)]
    if not options.name and not _has_gpu():
        print("without gpu: torch finds no CUDA device")
        chosen.remove("gpu")
    quick = ["--quick"] if options.quick else []
    command = [sys.executable, "-m", "tests.benchmarks", *quick, "--rows", ROWS]
    folder: Path | None = options.output or (None if options.name else OUTPUT)
    path: Path = options.json or (folder or OUTPUT) / f"{options.name or 'benchmarks'}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return measure({name: [*command, name, *options.arguments] for name in chosen}, path, quick=options.quick)
    finally:
        if folder and path.exists():
            _draw(path, folder)
        print(f"figures: {path}", file=sys.stderr)


def _draw(path: Path, folder: Path) -> None:
    """Draw the pictures of a JSON into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in pictures(json.loads(path.read_text(encoding="utf-8"))).items():
        write_file(folder / name, svg)
        print(f"picture: {folder / name}", file=sys.stderr)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
