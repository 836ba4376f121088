"""python -m train.vertex.worker: `python -m train` on a machine of a training job, with its run kept in the bucket.

It is what the container of a job runs. It brings back what an earlier attempt left in the bucket, fetches the text,
starts the trainer (under torchrun, if there are several processes or machines), copies the run folder to the bucket
as it grows, and leaves the finished checkpoint where the service expects a model.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Mapping
from pathlib import Path

from gpt.errors import ConfigError, GPTError, TrainingError, VertexError
from train.folder import BEST_FOLDER

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 1.0
LOG_INTERVAL_S = 10.0
LAST_ATTEMPTS = 6


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.vertex.worker",
        description="Train on a machine of a Vertex AI job: what follows -- is handed to python -m train. "
        "python -m train.vertex.job starts it in the cloud.",
        epilog="environment, set by Vertex AI: AIP_CHECKPOINT_DIR, the gs:// address that keeps the run while it "
        "trains; AIP_MODEL_DIR, the one that gets the finished checkpoint; CLUSTER_SPEC, MASTER_ADDR and MASTER_PORT, "
        "the machines of the job. exit status: the trainer's own; 1 when the bucket fails, 2 when an argument is wrong",
        allow_abbrev=False,
    )
    parser.add_argument("--name", required=True, help="the run's")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="on this machine (default: 1)")
    parser.add_argument("--text", metavar="ADDRESS", help="gs:// address of the text to learn, for --data")
    parser.add_argument("options", nargs="*", metavar="OPTION", help="options of python -m train, after --")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train as the arguments and the environment say; the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        if arguments.processes < 1:
            raise ConfigError(f"processes is {arguments.processes}; give a number at least 1")
        with (
            tempfile.TemporaryDirectory(prefix="gpt-run-") as folder,
            contextlib.closing(Worker(arguments, os.environ, Path(folder))) as worker,
        ):
            return worker.run()
    except GPTError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1


class Worker:
    """One machine's part in a job.

    Args:
        arguments: of the command line.
        environment: the service's variables are read from it, and the trainer gets it.
        folder: to work in.

    Raises:
        ConfigError: a variable of the service is missing.
        TrainingError, VertexError: as the cluster, the backup and the bucket say.
    """

    def __init__(self, arguments: argparse.Namespace, environment: Mapping[str, str], folder: Path) -> None:
        from gpt.vertex.bucket import Storage, split
        from train.vertex.backup import RunBackup
        from train.vertex.cluster import Cluster

        self._arguments = arguments
        self._folder = folder
        self._cluster = Cluster.from_environment(environment)
        for name in ("AIP_CHECKPOINT_DIR", "AIP_MODEL_DIR"):
            split(environment.get(name, ""), name)
        self._model_address = environment["AIP_MODEL_DIR"]
        # The trainer, or torchrun, sets what the processes need to know of each other.
        own = ("CLUSTER_SPEC", "MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK")
        self._environment = {name: value for name, value in environment.items() if name not in own}
        self._environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
        self._storage = Storage()
        self._backup = RunBackup(self._storage, environment["AIP_CHECKPOINT_DIR"], folder / arguments.name)
        self._stop_signal = 0

    def close(self) -> None:
        """Let go of the bucket."""
        self._storage.close()

    def run(self) -> int:
        """Train to the end, or until SIGTERM; the trainer's exit status."""
        options = list(self._arguments.options)
        if self._arguments.text:
            # The text keeps its name, and the trainer finds it beside the run folder after every restart.
            name = self._arguments.text.rpartition("/")[2]
            self._storage.download(self._arguments.text, self._folder / name)
            options += ["--data", name]
        if resumed := self._backup.restore():
            options = resume_options(options)
        launcher = self._cluster.launcher(self._arguments.processes)
        out = self._arguments.name
        command = [sys.executable, *launcher, "-m", "train", *options, "--out", out]
        _say(
            f"machine {self._cluster.rank + 1} of {self._cluster.machines}, {self._arguments.processes} process(es) "
            f"each; {'going on with the run in the bucket' if resumed else 'a new run'}"
        )
        before = signal.signal(signal.SIGTERM, self._remember)
        try:
            with subprocess.Popen(command, cwd=self._folder, env=self._environment) as trainer:
                status = self._look_after(trainer)
        finally:
            signal.signal(signal.SIGTERM, before)
        if self._cluster.rank == 0:
            self._finish(status)
        return status

    def _look_after(self, trainer: subprocess.Popen[bytes]) -> int:
        """Copy what the trainer saves until it ends, and hand SIGTERM on to it once; its exit status."""
        log_at = retry_at = time.monotonic()
        told = False
        while trainer.poll() is None:
            if self._stop_signal and not told:
                # It saves after the step that it is in, and ends.
                told = True
                trainer.terminate()
            now = time.monotonic()
            if self._cluster.rank == 0 and now >= retry_at:
                try:
                    if self._backup.has_news():
                        self._backup.save()
                    if now >= log_at:
                        log_at = now + LOG_INTERVAL_S
                        self._backup.publish_log()
                except (VertexError, TrainingError) as error:
                    # The training goes on, and a later look tries again; the last copy decides.
                    _say(f"the run could not be copied to the bucket now: {error}")
                    retry_at = now + LOG_INTERVAL_S
            time.sleep(POLL_S)
        return trainer.returncode if trainer.returncode >= 0 else 128 - trainer.returncode

    def _finish(self, status: int) -> None:
        """Copy what happened since the last look, and, if the run is finished, its checkpoint."""
        for attempts_left in reversed(range(LAST_ATTEMPTS)):
            try:
                self._backup.save()
                self._backup.publish_log()
                if status == 0:
                    best = self._folder / self._arguments.name / BEST_FOLDER
                    self._storage.upload_folder(best, self._model_address)
                    _say(f"the checkpoint is in {self._model_address}")
                return
            except VertexError as error:
                # Hours of work may hang on it; a machine that is taken away leaves the last copy anyway.
                if not attempts_left:
                    raise
                _say(f"the run could not be copied to the bucket, and is tried again: {error}")
                time.sleep(POLL_S)

    def _remember(self, number: int, frame: types.FrameType | None) -> None:
        self._stop_signal = number


def resume_options(options: list[str]) -> list[str]:
    """Those options of `python -m train` that a resumed run takes; it has the others in its folder."""
    from train.__main__ import build_parser as train_parser

    given = train_parser().parse_args(options)
    chosen = ["--resume", "--device", given.device]
    for name in ("threads", "max_steps", "patience"):
        if (value := getattr(given, name)) is not None:
            chosen += [f"--{name.replace('_', '-')}", str(value)]
    return chosen


def _say(text: str) -> None:
    print(f"python -m train.vertex.worker: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
