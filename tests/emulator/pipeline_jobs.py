"""Pipeline jobs: accepted, recorded, and run by a function that a test may give."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable

from starlette.routing import Route

from tests.emulator.call import Call, Resource, now, route
from tests.emulator.google_error import GoogleError, not_found
from tests.emulator.listing import listing
from tests.emulator.operations import Operations

ENDED = ("PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED", "PIPELINE_STATE_CANCELLED")


class PipelineJobs:
    """The pipeline jobs of every location, by full name.

    `run` is called with a job's resource in a thread of its own; an exception fails the job. Without it a job is
    pending, then running, then succeeded, one step each time somebody asks for it.
    """

    def __init__(self, operations: Operations) -> None:
        self.jobs: dict[str, Resource] = {}
        self.run: Callable[[Resource], None] | None = None
        self._operations = operations
        self._numbers = itertools.count(9001)
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        return [
            route("POST", "pipelineJobs", self._create),
            route("GET", "pipelineJobs", lambda call: listing(call, "pipelineJobs", self._here(call))),
            route("POST", "pipelineJobs/{job}:cancel", self._cancel),
            route("GET", "pipelineJobs/{job}", self._get),
            route("DELETE", "pipelineJobs/{job}", self._delete),
        ]

    def clear(self) -> None:
        """Forget every job, and how they are run."""
        for task in self._tasks:
            task.cancel()
        self.jobs.clear()
        self.run = None

    def _here(self, call: Call) -> list[Resource]:
        return [job for name, job in self.jobs.items() if name.startswith(f"{call.parent}/")]

    def _find(self, call: Call) -> Resource:
        name = f"{call.parent}/pipelineJobs/{call.ids['job']}"
        if name not in self.jobs:
            raise not_found(name)
        return self.jobs[name]

    def _create(self, call: Call) -> Resource:
        identifier = call.query.get("pipelineJobId") or str(next(self._numbers))
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", identifier):
            raise GoogleError(400, f"Invalid pipeline_job_id: {identifier}")
        if not call.body.get("pipelineSpec") and not call.body.get("templateUri"):
            raise GoogleError(400, "Either pipeline_spec or template_uri must be set.")
        if not call.body.get("runtimeConfig", {}).get("gcsOutputDirectory", "").startswith("gs://"):
            raise GoogleError(400, "runtime_config.gcs_output_directory must be a path in a bucket.")
        name = f"{call.parent}/pipelineJobs/{identifier}"
        if name in self.jobs:
            raise GoogleError(409, f"PipelineJob {name} already exists.")
        moment = now()
        job = {**call.body, "name": name, "createTime": moment, "updateTime": moment}
        job["state"] = "PIPELINE_STATE_PENDING"
        self.jobs[name] = job
        if self.run is not None:
            task = asyncio.get_running_loop().create_task(self._execute(job, self.run))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return job

    async def _execute(self, job: Resource, run: Callable[[Resource], None]) -> None:
        _move(job, "PIPELINE_STATE_RUNNING")
        try:
            await asyncio.to_thread(run, job)
        except Exception as error:
            job["error"] = {"code": 9, "message": f"The pipeline failed: {error}"}
            _move(job, "PIPELINE_STATE_FAILED")
        else:
            _move(job, "PIPELINE_STATE_SUCCEEDED")

    def _get(self, call: Call) -> Resource:
        job = self._find(call)
        seen = dict(job)
        if self.run is None and job["state"] not in ENDED:
            running = job["state"] == "PIPELINE_STATE_RUNNING"
            _move(job, "PIPELINE_STATE_SUCCEEDED" if running else "PIPELINE_STATE_RUNNING")
        return seen

    def _cancel(self, call: Call) -> Resource:
        job = self._find(call)
        if job["state"] not in ENDED:
            _move(job, "PIPELINE_STATE_CANCELLED")
        return {}

    def _delete(self, call: Call) -> Resource:
        job = self._find(call)

        def delete() -> Resource:
            del self.jobs[job["name"]]
            return {}

        return self._operations.begin(job["name"], "DeletePipelineJob", delete)


def _move(job: Resource, state: str) -> None:
    if job["state"] in ENDED:
        return
    job["state"] = state
    job["updateTime"] = now()
    if state == "PIPELINE_STATE_RUNNING":
        job["startTime"] = job["updateTime"]
    elif state in ENDED:
        job["endTime"] = job["updateTime"]
