"""python -m train.distil: some models that differ by their seed, and one of their size that learns from them all.

Models that differ by a seed err in different ways, so that the mean of their probabilities is better than they are on
average; and a single model can learn that mean. It then needs their room and their time no more. See train/teachers.py.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from gpt.errors import ConfigError, GPTError, TrainingError
from train.__main__ import add_settings, overrides
from train.config import TrainConfig
from train.hub_name import is_hub_name
from train.presets import PRESETS
from train.stop import StopRequest

# What this command chooses itself.
OWN = {"teachers": "they are trained here; --count says how many", "init": "its models begin with random weights"}


def build_parser() -> argparse.ArgumentParser:
    """The command line: its own options, then the settings of both teachers and student."""
    parser = argparse.ArgumentParser(
        prog="python -m train.distil",
        description="Train some models that differ by their seed, the teachers, one after the other; then one more, "
        "the student, from the text and from the mean of the teachers' probabilities. The same command goes on after "
        "Ctrl-C, a kill or a failure: what is finished is not run again.",
        epilog="settings are those of python -m train, of the teachers and of the student, but for --teacher-weight, "
        "which is the student's; --seed is the first teacher's, and the others and the student have the next. The "
        "student is in OUT/student-seedN/best.",
        allow_abbrev=False,
    )
    parser.add_argument("--preset", default="best", help="the settings to begin with (default: best)")
    parser.add_argument("--count", type=int, default=3, metavar="N", help="of the teachers (default: 3)")
    parser.add_argument(
        "--out", type=Path, help="folder of the runs and of results.jsonl (default: runs/distil-PRESET)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--threads", type=int, help="threads on a CPU (default: one a core)")
    add_settings(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train teachers and student, and print their figures on standard output; give the exit code.

    Returns:
        0; 1 after a failure and 2 after a wrong argument, in words on standard error; 130 after Ctrl-C or SIGTERM.
    """
    arguments = build_parser().parse_args(argv)
    stop = StopRequest(tells=True)
    try:
        with stop.listening():
            return _distil(arguments, stop)
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


def _distil(arguments: argparse.Namespace, stop: StopRequest) -> int:
    from gpt.atomic import hold
    from train.folder import BEST_FOLDER
    from train.sweep.plan import SweepPlan
    from train.sweep.rows import SweepRow
    from train.sweep.sweep import Sweep

    count, config = arguments.count, _settings(arguments)
    seeds = range(config.seed, config.seed + count)
    out = arguments.out or Path("runs") / f"distil-{arguments.preset}"
    machine = ["--device", arguments.device]
    if arguments.threads:
        machine += ["--threads", str(arguments.threads)]
    folders = [str(out / f"teacher-seed{seed}" / BEST_FOLDER) for seed in seeds]
    if commas := [folder for folder in folders if "," in folder]:
        raise ConfigError(f"out is {out}, but the folder of a teacher ({commas[0]}) can have no comma; give another")
    usual = config.with_changes(teacher_weight=PRESETS[arguments.preset].config.teacher_weight)
    taught = config.with_changes(teachers=",".join(folders))
    options = {"teachers": taught.teachers, "teacher_weight": taught.teacher_weight}
    rows = [(SweepRow("teacher", {}, usual), seeds), (SweepRow("student", options, taught), [seeds.stop])]
    out.mkdir(parents=True, exist_ok=True)
    try:
        with hold(out):
            plan = SweepPlan.open(out, 0.0, False)

            def sweep(row: SweepRow, row_seeds: Sequence[int]) -> Sweep:
                return Sweep([row], row_seeds, out, plan, machine, lambda: stop.asked)

            try:
                for row, row_seeds in rows:
                    sweep(row, row_seeds)  # a student that does not fit is told before its teachers are trained
            except ConfigError as error:
                raise ConfigError(
                    f"{out} has a distillation of other settings; give the --count, --seed and settings that it began "
                    f"with, or another --out: {error}"
                ) from error
            for row, row_seeds in rows:
                running = sweep(row, row_seeds)
                if failures := running.run():
                    raise TrainingError(f"the same command tries again what failed: {'; '.join(failures)}")
    except BlockingIOError as error:
        raise TrainingError(f"another command works in {out}; wait for its end, or give another --out") from error
    found = {(result.row, result.seed): result for result in running.results}
    teachers = [found["teacher", seed] for seed in seeds]
    student = found["student", seeds.stop]
    for result in [*teachers, student]:
        print(f"{result.row}, seed {result.seed}: block {result.block:.4f}, sliding {result.sliding:.4f}")
    means = [statistics.fmean(getattr(result, name) for result in teachers) for name in ("block", "sliding")]
    print(
        f"the student, in {out / f'student-seed{seeds.stop}' / BEST_FOLDER}, differs from its teachers' mean by "
        f"{student.block - means[0]:+.4f} (block) and {student.sliding - means[1]:+.4f} (sliding) nats per character"
    )
    return 0


def _settings(arguments: argparse.Namespace) -> TrainConfig:
    """The student's settings, with the seed of the first teacher."""
    if arguments.preset not in PRESETS:
        raise ConfigError(f"preset is {arguments.preset!r}; choose one of {', '.join(PRESETS)}")
    if arguments.count < 1:
        raise ConfigError(f"count is {arguments.count}; give a number of teachers, at least 1")
    if arguments.threads is not None and arguments.threads < 1:
        raise ConfigError(f"threads is {arguments.threads}; give a number at least 1")
    changed, preset = overrides(arguments), PRESETS[arguments.preset].config
    for name, why in OWN.items():
        if name in changed or getattr(preset, name):
            raise ConfigError(f"{name} cannot be chosen for a distillation: {why}; leave it out")
    config = preset.with_changes(**changed)
    if config.seed + arguments.count >= 2**31:
        raise ConfigError(f"seed is {config.seed}; give a number up to {2**31 - 1 - arguments.count}")
    if is_hub_name(config.data):
        raise ConfigError(f"data is {config.data!r}; a distillation learns shakespeare, sonnets or a text file")
    return config


if __name__ == "__main__":
    sys.exit(main())
