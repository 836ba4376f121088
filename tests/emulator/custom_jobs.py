"""Custom jobs: each replica of each worker pool is its container's command, run as a process on this machine."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.routing import Route

from tests.emulator.call import PROJECT_NUMBER, Call, Resource, now, route
from tests.emulator.container import ROOT, free_port
from tests.emulator.google_error import GoogleError, not_found
from tests.emulator.listing import listing
from tests.emulator.operations import Operations

ENDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")
POLL_S = 0.05
STOP_S = 10


class CustomJobs:
    """The custom jobs of every location, by full name.

    Args:
        operations: where deletions are kept.
        environment: variables that every replica gets, so that its cloud is this one.
        entrypoint: what the training image runs where a pool gives no command.
    """

    def __init__(self, operations: Operations, environment: dict[str, str], entrypoint: Sequence[str]) -> None:
        self.jobs: dict[str, Resource] = {}
        self.environments: dict[str, list[dict[str, str]]] = {}  # what each replica of a job was given
        self.entrypoint = list(entrypoint)
        self._operations = operations
        self._environment = environment
        self._numbers = itertools.count(7001)
        self._processes: dict[str, list[subprocess.Popen[bytes]]] = {}
        self._logs: dict[str, list[Path]] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="custom-jobs-")
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        return [
            route("POST", "customJobs", self._create),
            route("GET", "customJobs", lambda call: listing(call, "customJobs", self._here(call))),
            route("POST", "customJobs/{job}:cancel", self._cancel),
            route("GET", "customJobs/{job}", self._find),
            route("DELETE", "customJobs/{job}", self._delete),
        ]

    def log(self, name: str) -> str:
        """What the replicas of a job wrote, one after the other; `name` is full or the last part."""
        found = next(full for full in self._logs if full == name or full.endswith(f"/{name}"))
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in self._logs[found])

    def clear(self) -> None:
        """Forget every job, and end every process that still runs."""
        for task in self._tasks:
            task.cancel()
        for processes in self._processes.values():
            _end(processes)
        for room in (self.jobs, self.environments, self._processes, self._logs):
            room.clear()

    def stop(self) -> None:
        """End every process that still runs, and delete the logs."""
        self.clear()
        self._folder.cleanup()

    def _here(self, call: Call) -> list[Resource]:
        return [job for name, job in self.jobs.items() if name.startswith(f"{call.parent}/")]

    def _find(self, call: Call) -> Resource:
        name = f"{call.parent}/customJobs/{call.ids['job']}"
        if name not in self.jobs:
            raise not_found(name)
        return self.jobs[name]

    def _create(self, call: Call) -> Resource:
        _check(call.body)
        name, moment = f"{call.parent}/customJobs/{next(self._numbers)}", now()
        job = {**call.body, "name": name, "createTime": moment, "updateTime": moment, "state": "JOB_STATE_PENDING"}
        self.jobs[name] = job
        task = asyncio.get_running_loop().create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return dict(job)

    async def _run(self, job: Resource) -> None:
        """From pending to an end: all replicas end well, or the first failure ends them all."""
        delay_s, failure = self._operations.faults.operation("CustomJob")
        await asyncio.sleep(delay_s)
        if job["state"] in ENDED:
            return
        if failure is not None:
            job["error"] = {"code": 8, "message": failure.message}
            _move(job, "JOB_STATE_FAILED")
            return
        processes = self._start(job)
        _move(job, "JOB_STATE_RUNNING")
        while job["state"] == "JOB_STATE_RUNNING":
            codes = {replica: process.poll() for replica, process in processes.items()}
            failed = {replica: code for replica, code in codes.items() if code}
            if failed:
                replica, code = next(iter(failed.items()))
                text = f"The replica {replica} exited with a non-zero status of {code}."
                job["error"] = {"code": 3, "message": text}
                await asyncio.to_thread(_end, list(processes.values()))
                _move(job, "JOB_STATE_FAILED")
            elif all(code == 0 for code in codes.values()):
                _move(job, "JOB_STATE_SUCCEEDED")
            await asyncio.sleep(POLL_S)

    def _start(self, job: Resource) -> dict[str, subprocess.Popen[bytes]]:
        """Start every replica; by the names that the service gives them."""
        name, spec = job["name"], job["jobSpec"]
        pools = spec["workerPoolSpecs"]
        cluster = {
            f"workerpool{number}": [f"127.0.0.1:{free_port()}" for _ in range(int(pool.get("replicaCount", 1)))]
            for number, pool in enumerate(pools)
        }
        processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs[name], self.environments[name] = [], []
        for number, pool in enumerate(pools):
            container = pool["containerSpec"]
            command = [*(container.get("command") or self.entrypoint), *container.get("args", [])]
            for index in range(len(cluster[f"workerpool{number}"])):
                replica = f"workerpool{number}-{index}"
                task = {"type": f"workerpool{number}", "index": index}
                given = {
                    **_output_variables(spec),
                    "CLOUD_ML_PROJECT_ID": PROJECT_NUMBER,
                    "CLOUD_ML_JOB_ID": name.rpartition("/")[2],
                    "CLOUD_ML_REGION": name.split("/")[3],
                    "CLUSTER_SPEC": json.dumps({"cluster": cluster, "task": task, "environment": "cloud"}),
                    **{variable["name"]: variable.get("value", "") for variable in container.get("env", [])},
                }
                self.environments[name].append(given)
                path = Path(self._folder.name) / f"{name.rpartition('/')[2]}-{replica}.log"
                self._logs[name].append(path)
                with path.open("wb") as log:
                    processes[replica] = subprocess.Popen(
                        command,
                        cwd=ROOT,
                        env={**os.environ, **_machine(), **self._environment, **given},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
        self._processes[name] = list(processes.values())
        return processes

    def _cancel(self, call: Call) -> Resource:
        job = self._find(call)
        if job["state"] not in ENDED:
            _move(job, "JOB_STATE_CANCELLED")
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(_end, self._processes.get(job["name"], [])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return {}

    def _delete(self, call: Call) -> Resource:
        job = self._find(call)
        if job["state"] not in ENDED:
            raise GoogleError(400, f"CustomJob {job['name']} is not in a final state; cancel it first.")

        def delete() -> Resource:
            del self.jobs[job["name"]]
            return {}

        return self._operations.begin(job["name"], "DeleteCustomJob", delete)


def _check(job: Resource) -> None:
    """Refuse a job that the service would refuse."""
    pools = job.get("jobSpec", {}).get("workerPoolSpecs", [])
    if not job.get("displayName") or not pools:
        raise GoogleError(400, "display_name and job_spec.worker_pool_specs are required.")
    if int(pools[0].get("replicaCount", 0)) != 1:
        raise GoogleError(400, "The replica count of worker pool 0 must be 1.")
    for pool in pools:
        machine = pool.get("machineSpec", {})
        if not pool.get("containerSpec", {}).get("imageUri") or not machine.get("machineType"):
            raise GoogleError(400, "Every worker pool needs container_spec.image_uri and machine_spec.machine_type.")


def _machine() -> dict[str, str]:
    """`python` and `torchrun` are this environment's, as they are the image's."""
    return {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}", "OMP_NUM_THREADS": "1"}


def _output_variables(spec: dict[str, Any]) -> dict[str, str]:
    prefix = spec.get("baseOutputDirectory", {}).get("outputUriPrefix", "").rstrip("/")
    if not prefix:
        return {}
    return {
        "AIP_MODEL_DIR": f"{prefix}/model/",
        "AIP_CHECKPOINT_DIR": f"{prefix}/checkpoints/",
        "AIP_TENSORBOARD_LOG_DIR": f"{prefix}/logs/",
    }


def _move(job: Resource, state: str) -> None:
    if job["state"] in ENDED:
        return
    job["state"] = state
    job["updateTime"] = now()
    if state == "JOB_STATE_RUNNING":
        job["startTime"] = job["updateTime"]
    elif state in ENDED:
        job["endTime"] = job["updateTime"]


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
