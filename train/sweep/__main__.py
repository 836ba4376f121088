"""python -m train.sweep: runs repeated over settings and seeds, and the table of what they found."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from gpt.errors import ConfigError, GPTError, TrainingError
from train.stop import StopRequest

ROOT = Path(__file__).resolve().parent.parent.parent


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.sweep",
        description="Train each row of a file with each seed, and print the table of their figures. The same command "
        "goes on after Ctrl-C, a kill or a failure: what is finished is not run again.",
        epilog="the file is TOML: a table [base] with a preset, and settings of all rows in place of the preset's; and "
        "for each row a table [rows.NAME] with the settings in which it differs from the base. Settings are the "
        "options of python -m train, with underscores: see train/ingredients.toml.",
    )
    parser.add_argument("file", type=Path, nargs="?", help="the rows, as train/ingredients.toml has them")
    parser.add_argument(
        "--out", type=Path, help="folder of the runs and of results.jsonl (default: runs/NAME of the file)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], metavar="N", help="of each row (default: 1)")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows of the file; base is the first")
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="X",
        help="give each row as many steps as take this long on this machine, measured once, in place of the file's",
    )
    parser.add_argument(
        "--select",
        action="store_true",
        help="to choose settings: learn the first nine tenths of the training part and validate on its last one, so "
        "that the validation part is not looked at",
    )
    parser.add_argument(
        "--table", type=Path, metavar="RESULTS", help="only print the table of a results.jsonl; nothing is run"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--threads", type=int, help="threads on a CPU (default: one a core)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Sweep as the arguments say, and print the table on standard output; give the exit code.

    Returns:
        0; 1 after a failure, of a single run too, and 2 after a wrong argument, in words on standard error; 130 after
        Ctrl-C or SIGTERM.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if (arguments.file is None) == (arguments.table is None):
        parser.error("give the file of the rows, or --table and the file of the results")
    stop = StopRequest(tells=True)
    try:
        if arguments.table is not None:
            return _table(arguments.table)
        with stop.listening():
            return _sweep(arguments, stop)
    except ConfigError as error:
        code, message = 2, str(error)
    except GPTError as error:
        code, message = 1, str(error)
    except OSError as error:
        code, message = 1, f"{error.filename or 'a file'} cannot be read or written ({error.strerror or error})"
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return 130
    print(f"python -m train.sweep: error: {message}", file=sys.stderr)
    return code


def _table(path: Path) -> int:
    from train.sweep.results import read_results
    from train.sweep.table import markdown_table

    if not path.is_file():
        raise TrainingError(f"there are no results in {path}; name the results.jsonl of a sweep")
    print(markdown_table(read_results(path)))
    return 0


def _sweep(arguments: argparse.Namespace, stop: StopRequest) -> int:
    from gpt.atomic import hold
    from train.presets import PRESETS
    from train.sweep.plan import SweepPlan
    from train.sweep.rows import read_rows
    from train.sweep.selection import selecting
    from train.sweep.sweep import Sweep
    from train.sweep.table import markdown_table

    budget_s = arguments.seconds or 0.0
    if arguments.seconds is not None and not (budget_s > 0 and math.isfinite(budget_s)):
        raise ConfigError(f"seconds is {arguments.seconds}; give a number above 0")
    if arguments.threads is not None and arguments.threads < 1:
        raise ConfigError(f"threads is {arguments.threads}; give a number at least 1")
    if wrong := [seed for seed in arguments.seeds if not 0 <= seed < 2**31]:
        raise ConfigError(f"seeds has {wrong[0]}; give numbers from 0 to {2**31 - 1}")
    rows = read_rows(arguments.file)
    if unknown := sorted(set(arguments.rows or ()) - {row.name for row in rows}):
        raise ConfigError(f"rows has {unknown[0]!r}; choose among {', '.join(row.name for row in rows)}")
    if budget_s:
        usual = PRESETS[rows[0].config.preset].config.max_steps
        if own := [row.name for row in rows if row.config.max_steps != usual]:
            raise ConfigError(
                f"{arguments.file} gives {own[0]} its max_steps, which --seconds chooses; leave one of the two out"
            )
    out = arguments.out or Path("runs") / arguments.file.stem
    out.mkdir(parents=True, exist_ok=True)
    try:
        with hold(out):
            plan = SweepPlan.open(out, budget_s, arguments.select)
            rows = [row for row in rows if arguments.rows is None or row.name in arguments.rows]
            if arguments.select:
                rows = selecting(rows, ROOT / "data", out)
            machine = ["--device", arguments.device]
            if arguments.threads:
                machine += ["--threads", str(arguments.threads)]
            sweep = Sweep(rows, list(dict.fromkeys(arguments.seeds)), out, plan, machine, lambda: stop.asked)
            failures = sweep.run()
    except BlockingIOError as error:
        raise TrainingError(f"another sweep works in {out}; wait for its end, or give another --out") from error
    if sweep.results:
        print(markdown_table(sweep.results))
    if failures:
        count = f"{len(failures)} runs" if len(failures) > 1 else "a run"
        raise TrainingError(f"{count} failed, and the same command tries again: {'; '.join(failures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
