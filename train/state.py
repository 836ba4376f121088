"""TrainState: all that resuming a run needs, as one folder of safetensors and JSON that is complete or absent."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gpt.atomic import atomic_folder, heal
from gpt.errors import TrainingError
from gpt.tokenizer import Tokenizer, load_tokenizer
from train.folder import STATE_FOLDER


@dataclass
class TrainState:
    """Where a run stands, apart from the tensors of its model, optimizers and generators.

    Attributes:
        step: optimizer steps made.
        tokens: tokens trained on, over all processes.
        seconds: time spent training, evaluations included.
        epoch, window: the position in the data; see DataPosition.
        best_step, best_loss: of the best evaluation so far, nats per token.
        evaluations_since_best: for the early stop.
        curve: an entry an evaluation.
        loss_sum, loss_count: of the training losses since the last evaluation.
        threads: torch's number of threads; another number may sum in another order.
        world_size: processes.
        short_steps: the steps from the beginning whose windows are of short_sequence_dim; more steps later change
            nothing about it.
        corpus_sha256: of the text that is learnt; the position in the data means nothing in another one.
        teachers_sha256: of the weights of the teachers; empty where there are none.
        command: what began the run.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    epoch: int = 0
    window: int = 0
    best_step: int = 0
    best_loss: float = float("inf")
    evaluations_since_best: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_count: int = 0
    threads: int = 0
    world_size: int = 1
    short_steps: int = 0
    corpus_sha256: str = ""
    teachers_sha256: str = ""
    command: str = ""


def save_state(
    out: Path,
    state: TrainState,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    tokenizer: Tokenizer,
    generators: dict[str, Tensor],
) -> None:
    """Write the state into `out`/state, in the place of the last one.

    Args:
        out: the run folder.
        state: its numbers.
        model: its weights.
        optimizers: those of the weights.
        tokenizer: the run's.
        generators: every process's random generators, stacked by rank, by device type.

    Raises:
        TrainingError: it cannot be written; the last one is then as it was.
    """
    try:
        with atomic_folder(out / STATE_FOLDER) as folder:
            save_file(
                {name: tensor.detach() for name, tensor in model.named_parameters()}, folder / "model.safetensors"
            )
            save_file(_optimizer_tensors(model, optimizers), folder / "optimizer.safetensors")
            save_file(generators, folder / "generators.safetensors")
            tokenizer.save(folder)
            (folder / "state.json").write_text(json.dumps(dataclasses.asdict(state), indent=1) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"the state of the run cannot be written to {out / STATE_FOLDER} "
            f"({getattr(error, 'strerror', None) or error}); what was saved before is as it was: "
            "free some space or change the folder's rights, then go on with --resume"
        ) from error


def has_state(out: Path) -> bool:
    """Whether `out` holds a state to resume from."""
    heal(out / STATE_FOLDER)
    return (out / STATE_FOLDER / "state.json").is_file()


def read_state(out: Path) -> TrainState:
    """The state's numbers; the tensors come with `restore_tensors`.

    Raises:
        TrainingError: there is none, or it is damaged.
    """
    if not has_state(out):
        raise TrainingError(f"{out} has no saved state to resume from; start the run without --resume")
    try:
        fields: Any = json.loads((out / STATE_FOLDER / "state.json").read_text(encoding="utf-8"))
        return TrainState(**fields)
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(
            f"{out / STATE_FOLDER}/state.json cannot be read ({error}); begin anew in another folder"
        ) from error


def read_tokenizer(out: Path) -> Tokenizer:
    """The run's tokenizer, saved with its state; TokenizerError if it is missing or damaged."""
    return load_tokenizer(out / STATE_FOLDER)


def restore_tensors(
    out: Path,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    device: torch.device,
    rank: int,
    world_size: int,
) -> None:
    """Put the saved weights, optimizer state and generators back.

    Args:
        out: the run folder.
        model: gets the weights.
        optimizers: get their state.
        device: to train on.
        rank: of this process, which gets its own generators back.
        world_size: processes.

    Raises:
        TrainingError: a file is damaged or does not match.
    """
    folder = out / STATE_FOLDER
    try:
        weights = load_file(folder / "model.safetensors")
        saved = load_file(folder / "optimizer.safetensors")
        generators = load_file(folder / "generators.safetensors")
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"the state in {folder} cannot be restored ({error}); begin anew in another folder"
        ) from error
    parameters = dict(model.named_parameters())
    if {name: tensor.shape for name, tensor in weights.items()} != {
        name: tensor.shape for name, tensor in parameters.items()
    }:
        raise TrainingError(f"the weights in {folder} are not of this run's model; begin anew in another folder")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    names = {parameter: name for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                prefix = names[parameter] + "."
                own = {key.removeprefix(prefix): value for key, value in saved.items() if key.startswith(prefix)}
                # The copy lets go of the file, which is mapped into memory and soon replaced.
                optimizer.state[parameter] = {key: value.to(device, copy=True) for key, value in own.items()}
    own_generators = {kind: states.reshape(world_size, -1)[rank].clone() for kind, states in generators.items()}
    torch.set_rng_state(own_generators["cpu"])
    if device.type == "cuda" and "cuda" in own_generators:
        torch.cuda.set_rng_state(own_generators["cuda"], device)


def _optimizer_tensors(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Every optimizer's tensors under "parameter.key"."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}.{key}": value
        for optimizer in optimizers
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }
