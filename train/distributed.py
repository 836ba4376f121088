"""ProcessGroup: the processes that train together under torchrun, or this one alone.

Every process computes the gradients of windows of its own; they are averaged in one flat buffer, so that all
processes take the same step from the same weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from gpt.errors import TrainingError


class ProcessGroup:
    """This process's place among those that train together.

    Args:
        environment: torchrun's variables are read from it: RANK, WORLD_SIZE, LOCAL_RANK.
        backend: "nccl" on GPUs, "gloo" on CPUs.

    Raises:
        TrainingError: the variables are incomplete, or the group cannot be formed. Every method raises it too, when
            another process ended or cannot be reached.
    """

    def __init__(self, environment: Mapping[str, str], backend: str) -> None:
        try:
            self.rank = int(environment.get("RANK", "0"))
            self.world_size = int(environment.get("WORLD_SIZE", "1"))
            self.local_rank = int(environment.get("LOCAL_RANK", "0"))
        except ValueError as error:
            raise TrainingError(
                f"RANK, WORLD_SIZE or LOCAL_RANK is not a number ({error}); start it with torchrun"
            ) from error
        if self.world_size > 1:
            try:
                dist.init_process_group(backend)
            except (RuntimeError, ValueError) as error:
                raise TrainingError(
                    f"the processes could not find each other ({error}); start them with torchrun"
                ) from error

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def average(
        self, gradients: Sequence[Tensor], loss: Tensor, asked: tuple[bool, bool]
    ) -> tuple[Tensor, tuple[bool, bool]]:
        """Replace the gradients by their mean over all processes.

        Args:
            gradients: the same shapes in every process.
            loss: (), this process's.
            asked: whether this process was asked to stop, and to finish.

        Returns:
            the mean loss, (), and whether any process was asked to stop, and to finish.
        """
        if self.world_size == 1:
            return loss, asked
        # Loss and flags travel with the gradients: all processes see the same ones, and leave in the same step.
        flags = gradients[0].new_tensor([float(flag) for flag in asked])
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), loss.reshape(1).to(flags.dtype), flags])
        with _in_words():
            dist.all_reduce(flat)
        flat /= self.world_size
        position = 0
        for gradient in gradients:
            gradient.copy_(flat[position : position + gradient.numel()].view_as(gradient))
            position += gradient.numel()
        return flat[-3], (bool(flat[-2] > 0), bool(flat[-1] > 0))

    def broadcast(self, value: bool) -> bool:
        """The main process's value, in every process."""
        if self.world_size == 1:
            return value
        flag = torch.tensor([float(value)], device=self._device)
        with _in_words():
            dist.broadcast(flag, 0)
        return bool(flag.item())

    def gather(self, tensor: Tensor) -> Tensor:
        """Every process's tensor, stacked by rank, on the CPU: (world_size, *shape)."""
        if self.world_size == 1:
            return tensor[None]
        tensors = [torch.empty_like(tensor, device=self._device) for _ in range(self.world_size)]
        with _in_words():
            dist.all_gather(tensors, tensor.to(self._device))
        return torch.stack(tensors).cpu()

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.world_size > 1:
            with _in_words():
                dist.barrier()

    def close(self) -> None:
        """Leave the group."""
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def _device(self) -> str:
        """Where the backend takes its tensors."""
        return f"cuda:{self.local_rank}" if dist.get_backend() == "nccl" else "cpu"


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            f"another process of this run ended or cannot be reached; its own message says why ({error})"
        ) from error
