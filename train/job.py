"""Jobs: training runs as processes of their own; started, watched, paused, finished and resumed from outside.

A job is `python -m train`, exactly as by hand. It writes its folder and belongs to nobody: whoever started it may end,
and whoever comes later finds it by its folder. `python -m train.job` does what the page does.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gpt.errors import ConfigError, GPTError, TrainingError
from train.control import FINISH_FILE, PAUSE_FILE, YIELD_FILE, YIELD_S, ask
from train.folder import is_training
from train.report import RunReport, list_runs, read_report

ROOT = Path(__file__).resolve().parent.parent
# Threads that wait for each other spin this often before they sleep. The runtime's own number is 300 times as large: it
# is an eighth faster on idle cores, and many times slower as soon as another process wants one of them.
ENVIRONMENT = {"GOMP_SPINCOUNT": "1000"}
NAME = re.compile(r"[\w-][\w .-]{0,63}")
ERROR = "error: "


@dataclass(frozen=True)
class _Process:
    """A job that this process started, and what it writes on standard error."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def last_words(self) -> str:
        """The last line of the log."""
        descriptor = self.log.fileno()
        size = os.fstat(descriptor).st_size
        text = os.pread(descriptor, 4000, max(0, size - 4000)).decode("utf-8", "replace")
        last = text.strip().splitlines()[-1:] or ["its process was killed"]
        return last[0].partition(ERROR)[2] or last[0]


class Jobs:
    """The runs in one folder.

    Args:
        root: the folder of the runs' folders.
        device: what the runs that are started here compute on, as `--device` takes it.
        environment: of the processes.
    """

    def __init__(self, root: Path, device: str, environment: Mapping[str, str]) -> None:
        self.root = root
        self.device = device
        self._environment = {**environment, **ENVIRONMENT}
        self._started: dict[str, _Process] = {}
        self._appeared: set[str] = set()  # names of runs that were seen to have a folder
        self._lock = threading.Lock()  # between the look for a run under way and the start of another

    def names(self) -> list[str]:
        """The runs there are, the last one that did something first; one that is only starting before them."""
        found = list_runs(self.root)
        self._appeared.update(found)
        # Without a folder a run is starting, or failed before it had one; or it had one, and was deleted.
        nameless = [name for name in self._started if name not in self._appeared]
        return nameless + found

    def report(self, name: str) -> RunReport:
        """How the run stands."""
        started = self._started.get(name)
        report = read_report(self.root / name)
        if started is not None and report.status is not None:
            self._appeared.add(name)
        if started is None:
            return report
        alive = started.process.poll() is None
        spoken = report.status is not None and report.status.pid == started.process.pid
        if alive and not spoken:
            # It has just begun, or goes on with a run that had ended.
            return RunReport(**{**vars(report), "state": "starting", "message": ""})
        if not alive and report.status is None and not is_training(self.root / name):
            return RunReport(name, "failed", f"The run could not begin: {started.last_words()}.")
        if not alive and not spoken and started.process.returncode:
            # A resumed run that failed before it wrote anything: what it was is still what it is.
            words = f"The run could not go on: {started.last_words()}."
            return RunReport(**{**vars(report), "message": words})
        return report

    def active(self) -> list[str]:
        """The runs that a process works on now."""
        return [name for name in self.names() if self.report(name).is_active]

    def free_name(self, wish: str) -> str:
        """`wish`, or the first name with a number behind it, after its own, that no file or folder has."""
        numbered = re.fullmatch(r"(.+)-(\d{1,9})", wish)
        stem, number = (numbered[1], int(numbered[2])) if numbered else (wish, 1)
        name = wish
        while (self.root / name).exists() or name in self.names():
            number += 1
            name = f"{stem}-{number}"
        return name

    def start(self, name: str, options: Sequence[str]) -> None:
        """Begin a run in the folder `name` with the options of `python -m train`.

        Raises:
            ConfigError: the name is none for a folder.
            TrainingError: another run is under way on the device, or the folder is there already.
        """
        if not NAME.fullmatch(name) or name.endswith((" ", ".")):
            raise ConfigError(
                f"the run's name is {name!r}; give 1 to 64 letters, digits, spaces, dots, dashes or underscores, "
                "beginning with a letter or a digit"
            )
        with self._lock:
            self._check_idle()
            if (self.root / name).exists():
                raise TrainingError(f"there is already a folder {name}; choose another name for the run")
            self._launch(name, options)

    def resume(self, name: str) -> None:
        """Let a run that has ended go on from its saved state; TrainingError if it cannot."""
        with self._lock:
            self._check_idle()
            if not self.report(name).can_resume:
                raise TrainingError(f"the run {name} cannot go on: no step is left, or nothing was saved")
            self._launch(name, ["--resume"])

    def pause(self, name: str) -> None:
        """Ask a run to save and end; TrainingError if it is not under way."""
        self._ask(name, PAUSE_FILE)

    def finish(self, name: str) -> None:
        """Ask a run to end here, with its best scored and carded; TrainingError if it is not under way."""
        self._ask(name, FINISH_FILE)

    def yield_cores(self) -> None:
        """Ask the runs under way to leave all cores but one to others for the next YIELD_S seconds."""
        for name in list_runs(self.root):
            if is_training(self.root / name):
                ask(self.root / name, YIELD_FILE)

    def close(self) -> None:
        """Let go of the runs that were started here: they go on, and are found by their folders."""
        for started in self._started.values():
            started.log.close()
            if started.process.poll() is None:
                started.process.returncode = 0  # it is not waited for, and Python need not warn of that
        self._started.clear()

    def _ask(self, name: str, what: str) -> None:
        if not self.report(name).is_active:
            raise TrainingError(f"the run {name} is not under way")
        if not is_training(self.root / name):
            raise TrainingError(f"the run {name} is still starting; try again in a few seconds")
        try:
            ask(self.root / name, what)
        except OSError as error:
            raise TrainingError(
                f"the run {name} cannot be asked: {self.root / name} cannot be written ({error.strerror})"
            ) from error

    def _check_idle(self) -> None:
        for name in self.active():
            status = self.report(name).status
            if status is None or status.device == self.device:
                raise TrainingError(
                    f"the run {name} is under way on {self.device}, and one at a time is enough for it; "
                    "pause or stop that one first, or wait for its end"
                )

    def _launch(self, name: str, options: Sequence[str]) -> None:
        command = [sys.executable, "-m", "train", *options, "--out", str(self.root / name), "--device", self.device]
        log = tempfile.TemporaryFile("ab+")  # noqa: SIM115 (it lives as long as the job is watched)
        try:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # no Ctrl-C meant for others, and no end together with them
            )
        except OSError as error:
            log.close()
            raise TrainingError(f"python -m train cannot be started ({error.strerror})") from error
        if (before := self._started.get(name)) is not None:
            before.process.wait()
            before.log.close()
        self._started[name] = _Process(process, log)


