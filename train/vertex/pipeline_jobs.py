"""PipelineJobs: pipelines on Vertex AI: submitted, followed to their end, cancelled."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpt.errors import TrainingError, VertexError
from gpt.vertex.faults import translated
from gpt.vertex.registry import LABELS
from gpt.vertex.session import Session

TIMEOUT_S = 60
FAILURES_IN_A_ROW = 10  # of asking for a job's state, before following gives up
ENDS = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class PipelineJob:
    """A pipeline's run in the cloud.

    Attributes:
        name: projects/P/locations/L/pipelineJobs/ID.
        state: in lower case: "pending", "running", "succeeded", ...
        error: why it failed; empty if it did not.
        steps: the state of each step that is known.
        page: where a browser shows it.
    """

    name: str
    state: str
    error: str
    steps: dict[str, str]
    page: str


class PipelineJobs:
    """The pipelines of a project and location.

    The SDK's own PipelineJob asks another service for the project's number first, and waits for a minute where that
    cannot be reached; the service itself needs no such thing.

    Args:
        session: where.

    Raises:
        VertexError: there are no credentials. Every method raises its subclasses too.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client = session.client("PipelineServiceClient")

    def close(self) -> None:
        """Let go of the connections."""
        self._client.transport.close()

    def submit(
        self,
        job_id: str,
        pipeline: dict[str, Any],
        parameters: dict[str, Any],
        folder: str,
        service_account: str | None,
    ) -> PipelineJob:
        """Start a pipeline.

        Args:
            job_id: lower-case letters, digits and dashes.
            pipeline: compiled.
            parameters: its values.
            folder: gs:// address for the files of its steps.
            service_account: that they act as; None for the project's default.
        """
        job: dict[str, Any] = {
            "display_name": job_id,
            "labels": LABELS,
            "pipeline_spec": pipeline,
            "runtime_config": {"gcs_output_directory": folder, "parameter_values": parameters},
        }
        if service_account:
            job["service_account"] = service_account
        with translated(f"the pipeline {job_id}"):
            return self._job(
                self._client.create_pipeline_job(
                    parent=self._session.parent, pipeline_job=job, pipeline_job_id=job_id, timeout=TIMEOUT_S
                )
            )

    def cancel(self, job_id: str) -> None:
        """Ask the service to end a pipeline."""
        with translated(f"the pipeline {job_id}"):
            self._client.cancel_pipeline_job(name=f"{self._session.parent}/pipelineJobs/{job_id}", timeout=TIMEOUT_S)

    def follow(self, job: PipelineJob, show: Callable[[str], None], poll_s: float) -> None:
        """Tell the states of a pipeline and of its steps until it succeeds.

        Args:
            job: to follow.
            show: given each line.
            poll_s: seconds between two looks.

        Raises:
            TrainingError: it failed, or was cancelled.
            VertexError: it could not be asked for many times in a row.
        """
        shown: dict[str, str] = {}
        failures = 0
        while True:
            try:
                with translated(f"the pipeline {job.name}"):
                    job = self._job(self._client.get_pipeline_job(name=job.name, timeout=TIMEOUT_S))
                failures = 0
            except VertexError:
                failures += 1
                if failures == FAILURES_IN_A_ROW:
                    raise
            for what, state in {**job.steps, "the pipeline": job.state}.items():
                if shown.get(what) != state:
                    shown[what] = state
                    show(f"{time.strftime('%H:%M:%S')} {what}: {state}")
            if job.state == "succeeded":
                return
            if job.state in ENDS:
                raise TrainingError(f"the pipeline {job.state}{f' ({job.error})' if job.error else ''}; see {job.page}")
            time.sleep(poll_s)

    def _job(self, resource: Any) -> PipelineJob:
        identifier = resource.name.rpartition("/")[2]
        place = f"locations/{self._session.location}/runs/{identifier}?project={self._session.project}"
        return PipelineJob(
            name=resource.name,
            state=resource.state.name.removeprefix("PIPELINE_STATE_").replace("_", " ").lower(),
            error=resource.error.message,
            steps={
                task.task_name: task.state.name.replace("_", " ").lower() for task in resource.job_detail.task_details
            },
            page=f"https://console.cloud.google.com/vertex-ai/pipelines/{place}",
        )
