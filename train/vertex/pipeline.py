"""python -m train.vertex.pipeline: prepare -> train -> evaluate -> gate -> register and deploy, as a Kubeflow pipeline.

The same pipeline runs on Vertex AI and on this machine. What came of it, or the job's name, goes to standard output,
everything else to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt.errors import ConfigError, GPTError

if TYPE_CHECKING:
    from gpt.vertex.session import Session
    from train.vertex.train_options import TrainOptions

PROGRAM = "python -m train.vertex.pipeline"
ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "runs" / "pipelines"
LOCAL_IMAGE = f"python:{sys.version_info.major}.{sys.version_info.minor}"  # stands for this very environment
NAME = "gpt"
DETACHED = 130  # 128 + SIGINT, as a shell reports it
POLL_S = 20.0


def build_parser() -> argparse.ArgumentParser:
    """The command line; what `run` does not know is an option of python -m train."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Train a model, score it on the validation text, and deploy it if it is good enough, as a Kubeflow "
        "pipeline: on Vertex AI, or on this machine.",
        epilog="exit status: 0 done, whether or not the model was good enough; 1 it failed; 2 an argument is wrong; "
        "130 after Ctrl-C, which leaves a pipeline in the cloud alone",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    compiled = commands.add_parser("compile", help="write the pipeline to a file", description="Write the pipeline.")
    compiled.add_argument("file", type=Path, metavar="FILE", help="to write; ends in .yaml")
    compiled.add_argument("--image", required=True, metavar="URI", help="the training image, in which its steps run")
    _add_accelerator(compiled)

    run = commands.add_parser(
        "run",
        help="run it",
        usage=f"{PROGRAM} run [options] [options of python -m train]",
        description="Run the pipeline with the options of python -m train, and these.",
        allow_abbrev=False,
    )
    run.add_argument("--local", action="store_true", help="on this machine; it deploys to the cloud all the same")
    run.add_argument("--out", type=Path, default=RUNS, metavar="FOLDER", help="of a local run's files (runs/pipelines)")
    _add_place(run)
    run.add_argument("--bucket", required=True, metavar="ADDRESS", help="gs://bucket, or a folder in it")
    run.add_argument(
        "--threshold", type=float, required=True, metavar="X", help="deploy if block nats per character are at most X"
    )
    run.add_argument("--name", default=NAME, help="of run, model and endpoint (%(default)s)")
    run.add_argument("--image", metavar="URI", help="the training image; not needed with --local")
    run.add_argument("--serving-image", required=True, metavar="URI", help="the image that serves the model")
    run.add_argument("--machine-type", metavar="TYPE", help="that serves the model (e2-standard-2)")
    _add_accelerator(run)
    run.add_argument("--service-account", metavar="EMAIL", help="that the steps act as (default: the project's own)")
    run.add_argument("--no-wait", action="store_true", help="submit, and leave")

    cancel = commands.add_parser("cancel", help="end a pipeline in the cloud", description="End a pipeline's job.")
    cancel.add_argument("job", help="its id")
    _add_place(cancel)
    return parser


