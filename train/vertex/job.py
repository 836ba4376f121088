"""python -m train.vertex.job: the training command, on machines of Vertex AI.

The job's name goes to standard output, what happens to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpt.errors import ConfigError, GPTError, RequestError, TrainingError

if TYPE_CHECKING:
    from gpt.vertex.bucket import Storage
    from gpt.vertex.session import Session
    from train.vertex.job_spec import JobSpec
    from train.vertex.jobs import Job, Jobs

COMMANDS = {
    "list": "the jobs and their states, newest first",
    "watch": "follow a job to its end",
    "cancel": "end a job; what its run saved stays in the bucket",
}
DETACHED = 130  # 128 + SIGINT, as a shell reports it
POLL_S = 10.0


def build_parser() -> argparse.ArgumentParser:
    """The command line that submits a job; what it does not know is an option of python -m train."""
    commands = "\n".join(f"  python -m train.vertex.job {name:<12} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m train.vertex.job",
        usage="%(prog)s [options] [options of python -m train]\n       %(prog)s {list,watch,cancel} --help",
        description="Train on machines of Vertex AI: the same options as python -m train, and these. The run is\n"
        "kept in the bucket while it trains, so a job that loses its machine goes on from its last complete state.",
        epilog=f"more commands:\n{commands}\n\n"
        "exit status: 0 the run is finished, or submitted with --no-wait; 1 it failed; 2 an argument is wrong;\n"
        "130 after Ctrl-C, which leaves the job alone and says how to watch or cancel it\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_place(parser)
    parser.add_argument(
        "--bucket", required=True, metavar="ADDRESS", help="gs://bucket, or a folder in it, for the run"
    )
    parser.add_argument("--image", required=True, help="the training image (Dockerfile, target train) in a registry")
    parser.add_argument("--name", help="the run's (default: the preset and the time)")
    parser.add_argument("--machine-type", metavar="TYPE", help="of each machine (default: g2-standard-8 with its GPU)")
    parser.add_argument(
        "--accelerator", default="NVIDIA_L4", metavar="GPU", help="such as NVIDIA_TESLA_T4 (default: %(default)s)"
    )
    parser.add_argument(
        "--accelerator-count",
        type=int,
        default=1,
        metavar="N",
        help="GPUs of each machine, a process each; 0 trains on its CPU (default: %(default)s)",
    )
    parser.add_argument(
        "--machines", type=int, default=1, metavar="N", help="that train together (default: %(default)s)"
    )
    parser.add_argument(
        "--spot", action="store_true", help="cheaper machines that may be taken away; the job goes on on others"
    )
    parser.add_argument("--max-hours", type=float, metavar="X", help="end the job after this time (default: 7 days)")
    parser.add_argument("--service-account", metavar="EMAIL", help="that the job acts as (default: the project's own)")
    parser.add_argument("--resume", action="store_true", help="go on with the run --name in the bucket")
    parser.add_argument("--no-wait", action="store_true", help="submit, and leave")
    parser.add_argument("--dry-run", action="store_true", help="print the job as JSON, and submit nothing")
    return parser


def build_command_parser(command: str) -> argparse.ArgumentParser:
    """The command line of one of COMMANDS."""
    parser = argparse.ArgumentParser(
        prog=f"python -m train.vertex.job {command}",
        description=f"{COMMANDS[command].capitalize()}.",
        epilog="exit status: 0 done; 1 it, or the job, failed; 2 an argument is wrong; 130 after Ctrl-C",
        allow_abbrev=False,
    )
    _add_place(parser)
    if command != "list":
        parser.add_argument("job", help="the run's name, or the job's id")
    return parser


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--project", help="Google Cloud project (default: GOOGLE_CLOUD_PROJECT)")
    parser.add_argument("--location", help="such as us-central1 (default: GOOGLE_CLOUD_LOCATION)")


def main(argv: Sequence[str] | None = None) -> int:
    """Do as the arguments say; the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = words.pop(0) if words and words[0] in COMMANDS else ""
    try:
        if command:
            return _command(command, build_command_parser(command).parse_args(words))
        return _submit(*build_parser().parse_known_args(words))
    except GPTError as error:
        print(f"python -m train.vertex.job: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, (ConfigError, RequestError)) else 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return DETACHED


def _command(command: str, arguments: argparse.Namespace) -> int:
    from gpt.vertex.session import Session
    from train.vertex.jobs import ENDS, Jobs

    with contextlib.closing(Jobs(Session.from_options(arguments.project, arguments.location, os.environ))) as jobs:
        if command == "list":
            for job in jobs.list():
                print(f"{job.id}\t{job.run}\t{job.state}\t{job.created}")
            return 0
        job = jobs.find(arguments.job)
        if command == "cancel":
            if job.state in ENDS:
                _say(f"job {job.id} of the run {job.run} has ended already: {job.state}; its run is in {job.folder}")
                return 0
            jobs.cancel(job)
            _say(f"job {job.id} of the run {job.run} is asked to end; what it saved stays in {job.folder}")
            return 0
        return _watch(jobs, job)


def _submit(arguments: argparse.Namespace, words: list[str]) -> int:
    from gpt.vertex.bucket import Storage, join
    from gpt.vertex.session import Session
    from train.vertex.job_spec import JobSpec
    from train.vertex.jobs import Jobs
    from train.vertex.train_options import TrainOptions

    session = Session.from_options(arguments.project, arguments.location, os.environ)
    options = TrainOptions.parse(words)
    if arguments.resume:
        options.check_resumable()
        if not arguments.name:
            raise ConfigError("name is not given; --resume needs the --name of the run to go on with")
    spec = JobSpec(
        name=arguments.name or f"{options.preset}-{time.strftime('%Y%m%d-%H%M%S')}",
        bucket=arguments.bucket,
        image=arguments.image,
        machine_type=arguments.machine_type,
        accelerator=arguments.accelerator,
        accelerator_count=arguments.accelerator_count,
        machines=arguments.machines,
        spot=arguments.spot,
        max_hours=arguments.max_hours,
        service_account=arguments.service_account,
    )
    options.check_text()
    text = None if options.is_named else join(spec.folder, "text", options.config.data.rpartition("/")[2])
    if arguments.dry_run:
        print(json.dumps({"parent": session.parent, "custom_job": spec.custom_job(options.words, text)}, indent=2))
        return 0
    with contextlib.closing(Storage(session.project)) as storage:
        if arguments.resume:
            text = _text_of_run(storage, spec)
        else:
            _check_free(storage, spec)
            if text:
                options.send_text(storage, text)
    with contextlib.closing(Jobs(session)) as jobs:
        job = jobs.submit(spec.custom_job(options.words, text))
        print(job.name, flush=True)
        if arguments.no_wait:
            _say(_how_to_go_on(session, job))
            return 0
        return _watch(jobs, job)


def _check_free(storage: Storage, spec: JobSpec) -> None:
    """Raise TrainingError if the bucket has a run of this name."""
    if any(name.startswith(("checkpoints/", "model/")) for name in storage.list(spec.folder)):
        raise TrainingError(f"{spec.folder} has a run already; go on with it with --resume, or choose another --name")


def _text_of_run(storage: Storage, spec: JobSpec) -> str | None:
    """The address of the text that the run in the bucket began with; None if it was a named one.

    Raises:
        TrainingError: there is no such run.
    """
    from gpt.vertex.bucket import join
    from train.vertex.backup import MANIFEST

    present = storage.list(spec.folder)
    if f"checkpoints/{MANIFEST}" not in present:
        raise TrainingError(
            f"{spec.folder} has no run to go on with; check --name and --bucket, or begin it without --resume"
        )
    return next((join(spec.folder, name) for name in present if name.startswith("text/")), None)


def _watch(jobs: Jobs, job: Job) -> int:
    """Follow a job to its end; the exit status."""
    from gpt.vertex.bucket import join

    try:
        job = jobs.follow(job, _say, POLL_S)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        _say(_how_to_go_on(jobs.session, job))
        return DETACHED
    if job.state != "succeeded":
        raise TrainingError(
            f"the job {job.id} of the run {job.run} {job.state}{f' ({job.error})' if job.error else ''}; what it saved "
            f"is in {job.folder}, and --resume --name {job.run} goes on with it"
        )
    _say(f"the checkpoint is in {join(job.folder, 'model')}")
    return 0


def _how_to_go_on(session: Session, job: Job) -> str:
    place = f"--project {session.project} --location {session.location}"
    return (
        f"the job goes on, and costs money until it ends; python -m train.vertex.job watch {job.id} {place} follows "
        f"it, python -m train.vertex.job cancel {job.id} {place} ends it"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