def yield_while(is_busy: Callable[[], bool], jobs: Jobs, closing: threading.Event) -> None:
    """Let runs leave cores free while `is_busy`, until `closing`; for a thread of its own."""
    asked_at = 0.0
    while not closing.wait(0.1):
        if is_busy() and time.monotonic() - asked_at > YIELD_S / 3:
            asked_at = time.monotonic()
            try:
                jobs.yield_cores()
            except OSError:
                continue  # a full or a read-only disk; the run is only slower to give way


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.job",
        description="Training runs as processes of their own: what the page's Train tab does, as a command.",
    )
    parser.add_argument("--root", type=Path, default=ROOT / "checkpoints", help="folder of the runs (%(default)s)")
    parser.add_argument("--device", default="cpu", help="what a run that is started computes on (%(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the runs, the last one that did something first")
    start = commands.add_parser("start", help="begin a run in the background")
    start.add_argument("name", help="of its folder")
    start.add_argument("options", nargs=argparse.REMAINDER, help="options of python -m train")
    for name, words in (
        ("show", "how a run stands"),
        ("pause", "save and end; resume goes on"),
        ("finish", "end here: score the best, and write its card"),
        ("resume", "go on with a run that has ended"),
    ):
        commands.add_parser(name, help=words).add_argument("name", help="of the run")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Do what the arguments say; give the exit code: 0, 1 after a failure and 2 after a wrong argument, in words."""
    arguments = build_parser().parse_args(argv)
    jobs = Jobs(arguments.root.resolve(), arguments.device, os.environ)
    try:
        if arguments.command == "list":
            for name in jobs.names():
                print(_line(jobs.report(name)))
        elif arguments.command == "start":
            jobs.start(arguments.name, [word for word in arguments.options if word != "--"])
        elif arguments.name not in jobs.names():
            raise ConfigError(f"there is no run {arguments.name} in {arguments.root}; python -m train.job list")
        elif arguments.command == "show":
            print(_line(report := jobs.report(arguments.name)))
            if report.message:
                print(report.message)
        else:
            {"pause": jobs.pause, "finish": jobs.finish, "resume": jobs.resume}[arguments.command](arguments.name)
    except GPTError as error:
        print(f"python -m train.job: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    finally:
        jobs.close()
    return 0


def _line(report: RunReport) -> str:
    steps = report.config.max_steps if report.config else 0
    losses = [line["val_loss"] for line in report.metrics if "val_loss" in line]
    best = ""
    if losses and report.status is not None:
        best = f", best {min(losses) * report.status.tokens_per_character:.3f} nats per character"
    return f"{report.name}: {report.state}, step {report.step:,} of {steps:,}{best}"


if __name__ == "__main__":
    sys.exit(main())
