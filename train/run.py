"""Run: a training run, from the corpus to the finished checkpoint."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from gpt.checkpoint import load_checkpoint, save_checkpoint
from gpt.errors import TrainingError
from gpt.model import GPT
from gpt.record import TrainingRecord
from gpt.tokenizer import Tokenizer
from train.base import take_weights
from train.card import model_card
from train.config import TrainConfig
from train.control import FINISH_FILE, PAUSE_FILE, forget, is_asked, is_yielding
from train.distributed import ProcessGroup
from train.encoding import fresh_tokenizer, known_prompt
from train.folder import BEST_FOLDER, RunFolder, check_unused, read_run_config
from train.machine import machine_name
from train.metrics import window_nats
from train.run_text import read_run_text
from train.sample import sample
from train.state import has_state, read_state, read_tokenizer
from train.status import RunStatus, read_status
from train.teachers import Teachers
from train.trainer import Evaluation, Trainer
from train.utilisation import utilisation


class _StopAsked(Exception):
    """A stop was asked for while the finished run was scored."""


class Run:
    """A run in its folder.

    Args:
        config: its settings.
        out: its folder.
        resume: go on from the folder's state, or anew if it was killed before the first; else begin in a new folder.
        data_root: the folder of the named corpora.
        checkpoints_root: where GPT-2's vocabulary is looked for first.
        tiktoken_cache: where it is looked for next; see GPT2Tokenizer.fetch.
        device: to train on.
        processes: those that train together.
        command: the command line, for the record.

    Attributes:
        resumed: whether it goes on from a saved state.
        trainer: what trains.

    Raises:
        TrainingError: the folder holds a run already, or one that cannot be resumed, or cannot be written.
        CorpusError, TokenizerError, ConfigError: as their parts say.
    """

    def __init__(
        self,
        config: TrainConfig,
        out: Path,
        *,
        resume: bool,
        data_root: Path,
        checkpoints_root: Path,
        tiktoken_cache: str | None,
        device: torch.device,
        processes: ProcessGroup,
        command: str,
    ) -> None:
        self.config = config
        self.out = out
        self._processes = processes
        self._command = command
        self.resumed = resume and has_state(out)
        if processes.is_main and not resume:
            check_unused(out)
        elif processes.is_main and not self.resumed and (out / BEST_FOLDER).exists():
            # There was a state before it; to begin anew would replace the best.
            raise TrainingError(
                f"the run in {out} cannot be resumed: its state is gone, and only its best checkpoint is left; "
                "begin anew in another folder"
            )
        base = load_checkpoint(config.init) if config.init and not self.resumed else None

        def choose_tokenizer(read_train_text: Callable[[], str], alphabet: str) -> Tokenizer:
            if self.resumed:
                return read_tokenizer(out)
            if base is not None:
                return base.tokenizer
            fitted_on = "" if config.tokenizer == "gpt2" else read_train_text()
            return fresh_tokenizer(config, fitted_on, alphabet, checkpoints_root, tiktoken_cache)

        self._text = read_run_text(config, data_root, choose_tokenizer)
        self.tokenizer = self._text.tokenizer
        self._validation_tokens = self._text.validation_tokens
        self._prompt = known_prompt(self.tokenizer, config.sample_prompt, self._text.first_character)
        torch.manual_seed(config.seed)
        model = GPT.from_config(config.model_config(self.tokenizer.vocab_dim))
        if base is not None:
            take_weights(model, base, config.init)
        model.to(device)
        torch.manual_seed(config.seed + processes.rank)  # the same weights everywhere, but dropout of its own
        if len(self._validation_tokens) <= config.sequence_dim:
            raise TrainingError(
                f"the validation part has {len(self._validation_tokens) - 1} tokens, fewer than sequence_dim = "
                f"{config.sequence_dim}; give a longer text, a smaller --sequence-dim or a smaller --train-fraction"
            )
        teachers = None
        if config.teachers:
            teachers = Teachers.load(config.teachers, self.tokenizer, config.sequence_dim, device)
        taught_by = teachers.sha256 if teachers else ""
        self.trainer = Trainer(
            config, model, self.tokenizer, self._text.train_tokens, self._validation_tokens, out, processes, teachers
        )
        if self.resumed:
            self._resume(command, taught_by)
        else:
            self.trainer.state.command, self.trainer.state.corpus_sha256 = command, self._text.sha256
            self.trainer.state.teachers_sha256 = taught_by
        self._status = RunStatus(
            state="training",
            pid=os.getpid(),
            command=self.trainer.state.command,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            device=str(device),
            threads=torch.get_num_threads() if device.type == "cpu" else 0,
            corpus=self._text.name,
            corpus_characters=self._text.characters,
            tokens_per_character=(len(self._validation_tokens) - 1) / self._text.validation_characters,
            parameters=model.num_parameters(),
            vocab_dim=self.tokenizer.vocab_dim,
            tokens_per_step=self.trainer.tokens_per_step,
        )
        # Only the main process writes, after the others looked at the folder: they meet in the first step.
        # What belongs to step 0 stands before the first state that is saved, and is made again.
        kept = self.trainer.state.step or -1
        self._folder = RunFolder(out, config, kept) if processes.is_main else None

    def _resume(self, command: str, taught_by: str) -> None:
        """Go on from the folder's state; the record then has every command that made the run."""
        saved = read_state(self.out)
        if saved.corpus_sha256 not in ("", self._text.sha256):
            raise TrainingError(
                f"the corpus {self.config.data} is not the text that the run in {self.out} began with; "
                "put that text back, or begin anew in another folder"
            )
        if saved.teachers_sha256 != taught_by:
            raise TrainingError(
                f"the teachers {self.config.teachers or '(none)'} have not the weights with which the run in "
                f"{self.out} began; put those back, or begin anew in another folder"
            )
        self.trainer.resume()
        state = self.trainer.state
        state.corpus_sha256 = self._text.sha256
        if not state.command:
            state.command = command
        elif read_run_config(self.out) != self.config:
            state.command += f" && {command}"

    def fail(self, message: str) -> None:
        """Leave word of why the run ended, for those who watch it from outside."""
        self._tell_status("failed", message=message)
        if self._folder is not None:
            with contextlib.suppress(TrainingError):  # a full disk, perhaps; the message itself is on its way
                self._folder.log(f"failed: {message}")

    def close(self) -> None:
        """Let other processes train in the folder."""
        if self._folder is not None:
            forget(self.out)
            self._folder.close()

    def execute(
        self, *, on_step: Callable[[int, float], None], show: Callable[[str], None], should_stop: Callable[[], bool]
    ) -> str:
        """Train, evaluate and keep the best; at the end score it on the whole validation text and write its card.

        Args:
            on_step: told each step and its loss, NaN where it was not looked at.
            show: given what a person should read: evaluations and samples.
            should_stop: asked in every step.

        Returns:
            "finished", "early stop" or "stopped".
        """
        self._show = show
        started, first = time.perf_counter(), self.trainer.state.step

        def asked_to_stop() -> bool:
            self._make_room()
            return should_stop() or is_asked(self.out, PAUSE_FILE)

        def step_made(step: int, loss: float) -> None:
            on_step(step, loss)
            if self._folder is not None and not math.isnan(loss):
                speed = (step - first) * self.trainer.tokens_per_step / (time.perf_counter() - started)
                metrics = {
                    "step": step,
                    "seconds": round(self.trainer.state.seconds, 2),
                    "tokens": self.trainer.state.tokens,
                    "train_loss": loss,
                    "tokens_per_second": round(speed, 1),
                }
                if (used := self.utilisation(speed)) is not None:
                    metrics["utilisation"] = round(used, 4)
                self._folder.add_metrics(metrics)

        if self._folder is not None:
            self._tell_status("training")
            self._folder.log(f"from step {first} of {self.config.max_steps}: {self._command}")
            self._ladder = self._count_ngrams()
            self._tell_status("training", ngrams=self._ladder)
            if first == 0 and self.config.sample_tokens:  # what it writes before it has learnt anything
                self._folder.add_sample(0, self._sample(self.config.sample_tokens))
        outcome = self.trainer.run(
            on_step=step_made,
            on_evaluation=self._evaluated,
            should_stop=asked_to_stop,
            should_finish=lambda: is_asked(self.out, FINISH_FILE),
        )
        if self._folder is not None:
            try:
                if outcome != "stopped":
                    self._finish(asked_to_stop)
            except _StopAsked:
                outcome = "stopped"
            self._folder.log(f"{outcome} at step {self.trainer.state.step}")
            self._tell_status("paused" if outcome == "stopped" else "finished")
        self._processes.barrier()
        return outcome

    def utilisation(self, speed: float) -> float | None:
        """The part of its GPUs' peak that so many tokens a second use; None on a CPU or an unknown GPU."""
        return utilisation(self.trainer.model, self.trainer.precision, speed / self._processes.world_size)

    def _count_ngrams(self) -> list[float]:
        """The ladder that the run is measured by."""
        saved = read_status(self.out) if self.resumed else None
        return (saved and saved.ngrams) or self._text.count_ngrams()

    def _make_room(self) -> None:
        """Leave the other cores free while somebody asks for that, and take them back afterwards."""
        if self.trainer.device.type == "cpu" and self._processes.world_size == 1:
            threads = 1 if is_yielding(self.out) else self.trainer.state.threads
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)

    def _tell_status(self, state: str, **changes: Any) -> None:
        self._status = replace(self._status, state=state, **changes)
        if self._folder is not None:
            self._folder.set_status(self._status)

    def _tell(self, text: str) -> None:
        self._show(text)
        assert self._folder is not None
        self._folder.log(text)

    def _evaluated(self, evaluation: Evaluation) -> None:
        per_character = evaluation.val_loss * (len(self._validation_tokens) - 1) / self._text.validation_characters
        assert self._folder is not None
        self._folder.add_metrics(
            {
                "step": evaluation.step,
                "seconds": round(self.trainer.state.seconds, 2),
                "train_loss": evaluation.train_loss,
                "val_loss": evaluation.val_loss,
            }
        )
        self._tell(
            f"step {evaluation.step}: training loss {evaluation.train_loss:.4f}, "
            f"validation loss {evaluation.val_loss:.4f} nats per token "
            f"(about {per_character:.3f} per character){', the best so far' if evaluation.is_best else ''}"
        )
        if self.config.sample_tokens:
            text = self._sample(self.config.sample_tokens)
            self._folder.add_sample(evaluation.step, text)
            self._tell(text.strip("\n"))
        if evaluation.is_best:
            self._save_best(self._record())

    def _sample(self, tokens: int) -> str:
        return sample(self.trainer.model, self.tokenizer, self._prompt, tokens, seed=self.config.seed)

    def _save_best(self, record: TrainingRecord, card: str | None = None) -> None:
        dtype = getattr(torch, self.config.checkpoint_dtype)
        save_checkpoint(self.out / BEST_FOLDER, self.trainer.model, self.tokenizer, record, dtype=dtype, card=card)

    def _record(self) -> TrainingRecord:
        state = self.trainer.state
        return TrainingRecord(
            preset=self.config.preset,
            command=state.command,
            corpus=self._text.name,
            corpus_sha256=self._text.sha256,
            corpus_characters=self._text.characters,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine_name(self.trainer.device),
            torch_version=torch.__version__,
            steps=state.step,
            tokens=state.tokens,
            seconds=round(state.seconds, 1),
            seed=self.config.seed,
            curve=state.curve,
            best_step=state.best_step,
        )

    def _finish(self, should_stop: Callable[[], bool]) -> None:
        """Score the best checkpoint as it is stored, and write it again with its figures and its card."""
        told_at = 0.0

        def progress(done: int, count: int) -> None:
            nonlocal told_at
            if should_stop():
                raise _StopAsked
            if time.monotonic() - told_at > 1:
                told_at = time.monotonic()
                self._tell_status("scoring", scored=round(done / count, 3))

        self._tell_status("scoring")
        best = load_checkpoint(self.out / BEST_FOLDER, self.trainer.device)
        self.trainer.model.load_state_dict(best.model.state_dict())
        model = self.trainer.model.eval()
        context, characters = self.config.sequence_dim, self._text.validation_characters
        figures = {
            name: round(window_nats(model, self._validation_tokens, stride, progress=progress) / characters, 4)
            for name, stride in (("block", context), ("sliding", context // 2))
        }
        record = replace(self._record(), nats_per_character=figures)
        ladder, sample_text = self._ladder, self._sample(300)
        settings = replace(self.config, precision=self.trainer.precision)
        card = model_card(self.out.name, model.config, settings, record, model.num_parameters(), ladder, sample_text)
        self._save_best(record, card)
        self._tell_status("scoring", nats_per_character=figures)
        self._tell(
            f"the best checkpoint, of step {record.best_step}, is in {self.out / BEST_FOLDER}: "
            f"block {figures['block']:.4f}, sliding {figures['sliding']:.4f} nats per character "
            "on the whole validation split"
        )
        if ladder:
            self._tell(f"n-grams of order 1 to {len(ladder)}: {', '.join(f'{value:.3f}' for value in ladder)}")
