"""Run: a training run, from the corpus to the finished checkpoint."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from gpt.checkpoint import load_checkpoint, save_checkpoint
from gpt.errors import TrainingError, UnknownCharacterError
from gpt.model import GPT
from gpt.record import TrainingRecord
from gpt.tokenizer import Tokenizer, build_tokenizer
from train.card import model_card
from train.config import TrainConfig
from train.corpus import load_corpus
from train.distributed import ProcessGroup
from train.folder import BEST_FOLDER, RunFolder, check_unused, read_run_config
from train.metrics import validation_tokens, window_nats
from train.ngram import ngram_ladder
from train.sample import sample
from train.state import has_state, read_state, read_tokenizer
from train.trainer import Evaluation, Trainer

# Counting n-grams of a longer text takes gigabytes.
LADDER_CHARACTERS = 5_000_000


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
        self._corpus = load_corpus(config.data, data_root, min_characters=100)
        self._train_text, self._validation_text = self._corpus.split(config.train_fraction)
        self.tokenizer: Tokenizer
        if self.resumed:
            self.tokenizer = read_tokenizer(out)
        else:
            self.tokenizer = build_tokenizer(
                config.tokenizer,
                self._train_text,
                config.vocab_dim if config.tokenizer == "bpe" else None,
                alphabet=self._corpus.text,
                checkpoints_root=checkpoints_root,
                tiktoken_cache=tiktoken_cache,
            )
        self._prompt = self._known_prompt()
        torch.manual_seed(config.seed)
        model = GPT.from_config(config.model_config(self.tokenizer.vocab_dim)).to(device)
        torch.manual_seed(config.seed + processes.rank)  # the same weights everywhere, but dropout of its own
        self._validation_tokens = validation_tokens(self.tokenizer, self._train_text, self._validation_text)
        train_tokens = torch.tensor(self.tokenizer.encode(self._train_text))
        if len(self._validation_tokens) <= config.sequence_dim:
            raise TrainingError(
                f"the validation part has {len(self._validation_tokens) - 1} tokens, fewer than sequence_dim = "
                f"{config.sequence_dim}; give a longer text, a smaller --sequence-dim or a smaller --train-fraction"
            )
        self.trainer = Trainer(config, model, self.tokenizer, train_tokens, self._validation_tokens, out, processes)
        if self.resumed:
            self._resume(command)
        else:
            self.trainer.state.command, self.trainer.state.corpus_sha256 = command, self._corpus.sha256
        # Only the main process writes, after the others looked at the folder: they meet in the first step.
        self._folder = RunFolder(out, config, self.trainer.state.step) if processes.is_main else None

    def _resume(self, command: str) -> None:
        """Go on from the folder's state; the record then has every command that made the run."""
        saved = read_state(self.out)
        if saved.corpus_sha256 not in ("", self._corpus.sha256):
            raise TrainingError(
                f"the corpus {self.config.data} is not the text that the run in {self.out} began with; "
                "put that text back, or begin anew in another folder"
            )
        self.trainer.resume()
        state = self.trainer.state
        state.corpus_sha256 = self._corpus.sha256
        if not state.command:
            state.command = command
        elif read_run_config(self.out) != self.config:
            state.command += f" && {command}"

    def _known_prompt(self) -> str:
        """The sample's prompt; a text without line breaks is continued from its first character instead."""
        prompt = self.config.sample_prompt
        try:
            self.tokenizer.encode(prompt)
        except UnknownCharacterError as error:
            if prompt.strip():
                raise UnknownCharacterError(f"--sample-prompt: {error}") from error
            return self._train_text[0]
        return prompt

    def close(self) -> None:
        """Let other processes train in the folder."""
        if self._folder is not None:
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

        def step_made(step: int, loss: float) -> None:
            on_step(step, loss)
            if self._folder is not None and not math.isnan(loss):
                done = (step - first) * self.trainer.tokens_per_step
                speed = done / (time.perf_counter() - started)
                self._folder.add_metrics(
                    {
                        "step": step,
                        "tokens": self.trainer.state.tokens,
                        "train_loss": loss,
                        "tokens_per_second": round(speed, 1),
                    }
                )

        if self._folder is not None:
            self._folder.log(f"from step {first} of {self.config.max_steps}: {self._command}")
        outcome = self.trainer.run(on_step=step_made, on_evaluation=self._evaluated, should_stop=should_stop)
        if self._folder is not None:
            try:
                if outcome != "stopped":
                    self._finish(should_stop)
            except _StopAsked:
                outcome = "stopped"
            self._folder.log(f"{outcome} at step {self.trainer.state.step}")
        self._processes.barrier()
        return outcome

    def _tell(self, text: str) -> None:
        self._show(text)
        assert self._folder is not None
        self._folder.log(text)

    def _evaluated(self, evaluation: Evaluation) -> None:
        per_character = evaluation.val_loss * (len(self._validation_tokens) - 1) / len(self._validation_text)
        assert self._folder is not None
        self._folder.add_metrics(
            {"step": evaluation.step, "train_loss": evaluation.train_loss, "val_loss": evaluation.val_loss}
        )
        self._tell(
            f"step {evaluation.step}: training loss {evaluation.train_loss:.4f}, "
            f"validation loss {evaluation.val_loss:.4f} nats per token "
            f"(about {per_character:.3f} per character){', the best so far' if evaluation.is_best else ''}"
        )
        if self.config.sample_tokens:
            self._tell(self._sample(self.config.sample_tokens).strip("\n"))
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
            corpus=self._corpus.name,
            corpus_sha256=self._corpus.sha256,
            corpus_characters=len(self._corpus.text),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine_name(self.trainer.model),
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

        def progress(done: int, count: int) -> None:
            if should_stop():
                raise _StopAsked

        best = load_checkpoint(self.out / BEST_FOLDER, next(self.trainer.model.parameters()).device)
        self.trainer.model.load_state_dict(best.model.state_dict())
        model = self.trainer.model.eval()
        context, characters = self.config.sequence_dim, len(self._validation_text)
        figures = {
            name: round(window_nats(model, self._validation_tokens, stride, progress=progress) / characters, 4)
            for name, stride in (("block", context), ("sliding", context // 2))
        }
        record = replace(self._record(), nats_per_character=figures)
        ladder = []
        if len(self._corpus.text) <= LADDER_CHARACTERS:
            ladder = ngram_ladder(self._train_text, self._validation_text)
        card = model_card(
            self.out.name, model.config, self.config, record, model.num_parameters(), ladder, self._sample(300)
        )
        self._save_best(record, card)
        self._tell(
            f"the best checkpoint, of step {record.best_step}, is in {self.out / BEST_FOLDER}: "
            f"block {figures['block']:.4f}, sliding {figures['sliding']:.4f} nats per character "
            "on the whole validation split"
            + (
                f"; n-grams of order 1 to {len(ladder)}: {', '.join(f'{value:.3f}' for value in ladder)}"
                if ladder
                else ""
            )
        )


def machine_name(model: GPT) -> str:
    """The GPU's name, or the processor's with the number of threads in use."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' if threads > 1 else ''} of {name}"
