"""Run: a training run and its folder, from the corpus to the finished checkpoint.

config.json     the settings
metrics.jsonl   an object a line: step, and tokens, train_loss, val_loss where known
train.log       what happened, with times, and the samples
state/          the last complete state, to resume from
best/           the checkpoint of the best evaluation; at the end with its figures and its card
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from gpt.checkpoint import load_checkpoint, save_checkpoint
from gpt.errors import TrainingError
from gpt.model import GPT
from gpt.record import TrainingRecord
from gpt.tokenizer import Tokenizer, build_tokenizer
from train.card import model_card
from train.config import TrainConfig
from train.corpus import load_corpus
from train.distributed import ProcessGroup
from train.metrics import validation_tokens, window_nats
from train.ngram import ngram_ladder
from train.sample import sample
from train.state import read_state
from train.trainer import Evaluation, Trainer

CONFIG_FILE, METRICS_FILE, LOG_FILE, BEST_FOLDER = "config.json", "metrics.jsonl", "train.log", "best"


class Run:
    """A run in its folder.

    Args:
        config: its settings.
        out: its folder.
        resume: go on from the folder's state, instead of beginning in an empty folder.
        data_root: the folder of the named corpora.
        checkpoints_root: where GPT-2's vocabulary is looked for first.
        tiktoken_cache: where it is looked for next; see GPT2Tokenizer.fetch.
        device: to train on.
        processes: those that train together.
        command: the command line, for the record.

    Raises:
        TrainingError: the folder holds a run already, or none to resume.
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
        if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise TrainingError(f"{out} is not empty; go on with --resume, or choose another folder with --out")
        self._corpus = load_corpus(config.data, data_root, min_characters=100)
        self._train_text, self._validation_text = self._corpus.split(config.train_fraction)
        self.tokenizer: Tokenizer
        if resume:
            _, self.tokenizer = read_state(out)
        else:
            self.tokenizer = build_tokenizer(
                config.tokenizer,
                # all of the text's characters, so that the validation part can be encoded
                self._corpus.text if config.tokenizer == "character" else self._train_text,
                config.vocab_dim if config.tokenizer == "bpe" else None,
                checkpoints_root=checkpoints_root,
                tiktoken_cache=tiktoken_cache,
            )
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
        if resume:
            self.trainer.resume()
        if processes.is_main:
            self._open_folder(resume)

    def _open_folder(self, resume: bool) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / CONFIG_FILE).write_text(self.config.to_json(), encoding="utf-8")
            self._drop_metrics_behind(self.trainer.state.step if resume else 0)
            handler = logging.FileHandler(self.out / LOG_FILE, encoding="utf-8")
        except OSError as error:
            raise TrainingError(
                f"the run folder {self.out} cannot be written ({error.strerror or error}); choose another with --out"
            ) from error
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._log = logging.Logger(f"train.{self.out.name}")
        self._log.addHandler(handler)

    def _drop_metrics_behind(self, step: int) -> None:
        """Forget the lines of steps that will be made again, and a line that a kill left half-written."""
        path = self.out / METRICS_FILE
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line + "\n")
                except (ValueError, KeyError, TypeError):
                    continue
        path.write_text("".join(kept), encoding="utf-8")

    def execute(
        self, *, on_step: Callable[[int, float], None], show: Callable[[str], None], should_stop: Callable[[], bool]
    ) -> str:
        """Train, evaluate and keep the best; at the end score it on the whole validation text and write its card.

        Args:
            on_step: told each step and its loss, NaN where it was not looked at.
            show: given what a person should read: evaluations and samples.
            should_stop: asked after each step.

        Returns:
            "finished", "early stop" or "stopped".
        """
        self._show = show
        started, first = time.perf_counter(), self.trainer.state.step

        def step_made(step: int, loss: float) -> None:
            on_step(step, loss)
            if loss == loss and self._processes.is_main:  # not NaN
                done = (step - first) * self.trainer.tokens_per_step
                speed = done / (time.perf_counter() - started)
                self._append(
                    {
                        "step": step,
                        "tokens": self.trainer.state.tokens,
                        "train_loss": loss,
                        "tokens_per_second": round(speed, 1),
                    }
                )

        if self._processes.is_main:
            self._log.info("from step %d of %d: %s", first, self.config.max_steps, self._command)
        outcome = self.trainer.run(on_step=step_made, on_evaluation=self._evaluated, should_stop=should_stop)
        if self._processes.is_main:
            if outcome != "stopped":
                self._finish()
            self._log.info("%s at step %d", outcome, self.trainer.state.step)
        self._processes.barrier()
        return outcome

    def _append(self, line: dict[str, float]) -> None:
        try:
            with (self.out / METRICS_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise TrainingError(
                f"{self.out / METRICS_FILE} cannot be written ({error.strerror}); "
                "free some space, then go on with --resume"
            ) from error

    def _tell(self, text: str) -> None:
        self._show(text)
        self._log.info(text)

    def _evaluated(self, evaluation: Evaluation) -> None:
        per_character = evaluation.val_loss * (len(self._validation_tokens) - 1) / len(self._validation_text)
        self._append({"step": evaluation.step, "train_loss": evaluation.train_loss, "val_loss": evaluation.val_loss})
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
        prompt = self.config.sample_prompt
        if not set(prompt) <= set(self._train_text):
            prompt = self._train_text[0]
        return sample(self.trainer.model, self.tokenizer, prompt, tokens, seed=self.config.seed)

    def _save_best(self, record: TrainingRecord, card: str | None = None) -> None:
        dtype = getattr(torch, self.config.checkpoint_dtype)
        save_checkpoint(self.out / BEST_FOLDER, self.trainer.model, self.tokenizer, record, dtype=dtype, card=card)

    def _record(self) -> TrainingRecord:
        state = self.trainer.state
        return TrainingRecord(
            preset=self.config.preset,
            command=self._command,
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

    def _finish(self) -> None:
        """Score the best checkpoint as it is stored, and write it again with its figures and its card."""
        best = load_checkpoint(self.out / BEST_FOLDER, next(self.trainer.model.parameters()).device)
        self.trainer.model.load_state_dict(best.model.state_dict())
        model = self.trainer.model.eval()
        context, characters = self.config.sequence_dim, len(self._validation_text)
        figures = {
            name: round(window_nats(model, self._validation_tokens, stride) / characters, 4)
            for name, stride in (("block", context), ("sliding", context // 2))
        }
        record = replace(self._record(), nats_per_character=figures)
        ladder = ngram_ladder(self._train_text, self._validation_text)
        card = model_card(
            self.out.name, model.config, self.config, record, model.num_parameters(), ladder, self._sample(300)
        )
        self._save_best(record, card)
        self._tell(
            f"the best checkpoint, of step {record.best_step}, is in {self.out / BEST_FOLDER}: "
            f"block {figures['block']:.4f}, sliding {figures['sliding']:.4f} nats per character "
            "on the whole validation split; n-grams of order 1 to 6: " + ", ".join(f"{value:.3f}" for value in ladder)
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
    return f"{torch.get_num_threads()} threads of {name}"
