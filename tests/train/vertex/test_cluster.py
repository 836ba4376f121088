"""The service's description of a job's machines, and the words for torchrun that come of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from gpt.errors import TrainingError
from train.vertex.cluster import Cluster

HOSTS = {
    "workerpool0": ["training-workerpool0-1a-0:2222"],
    "workerpool1": ["training-workerpool1-1a-0:2222", "training-workerpool1-1a-1:2222"],
}


def _described(pool: str, index: int, cluster: Any = HOSTS, **variables: str) -> dict[str, str]:
    task = {"type": pool, "index": index, "trial": "abc"}
    return {"CLUSTER_SPEC": json.dumps({"cluster": cluster, "environment": "cloud", "task": task}), **variables}


@pytest.mark.parametrize(
    ("pool", "index", "rank"), [("workerpool0", 0, 0), ("workerpool1", 0, 1), ("workerpool1", 1, 2)]
)
def test_every_machine_has_its_own_rank_and_finds_the_first(pool: str, index: int, rank: int) -> None:
    cluster = Cluster.from_environment(_described(pool, index))
    assert cluster == Cluster(3, rank, "training-workerpool0-1a-0", 2222)
    assert cluster.launcher(4) == [
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=4",
        "--nnodes=3",
        f"--node_rank={rank}",
        "--master_addr=training-workerpool0-1a-0",
        "--master_port=2222",
    ]


def test_address_that_the_service_reserves_wins() -> None:
    variables = {"MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "3333"}
    assert Cluster.from_environment(_described("workerpool1", 0, **variables)) == Cluster(3, 1, "10.0.0.7", 3333)


def test_pools_of_other_duties_do_not_train() -> None:
    hosts = {**HOSTS, "workerpool2": ["reduction:2222"], "workerpool3": ["evaluator:2222"]}
    assert Cluster.from_environment(_described("workerpool1", 1, hosts)) == Cluster(
        3, 2, "training-workerpool0-1a-0", 2222
    )


@pytest.mark.parametrize(
    "environment", [{}, {"CLUSTER_SPEC": ""}, _described("workerpool0", 0, {"workerpool0": ["a:1"]})]
)
def test_one_machine_needs_no_rendezvous(environment: dict[str, str]) -> None:
    cluster = Cluster.from_environment(environment)
    assert (cluster.machines, cluster.rank) == (1, 0)
    assert cluster.launcher(1) == []
    assert cluster.launcher(2) == ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("machines", [1, 2])
def test_launcher_is_one_that_torchrun_reads(processes: int, machines: int) -> None:
    from torch.distributed.run import get_args_parser

    words = Cluster(machines, machines - 1, "first", 29500).launcher(processes)
    if machines == processes == 1:
        assert words == []
        return
    options = get_args_parser().parse_args([*words[2:], "-m", "train", "--preset", "tiny"])
    assert (options.nnodes, options.node_rank) == (("1:1", 0) if machines == 1 else ("2", 1))
    assert options.nproc_per_node == str(processes)
    assert options.training_script == "train"


@pytest.mark.parametrize(
    "environment",
    [
        {"CLUSTER_SPEC": "not JSON"},
        {"CLUSTER_SPEC": "[]"},
        {"CLUSTER_SPEC": json.dumps({"cluster": HOSTS})},
        _described("workerpool0", 0, {"workerpool0": []}),
        _described("workerpool0", 0, {"workerpool1": ["a:1"]}),
        _described("workerpool0", 0, {"workerpool0": ["without a port"]}),
        _described("workerpool0", 0, MASTER_PORT="none"),
    ],
)
def test_description_that_is_none_is_one_sentence(environment: dict[str, str]) -> None:
    with pytest.raises(
        TrainingError, match=r"do not describe a cluster .*they are set by Vertex AI, so leave them alone"
    ):
        Cluster.from_environment(environment)


def test_place_outside_the_cluster_is_refused() -> None:
    with pytest.raises(TrainingError, match=re.escape("this is machine 7 of 3")):
        Cluster.from_environment(_described("workerpool1", 6))
