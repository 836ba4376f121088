"""python -m train.distil: some models that differ by their seed, and one of their size that learns from them all.

Models that differ by a seed err in different ways, so that the mean of their probabilities is better than any of them;
and a single model can learn that mean. It then needs their room and their time no more. See train/teachers.py.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from gpt.errors import ConfigError, GPTError, TrainingError
from train.stop import StopRequest

# What this command chooses itself.
OWN = {"teachers": "they are trained here; --count says how many", "init": "its models begin with random weights"}


def build_parser() -> argparse.ArgumentParser:
    """The command line; what it does not know is the trainer's."""
    parser = argparse.ArgumentParser(
        prog="python -m train.distil",
        description="Train some models that differ by their seed, the teachers, one after the other; then one more, "
        "the student, from the text and from the mean of the teachers' probabilities. The same command goes on after "
        "Ctrl-C, a kill or a failure: what is finished is not run again.",
        epilog="all other options are settings of python -m train, for the teachers and for the student; "
        "--teacher-weight is for the student alone. The student is in OUT/student-seedN/best.",
        allow_abbrev=False,
    )
    parser.add_argument("--preset", default="best", help="the settings to begin with (default: best)")
    parser.add_argument("--count", type=int, default=3, metavar="N", help="of the teachers (default: 3)")
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="of the first teacher; the others and the student have the next (default: 1)",
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the runs and of results.jsonl (default: runs/distil-PRESET)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--threads", type=int, help="threads on a CPU (default: one a core)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train teachers and student, and print the table of their figures on standard output; give the exit code.

    Returns:
        0; 1 after a failure and 2 after a wrong argument, in words on standard error; 130 after Ctrl-C or SIGTERM.
    """
    arguments, settings = build_parser().parse_known_args(argv)
    stop = StopRequest(tells=True)
    try:
        with stop.listening():
            return _distil(arguments, settings, stop)
    except ConfigError as error:
        code, message = 2, str(error)
    except GPTError as error:
        code, message = 1, str(error)
    except OSError as error:
        code, message = 1, f"{error.filename or 'a file'} cannot be read or written ({error.strerror or error})"
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return 130
    print(f"python -m train.distil: error: {message}", file=sys.stderr)
    return code


def _distil(arguments: argparse.Namespace, settings: list[str], stop: StopRequest) -> int:
    import train.__main__ as trainer
    from gpt.atomic import hold
    from train.folder import BEST_FOLDER
    from train.hub_name import is_hub_name
    from train.presets import PRESETS
    from train.sweep.plan import SweepPlan
    from train.sweep.rows import SweepRow
    from train.sweep.sweep import Sweep
    from train.sweep.table import markdown_table

    count, seed = arguments.count, arguments.seed
    if arguments.preset not in PRESETS:
        raise ConfigError(f"preset is {arguments.preset!r}; choose one of {', '.join(PRESETS)}")
    if count < 1:
        raise ConfigError(f"count is {count}; give a number of teachers, at least 1")
    if not 0 <= seed < 2**31 - count:
        raise ConfigError(f"seed is {seed}; give a number from 0 to {2**31 - 1 - count}")
    if arguments.threads is not None and arguments.threads < 1:
        raise ConfigError(f"threads is {arguments.threads}; give a number at least 1")
    changed = trainer.overrides(trainer.build_parser().parse_args(settings))
    preset = PRESETS[arguments.preset].config
    for name, why in OWN.items():
        if name in changed or getattr(preset, name):
            raise ConfigError(f"{name} cannot be chosen for a distillation: {why}; leave it out")
    weight = changed.pop("teacher_weight", preset.teacher_weight)
    config = preset.with_changes(**changed)
    if is_hub_name(config.data):
        raise ConfigError(f"data is {config.data!r}; a distillation learns shakespeare, sonnets or a text file")
    out = arguments.out or Path("runs") / f"distil-{arguments.preset}"
    out.mkdir(parents=True, exist_ok=True)
    machine = ["--device", arguments.device]
    if arguments.threads:
        machine += ["--threads", str(arguments.threads)]
    seeds = range(seed, seed + count)
    folders = [str(out / f"teacher-seed{number}" / BEST_FOLDER) for number in seeds]
    if commas := [folder for folder in folders if "," in folder]:
        raise ConfigError(f"out is {out}, but the folder of a teacher ({commas[0]}) can have no comma; give another")
    taught = config.with_changes(teachers=",".join(folders), teacher_weight=weight)
    options = {"teachers": f"{count} of other seeds", "teacher_weight": weight}
    rows = [(SweepRow("teacher", {}, config), seeds), (SweepRow("student", options, taught), [seed + count])]
    try:
        with hold(out):
            plan = SweepPlan.open(out, 0.0, False)
            for row, row_seeds in rows:
                sweep = Sweep([row], row_seeds, out, plan, machine, lambda: stop.asked)
                if failures := sweep.run():
                    raise TrainingError(f"the same command tries again what failed: {'; '.join(failures)}")
    except BlockingIOError as error:
        raise TrainingError(f"another command works in {out}; wait for its end, or give another --out") from error
    print(markdown_table(sweep.results))
    student = sweep.results[-1]
    teachers = [result for result in sweep.results if result.row == "teacher"]
    mean = math.fsum(result.sliding for result in teachers) / len(teachers)
    print(
        f"\nthe student, in {out / f'student-seed{seed + count}' / BEST_FOLDER}: sliding {student.sliding:.4f}, its "
        f"teachers {mean:.4f} at the mean",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
