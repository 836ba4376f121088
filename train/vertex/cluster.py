"""Cluster: the machines of a training job, as the service describes them to each, and torchrun's words for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from gpt.errors import TrainingError


@dataclass(frozen=True)
class Cluster:
    """The machines of a job, and this one's place among them.

    Attributes:
        machines: how many there are.
        rank: this machine's, from 0; machine 0 is the one that the others find, and that writes.
        address, port: where the others find machine 0.
    """

    machines: int = 1
    rank: int = 0
    address: str = ""
    port: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Cluster:
        """The cluster that CLUSTER_SPEC describes; one machine where the variable is not set.

        MASTER_ADDR and MASTER_PORT, where they are set, win over the address that CLUSTER_SPEC gives to the first
        machine: the service reserves that port for the processes that train together.

        Raises:
            TrainingError: a variable is not as the service sets it.
        """
        text = environment.get("CLUSTER_SPEC")
        if not text:
            return cls()
        try:
            described = json.loads(text)
            pools: dict[str, list[str]] = described["cluster"]
            task = described["task"]
            # workerpool0 has the first machine alone, workerpool1 the others; two more could have other duties.
            names = sorted(name for name in pools if name in ("workerpool0", "workerpool1"))
            before = [host for name in names if name < task["type"] for host in pools[name]]
            machines = sum(len(pools[name]) for name in names)
            host, _, port = pools["workerpool0"][0].rpartition(":")
            found = cls(
                machines,
                len(before) + int(task["index"]),
                environment.get("MASTER_ADDR") or host,
                int(environment.get("MASTER_PORT") or port),
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise TrainingError(
                f"CLUSTER_SPEC, MASTER_ADDR and MASTER_PORT do not describe a cluster ({error!r}); they are set by "
                "Vertex AI, so leave them alone, or unset them to train on one machine"
            ) from error
        if not found.rank < found.machines:
            raise TrainingError(
                f"CLUSTER_SPEC says that this is machine {found.rank} of {found.machines}; it is set by Vertex AI, so "
                "leave it alone, or unset it to train on one machine"
            )
        return found

    def launcher(self, processes: int) -> list[str]:
        """The words before `-m train`, for python to run.

        Args:
            processes: on each machine.
        """
        if self.machines == 1 and processes == 1:
            return []
        words = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
        if self.machines == 1:
            return [*words, "--standalone"]
        # A fixed rank for each machine, so that the first process, which writes, is on the machine that uploads.
        return [
            *words,
            f"--nnodes={self.machines}",
            f"--node_rank={self.rank}",
            f"--master_addr={self.address}",
            f"--master_port={self.port}",
        ]
