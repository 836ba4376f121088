"""Trainer: the loop that makes a checkpoint, one optimizer step at a time.

Weights and optimizer state are float32. With bfloat16 the products run in bfloat16: on CUDA under autocast, on a
CPU in a bfloat16 copy of the model, which is faster there because nothing is converted inside the step.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gpt.errors import TrainingError
from gpt.model import GPT
from gpt.tokenizer import Tokenizer
from train.config import TrainConfig
from train.dataset import DataPosition, TextTokens, WindowSampler
from train.distributed import ProcessGroup
from train.loss import head_cross_entropy
from train.metrics import token_nats
from train.optimizer import build_optimizers, learning_rate_factor
from train.precision import resolve_precision
from train.state import TrainState, read_state, restore_tensors, save_state
from train.teachers import Teachers

# Parameters times tokens of a step from which it takes a CPU about a second.
SLOW_STEP = 10**10


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found: losses in nats per token, the training one a mean since the last evaluation."""

    step: int
    train_loss: float
    val_loss: float
    is_best: bool


class Trainer:
    """A run in progress.

    Args:
        config: its settings.
        model: freshly drawn or loaded, on the device it trains on.
        tokenizer: saved with every state, so that resuming needs nothing else.
        train_tokens: on the CPU; or what gives those of each pass.
        validation_tokens: (n,) int64 on the CPU.
        out: the run folder.
        processes: those that train together.
        teachers: whose probabilities are learnt besides the text.

    Attributes:
        config, model, tokenizer: as given.
        state: where the run stands.
        precision: of the matrix products, "bfloat16" or "float32".
    """

    def __init__(
        self,
        config: TrainConfig,
        model: GPT,
        tokenizer: Tokenizer,
        train_tokens: TextTokens,
        validation_tokens: Tensor,
        out: Path,
        processes: ProcessGroup,
        teachers: Teachers | None = None,
    ) -> None:
        self.config = config
        self.model = model
        self.tokenizer = tokenizer
        self.state = TrainState(threads=torch.get_num_threads(), world_size=processes.world_size)
        if config.short_sequence_dim:
            self.state.short_steps = round(config.short_fraction * config.max_steps)
        self._out = out
        self._processes = processes
        self._teachers = teachers
        self._device = next(model.parameters()).device
        # of the main process, so that machines of two kinds do the same
        self._low = processes.broadcast(resolve_precision(config.precision, self._device) == "bfloat16")
        self.precision = "bfloat16" if self._low else "float32"
        self._copy: GPT = copy.deepcopy(model).bfloat16() if self._low and self._device.type == "cpu" else model
        self._optimizers = build_optimizers(
            model,
            learning_rate=config.learning_rate,
            muon_learning_rate=config.muon_learning_rate,
            weight_decay=config.weight_decay,
            muon_weight_decay=config.muon_weight_decay,
            betas=(config.beta1, config.beta2),
            orthogonalize_dtype=torch.bfloat16 if self._low else torch.float32,
        )
        self._train_tokens = train_tokens
        if self.state.short_steps:
            WindowSampler(train_tokens, config.sequence_dim, config.seed)  # a text too short for them is refused now
        self._sampler = self._sample_from(DataPosition())
        self._validation_windows = _fixed_windows(validation_tokens, config.sequence_dim, config.eval_windows)
        self._loss_sum = torch.zeros((), device=self._device)
        self._loss_count = 0

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._device

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step learns from, over all processes."""
        config = self.config
        return config.batch_size * config.accumulation_steps * self._processes.world_size * config.sequence_dim

    def resume(self) -> None:
        """Go on where the folder's state stands.

        Raises:
            TrainingError: the state is missing, damaged, of another number of processes, or past max_steps.
        """
        self.state = read_state(self._out)
        if self.state.world_size != self._processes.world_size:
            raise TrainingError(
                f"the run was made by {self.state.world_size} processes, but there are "
                f"{self._processes.world_size} now; resume it with torchrun --nproc_per_node={self.state.world_size}"
            )
        if self.state.step > self.config.max_steps:
            raise TrainingError(
                f"max_steps is {self.config.max_steps}, but the run has made {self.state.step} steps already; "
                f"give --max-steps {self.state.step} or more"
            )
        self.state.threads = torch.get_num_threads()
        restore_tensors(
            self._out, self.model, self._optimizers, self._device, self._processes.rank, self._processes.world_size
        )
        self._loss_sum += self.state.loss_sum
        self._loss_count = self.state.loss_count
        self._sync_copy()
        self._sampler = self._sample_from(DataPosition(self.state.epoch, self.state.window))

    def run(
        self,
        *,
        on_step: Callable[[int, float], None],
        on_evaluation: Callable[[Evaluation], None],
        should_stop: Callable[[], bool],
        should_finish: Callable[[], bool] = lambda: False,
    ) -> str:
        """Train until max_steps, the early stop, or until asked; the state is saved on the way and at the end.

        Args:
            on_step: told the step just made and its training loss where it was looked at, else NaN.
            on_evaluation: told each evaluation, in the main process, before the state is saved; it keeps the best.
            should_stop: asked in every step; the run is to go on later.
            should_finish: asked in every step; the run is to end with the weights of this step.

        Returns:
            "finished", "early stop" or "stopped".

        Raises:
            TrainingError: the loss or a weight is no finite number any more, or the state cannot be written.
        """
        config, state = self.config, self.state
        started = time.perf_counter() - state.seconds
        self.model.train()
        self._copy.train()
        if self._out_of_patience:  # a run that had ended, and was killed before it was scored
            return "early stop"
        if state.step == 0:
            self._save()  # a disk that is too small shows at once, and from here on there is a state to resume from
            if config.init:  # the weights to begin with may be the best there will be
                self._evaluate(on_evaluation)
        outcome = "finished"
        while state.step < config.max_steps:
            loss, (stopping, finishing) = self.step(lambda: (should_stop(), should_finish()))
            state.step += 1
            state.tokens += self.tokens_per_step
            state.seconds = time.perf_counter() - started
            state.epoch, state.window = self._sampler.position.epoch, self._sampler.position.window
            look = state.step % self._look_interval == 0 or state.step == 1
            shown = float(loss) if look else math.nan
            last = state.step == config.max_steps or finishing
            evaluating = state.step % config.eval_interval == 0 or last
            saving = state.step % config.save_interval == 0 or last or stopping
            if (look and not math.isfinite(shown)) or ((evaluating or saving) and not self._is_finite()):
                raise self._divergence()
            on_step(state.step, shown)
            if evaluating:
                self._evaluate(on_evaluation)
                if self._out_of_patience:
                    outcome, last = "early stop", True
            if saving or last:
                self._save()
            if last:
                return outcome
            if stopping:
                return "stopped"
        return outcome

    @property
    def _look_interval(self) -> int:
        """Steps between looks at the loss: a look at a GPU waits for it, but slow steps are watched one by one."""
        work = self.model.num_parameters() * self.tokens_per_step
        return 1 if self._device.type == "cpu" and work > SLOW_STEP else 10

    @property
    def _out_of_patience(self) -> bool:
        return 0 < self.config.patience <= self.state.evaluations_since_best

    def _is_finite(self) -> bool:
        """Whether every loss since the last evaluation and every weight is a finite number; the same everywhere."""
        numbers = [self._loss_sum, *self.model.parameters()]
        return bool(torch.stack([number.detach().isfinite().all() for number in numbers]).all())

    def _divergence(self) -> TrainingError:
        return TrainingError(
            f"a loss or a weight is no finite number any more at step {self.state.step}: the run diverged; "
            "what was saved before is kept; begin anew in another folder with a lower --learning-rate "
            f"({self.config.learning_rate:g} now)"
        )

    def _save(self) -> None:
        """Save the state, with the generators of all processes."""
        self.state.loss_sum, self.state.loss_count = float(self._loss_sum), self._loss_count
        generators = {"cpu": self._processes.gather(torch.get_rng_state())}
        if self._device.type == "cuda":
            generators["cuda"] = self._processes.gather(torch.cuda.get_rng_state(self._device))
        if self._processes.is_main:
            save_state(self._out, self.state, self.model, self._optimizers, self.tokenizer, generators)

    def step(self, asked: Callable[[], tuple[bool, bool]] = lambda: (False, False)) -> tuple[Tensor, tuple[bool, bool]]:
        """One optimizer step.

        Args:
            asked: whether this process is to stop, and to finish; called at the step's end.

        Returns:
            its mean loss over all processes, () on the device, in nats per token, and whether any of them is to stop,
            and to finish.
        """
        config = self.config
        factor = learning_rate_factor(self.state.step, config.max_steps, config.warmup_fraction, config.final_fraction)
        if 0 < self.state.short_steps == self.state.step:
            position = DataPosition(self._sampler.position.epoch + 1)  # a pass of its own, from its beginning
            self._sampler = WindowSampler(self._train_tokens, config.sequence_dim, config.seed, position)
        for parameter in self._copy.parameters():
            parameter.grad = None
        step_loss = torch.zeros((), device=self._device)
        for _ in range(config.accumulation_steps):
            inputs, targets = self._next_batch()
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._low and self._copy is self.model):
                hidden = self._copy.hidden_states(inputs)
            dtype = torch.bfloat16 if self._low else torch.float32
            loss = head_cross_entropy(
                hidden,
                self._copy.head,
                targets,
                dtype=dtype,
                label_smoothing=config.label_smoothing,
                soft_targets=self._teachers.soft_targets(inputs, dtype) if self._teachers else None,
                soft_weight=config.teacher_weight if self._teachers else 0.0,
            )
            (loss / config.accumulation_steps).backward()
            step_loss += loss.detach() / config.accumulation_steps
        parameters = list(self.model.parameters())
        if self._copy is not self.model:
            for parameter, low in zip(parameters, self._copy.parameters(), strict=True):
                parameter.grad = None if low.grad is None else low.grad.float()
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        step_loss, asked_anywhere = self._processes.average(gradients, step_loss, asked())
        if config.grad_clip:
            nn.utils.clip_grad_norm_(parameters, config.grad_clip)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimizer.step()
        self._sync_copy()
        self._loss_sum += step_loss
        self._loss_count += 1
        return step_loss, asked_anywhere

    def _sample_from(self, position: DataPosition) -> WindowSampler:
        """The sampler of the steps up to this one, at `position`; `step` changes from the short windows to the long.

        Windows that begin short and become long are the staged training of Press et al. 2021 (Shortformer).
        """
        short = 0 < self.state.short_steps >= self.state.step
        size = self.config.short_sequence_dim if short else self.config.sequence_dim
        return WindowSampler(self._train_tokens, size, self.config.seed, position)

    def _next_batch(self) -> tuple[Tensor, Tensor]:
        """This process's share of the next batch; all processes walk the same order of windows."""
        processes = self._processes
        size = self.config.batch_size * self.config.sequence_dim // self._sampler.sequence_dim
        inputs, targets = self._sampler.next_batch(size * processes.world_size)
        own = slice(processes.rank * size, (processes.rank + 1) * size)
        return inputs[own].to(self._device, non_blocking=True), targets[own].to(self._device, non_blocking=True)

    @torch.no_grad()
    def _sync_copy(self) -> None:
        """Bring the low-precision copy up to date with the weights."""
        if self._copy is not self.model:
            for low, parameter in zip(self._copy.parameters(), self.model.parameters(), strict=True):
                low.copy_(parameter)

    def _evaluate(self, on_evaluation: Callable[[Evaluation], None]) -> None:
        """Score the fixed windows, without dropout and without touching the training's generators."""
        state = self.state
        is_best = False
        if self._processes.is_main:
            self.model.eval()
            parts = [token_nats(self.model, windows) for windows in self._validation_windows.split(32)]
            val_loss = float(torch.cat(parts).double().mean())
            self.model.train()
            if not math.isfinite(val_loss):  # finite weights, but too large for their products
                raise self._divergence()
            train_loss = float(self._loss_sum) / max(1, self._loss_count)
            is_best = val_loss < state.best_loss
            state.curve.append({"step": state.step, "train_loss": round(train_loss, 5), "val_loss": round(val_loss, 5)})
            if is_best:
                state.best_step, state.best_loss = state.step, val_loss
            on_evaluation(Evaluation(state.step, train_loss, val_loss, is_best))
        is_best = self._processes.broadcast(is_best)
        # before the long windows have come the figures, which are of long ones, say little about the run
        waits = is_best or state.step <= state.short_steps
        state.evaluations_since_best = 0 if waits else state.evaluations_since_best + 1
        self._loss_sum.zero_()
        self._loss_count = 0


def _fixed_windows(tokens: Tensor, sequence_dim: int, count: int) -> Tensor:
    """At most `count` windows that do not overlap, spread evenly over the tokens; (count, sequence_dim + 1)."""
    starts = torch.arange(0, len(tokens) - sequence_dim, sequence_dim)
    if len(starts) > count:
        starts = starts[torch.linspace(0, len(starts) - 1, count).round().long()]
    return tokens[starts[:, None] + torch.arange(sequence_dim + 1)]
