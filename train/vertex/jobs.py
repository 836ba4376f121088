"""Jobs: the custom jobs of a project and location: submitted, found, followed to their end, cancelled."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpt.errors import ResourceNotFoundError, VertexError
from gpt.vertex.bucket import Storage, join
from gpt.vertex.faults import translated
from gpt.vertex.session import Session
from train.folder import LOG_FILE
from train.vertex.job_spec import RUN_LABEL

TIMEOUT_S = 60
FAILURES_IN_A_ROW = 10  # of asking for a job's state, before watching gives up
ENDS = ("succeeded", "failed", "cancelled", "expired", "partially succeeded")


@dataclass(frozen=True)
class Job:
    """What is known of a job.

    Attributes:
        name: projects/P/locations/L/customJobs/ID.
        run: the run's name.
        state: the service's, in lower case: "pending", "running", "succeeded", ...
        created: when, ISO 8601.
        error: why it failed; empty if it did not.
        folder: gs:// address of the run.
    """

    name: str
    run: str
    state: str
    created: str
    error: str
    folder: str

    @property
    def id(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]


class Jobs:
    """The custom jobs that this project's command submitted.

    Args:
        session: where they are.

    Raises:
        VertexError: there are no credentials. Every method raises its subclasses too.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._client = session.client("JobServiceClient")

    def close(self) -> None:
        """Let go of the connections."""
        self._client.transport.close()

    def submit(self, custom_job: dict[str, Any]) -> Job:
        """Create the job; machines are then looked for, and cost money as soon as it runs."""
        with translated(f"the job {custom_job['display_name']}"):
            parent = self.session.parent
            return _job(self._client.create_custom_job(parent=parent, custom_job=custom_job, timeout=TIMEOUT_S))

    def list(self, run: str | None = None) -> list[Job]:
        """The jobs, newest first; only those of one run, if it is given."""
        request = {
            "parent": self.session.parent,
            "filter": f'labels.{RUN_LABEL}="{run}"' if run else f"labels.{RUN_LABEL}:*",
        }
        with translated(f"location {self.session.location} of project {self.session.project}"):
            found = [_job(job) for job in self._client.list_custom_jobs(request=request, timeout=TIMEOUT_S)]
        return sorted(found, key=lambda job: job.created, reverse=True)

    def find(self, job: str) -> Job:
        """The job of this id or full name, or the newest one of the run of this name.

        Raises:
            ResourceNotFoundError: there is none.
        """
        if not job.isdigit() and "/" not in job:
            found = self.list(job)
            if not found:
                raise ResourceNotFoundError(
                    f"no job of the run {job} is in location {self.session.location} of project "
                    f"{self.session.project}; `python -m train.vertex.job list` shows those that are"
                )
            return found[0]
        name = job if "/" in job else f"{self.session.parent}/customJobs/{job}"
        with translated(f"job {job}"):
            return _job(self._client.get_custom_job(name=name, timeout=TIMEOUT_S))

    def cancel(self, job: Job) -> None:
        """Ask the service to end a job; what the run saved stays in the bucket."""
        with translated(f"job {job.id}"):
            self._client.cancel_custom_job(name=job.name, timeout=TIMEOUT_S)

    def follow(self, job: Job, show: Callable[[str], None], poll_s: float) -> Job:
        """Tell a job's states, and the new lines of its run's log, until it ends.

        Args:
            job: to follow.
            show: given each line.
            poll_s: seconds between two looks.

        Returns:
            the job at its end.

        Raises:
            VertexError: it could not be asked for many times in a row.
        """
        with contextlib.closing(Storage(self.session.project)) as storage:
            return self._follow(job, _Log(storage, join(job.folder, "checkpoints", LOG_FILE)), show, poll_s)

    def _follow(self, job: Job, log: _Log, show: Callable[[str], None], poll_s: float) -> Job:
        shown, failures = "", 0
        while True:
            try:
                job = self.find(job.name)
                failures = 0
            except VertexError:
                failures += 1
                if failures == FAILURES_IN_A_ROW:
                    raise
            if job.state != shown:
                shown = job.state
                show(f"{time.strftime('%H:%M:%S')} {shown}{f': {job.error}' if job.error else ''}")
            for line in log.news():
                show(line)
            if job.state in ENDS:
                return job
            time.sleep(poll_s)


class _Log:
    """What has been added to an object since the last look."""

    def __init__(self, storage: Storage, address: str) -> None:
        self._storage = storage
        self._address = address
        self._seen = 0

    def news(self) -> list[str]:
        """The new whole lines; none while the bucket cannot be read, for the job itself goes on."""
        try:
            content = self._storage.read(self._address) or b""
        except VertexError:
            return []
        if len(content) < self._seen:  # another machine went on from an earlier state
            self._seen = content.rfind(b"\n") + 1
        fresh = content[self._seen : content.rfind(b"\n") + 1]
        self._seen += len(fresh)
        return fresh.decode("utf-8", errors="replace").splitlines()


def _job(resource: Any) -> Job:
    """What the service says of a job, without the SDK's types."""
    return Job(
        name=resource.name,
        run=resource.labels.get(RUN_LABEL, resource.display_name),
        state=resource.state.name.removeprefix("JOB_STATE_").replace("_", " ").lower(),
        created=resource.create_time.isoformat(timespec="seconds") if resource.create_time else "",
        error=resource.error.message,
        folder=resource.job_spec.base_output_directory.output_uri_prefix,
    )