def _add_accelerator(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--accelerator", default="NVIDIA_L4", metavar="GPU", help="that trains (default: %(default)s)")
    parser.add_argument(
        "--accelerator-count",
        type=int,
        default=1,
        metavar="N",
        help="how many; 0 trains on a CPU (default: %(default)s)",
    )


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--project", help="Google Cloud project (default: GOOGLE_CLOUD_PROJECT)")
    parser.add_argument("--location", help="such as us-central1 (default: GOOGLE_CLOUD_LOCATION)")


def main(argv: Sequence[str] | None = None) -> int:
    """Do as the arguments say; the exit status."""
    parser = build_parser()
    arguments, words = parser.parse_known_args(argv)
    if words and arguments.command != "run":
        parser.error(f"unrecognized arguments: {' '.join(words)}")
    try:
        if arguments.command == "compile":
            return _compile(arguments)
        return _cancel(arguments) if arguments.command == "cancel" else _run(arguments, words)
    except GPTError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return DETACHED


def _compile(arguments: argparse.Namespace) -> int:
    from train.vertex.job_spec import check_accelerator

    check_accelerator(arguments.accelerator, arguments.accelerator_count)
    if arguments.file.suffix != ".yaml":
        raise ConfigError(f"FILE is {arguments.file}; give a name that ends in .yaml")
    from train.vertex.pipeline_file import write_pipeline

    write_pipeline(arguments.file, arguments.image, arguments.accelerator, arguments.accelerator_count)
    _say(f"the pipeline is in {arguments.file}")
    return 0


def _run(arguments: argparse.Namespace, words: list[str]) -> int:
    from gpt.vertex.bucket import split
    from gpt.vertex.machine import Machine
    from gpt.vertex.session import Session
    from train.vertex.job_spec import check_accelerator, check_name
    from train.vertex.train_options import TrainOptions

    session = Session.from_options(arguments.project, arguments.location, os.environ)
    check_name(arguments.name)
    split(arguments.bucket, "bucket")
    check_accelerator(arguments.accelerator, arguments.accelerator_count)
    machine = Machine.from_options(arguments.machine_type)
    if not arguments.threshold > 0:
        raise ConfigError(f"threshold is {arguments.threshold}; give nats per character, above 0")
    options = TrainOptions.parse(words)
    parameters = {
        "data": options.config.data,
        "options": options.words,
        "train_fraction": options.config.train_fraction,
        "threshold": arguments.threshold,
        "project": session.project,
        "location": session.location,
        "bucket": arguments.bucket,
        "name": arguments.name,
        "serving_image": arguments.serving_image,
        "machine_type": machine.kind,
        "api_endpoint": session.api_endpoint or "",
    }
    if arguments.local:
        return _run_here(parameters, arguments.out, options)
    return _submit(session, arguments, parameters, options)


def _run_here(parameters: dict[str, Any], out: Path, options: TrainOptions) -> int:
    options.check_text()
    if options.is_on_this_machine:
        parameters["data"] = str(Path(options.config.data).resolve())
    from train.vertex.local_run import run_here

    # The steps are processes of their own, which have to find this project's modules.
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), path]))
    outcome = run_here(parameters, out, LOCAL_IMAGE)
    print(json.dumps(outcome, indent=2))
    if outcome["deployed"]:
        _say(f"deployed: {outcome['deployed']}; it costs money until it is undeployed")
    else:
        _say(f"not deployed: {outcome['nats']:.4f} nats per character are more than {parameters['threshold']:g}")
    return 0


def _submit(session: Session, arguments: argparse.Namespace, parameters: dict[str, Any], options: TrainOptions) -> int:
    from gpt.vertex.bucket import Storage, join
    from train.vertex.pipeline_file import read_pipeline
    from train.vertex.pipeline_jobs import PipelineJobs

    if not arguments.image:
        raise ConfigError("image is not given; name the training image in a registry, or run it here with --local")
    job_id = f"{arguments.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = join(arguments.bucket, "pipelines", job_id)
    if options.is_on_this_machine:
        parameters["data"] = join(folder, "text", Path(options.config.data).name)
        with contextlib.closing(Storage(session.project)) as storage:
            options.send_text(storage, parameters["data"])
    pipeline = read_pipeline(arguments.image, arguments.accelerator, arguments.accelerator_count)
    with contextlib.closing(PipelineJobs(session)) as jobs:
        job = jobs.submit(job_id, pipeline, parameters, folder, arguments.service_account)
        print(job.name, flush=True)
        _say(f"see it at {job.page}")
        if arguments.no_wait:
            _say(_how_to_go_on(session, job_id))
            return 0
        try:
            jobs.follow(job, _say, POLL_S)
        except KeyboardInterrupt:
            print(file=sys.stderr)
            _say(_how_to_go_on(session, job_id))
            return DETACHED
    return 0


def _cancel(arguments: argparse.Namespace) -> int:
    from gpt.vertex.session import Session
    from train.vertex.pipeline_jobs import PipelineJobs

    session = Session.from_options(arguments.project, arguments.location, os.environ)
    with contextlib.closing(PipelineJobs(session)) as jobs:
        jobs.cancel(arguments.job)
    _say(f"the pipeline {arguments.job} is asked to end; what it deployed already stays deployed")
    return 0


def _how_to_go_on(session: Session, job_id: str) -> str:
    return (
        f"the pipeline goes on, and costs money until it ends; {PROGRAM} cancel {job_id} --project {session.project} "
        f"--location {session.location} ends it"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
