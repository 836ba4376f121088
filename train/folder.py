"""RunFolder: what a run leaves behind, so that it can be watched while it trains and taken up after any end.

config.json     the settings
status.json     where it stands, and facts about it: see RunStatus
metrics.jsonl   an object a line: step, and seconds, tokens, train_loss, val_loss where known
samples.jsonl   an object a line: step, and the text that the model wrote then
train.log       what happened, with times, and the samples
state/          the last complete state, to resume from
best/           the checkpoint of the best evaluation; at the end with its figures and its card
"""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from pathlib import Path

from gpt.atomic import hold, is_held, partial_of, write_file
from gpt.errors import ConfigError, TrainingError
from train.config import TrainConfig
from train.control import forget
from train.status import STATUS_FILE, RunStatus

CONFIG_FILE, METRICS_FILE, SAMPLES_FILE, LOG_FILE = "config.json", "metrics.jsonl", "samples.jsonl", "train.log"
STATE_FOLDER, BEST_FOLDER = "state", "best"


class RunFolder:
    """A run's folder, open for writing by one process.

    Args:
        path: the folder; it is made if it is not there.
        config: the run's settings, written there.
        step: the step that the run goes on from; metrics and samples of later steps are forgotten, for they are made
            again.

    Raises:
        TrainingError: it cannot be written, or another process is training in it.
    """

    def __init__(self, path: Path, config: TrainConfig, step: int) -> None:
        self.path = path
        self._held = contextlib.ExitStack()
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._take()
            write_file(path / CONFIG_FILE, config.to_json())
            for name in (METRICS_FILE, SAMPLES_FILE):
                write_file(path / name, "".join(_lines_up_to(path / name, step)))
            forget(path)
        except OSError as error:
            self.close()
            raise TrainingError(
                f"the run folder {path} cannot be written ({error.strerror or error}); free some space, change its "
                "rights, or choose another with --out"
            ) from error
        except BaseException:
            self.close()
            raise

    def add_metrics(self, metrics: dict[str, float]) -> None:
        """Append a line to metrics.jsonl; TrainingError if it cannot be written."""
        self._append(METRICS_FILE, json.dumps(metrics))

    def add_sample(self, step: int, text: str) -> None:
        """Append a line to samples.jsonl; TrainingError if it cannot be written."""
        self._append(SAMPLES_FILE, json.dumps({"step": step, "text": text}, ensure_ascii=False))

    def set_status(self, status: RunStatus) -> None:
        """Say where the run stands. A full disk is no reason to fail here: whatever matters more fails by itself."""
        with contextlib.suppress(OSError):
            write_file(self.path / STATUS_FILE, status.to_json())

    def log(self, text: str) -> None:
        """Append a line, or several, to train.log, with the time; TrainingError if it cannot be written."""
        self._append(LOG_FILE, f"{datetime.now().isoformat(' ', 'seconds')} {text}")

    def close(self) -> None:
        """Let other processes train here."""
        self._held.close()

    def _append(self, name: str, line: str) -> None:
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise TrainingError(
                f"{self.path / name} cannot be written ({error.strerror or error}); "
                "free some space, then go on with --resume"
            ) from error

    def _take(self) -> None:
        """Lock the folder; the system unlocks it when this process ends, however it ends."""
        try:
            self._held.enter_context(hold(self.path))
        except BlockingIOError as error:
            raise TrainingError(
                f"another process is training in {self.path}; wait for its end or stop it, or choose another --out"
            ) from error


def is_training(path: Path) -> bool:
    """Whether a process trains in the run folder `path`: the system holds its lock exactly as long as it lives."""
    try:
        return is_held(path)
    except OSError:
        return False


def check_unused(path: Path) -> None:
    """Raise TrainingError unless a new run can begin at `path`: an empty folder, or none yet."""
    try:
        # A run that was killed before its first word leaves at most this.
        names = {entry.name for entry in path.iterdir()} - {partial_of(path / CONFIG_FILE).name}
    except FileNotFoundError:
        return
    except OSError as error:
        raise TrainingError(
            f"the run folder {path} cannot be used ({error.strerror or error}); choose another with --out"
        ) from error
    if names:
        raise TrainingError(f"{path} is not empty; go on with --resume, or choose another folder with --out")


def read_run_config(path: Path) -> TrainConfig:
    """The settings of the run in the folder `path`.

    Raises:
        TrainingError: there is none, or its config.json is damaged.
    """
    try:
        return TrainConfig.from_json((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(
            f"there is no run to resume in {path} ({error.strerror or error}); "
            "name its folder with --out, or begin one without --resume"
        ) from error
    except (ConfigError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"the run in {path} cannot be resumed: its {CONFIG_FILE} is not one that this version of python -m train "
            f"wrote ({error}); begin anew in another folder"
        ) from error


def _lines_up_to(path: Path, step: int) -> list[str]:
    """The lines up to `step`, without one that a full disk or a kill left half-written."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                lines.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    return lines
