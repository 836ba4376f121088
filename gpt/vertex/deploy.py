"""python -m gpt.vertex.deploy: a checkpoint to an endpoint of Vertex AI, and back.

Progress and questions go to standard error, the endpoint's identifier, a plan and a list to standard output.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt.errors import ConfigError, GPTError

if TYPE_CHECKING:
    from gpt.vertex.removal import Removal
    from gpt.vertex.session import Session

PROGRAM = "python -m gpt.vertex.deploy"
NAME = "gpt"
COMMANDS = ("deploy", "list", "undeploy", "delete")
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


def build_parser() -> argparse.ArgumentParser:
    """The command line; `parse_options` lets "deploy" be left out."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Bring a checkpoint to an endpoint of Vertex AI: upload it, register it as a version of a model, "
        "deploy it, send it the traffic, undeploy what served before. Running it again changes nothing that is so "
        "already, and completes what was interrupted.",
        epilog=f"the command 'deploy' may be left out: {PROGRAM} CHECKPOINT ...; exit status: 0 done; 1 it failed; "
        "2 an argument is wrong; 130 after Ctrl-C",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    deploy = commands.add_parser("deploy", help="deploy a checkpoint", description=parser.description)
    deploy.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the checkpoint's folder")
    _add_place(deploy)
    deploy.add_argument(
        "--name", default=NAME, help="identifier of model and endpoint: a-z, 0-9 and hyphens (%(default)s)"
    )
    deploy.add_argument(
        "--bucket", required=True, metavar="gs://BUCKET", help="where the checkpoint is uploaded; a folder may follow"
    )
    deploy.add_argument(
        "--create-bucket", action="store_true", help="make the bucket, in the same location, if it is not there"
    )
    deploy.add_argument(
        "--image", required=True, metavar="URI", help="the serving image; a new one needs a new tag or its digest"
    )
    machine = deploy.add_argument_group("the machine, which costs money until it is undeployed")
    machine.add_argument("--machine-type", metavar="TYPE", help="e2-standard-2, or one that can have the accelerator")
    machine.add_argument(
        "--accelerator", metavar="GPU", help="such as NVIDIA_TESLA_T4 or NVIDIA_L4; the image must have CUDA (none)"
    )
    machine.add_argument("--accelerator-count", type=int, metavar="N", help="GPUs a machine (1)")
    machine.add_argument(
        "--min-replicas", type=int, default=1, metavar="N", help="machines that always run (%(default)s)"
    )
    machine.add_argument("--max-replicas", type=int, metavar="N", help="machines under load (as --min-replicas)")
    deploy.add_argument("--dry-run", action="store_true", help="print what would be done, and change nothing")

    listing = commands.add_parser("list", help="list the endpoints, and what is deployed")
    _add_place(listing)
    for command, text in (
        ("undeploy", "stop an endpoint's machines; the endpoint stays, and costs nothing"),
        ("delete", "undeploy, then delete the endpoint and the model with all versions"),
    ):
        removal = commands.add_parser(command, help=text, description=f"{text[0].upper()}{text[1:]}.")
        removal.add_argument("name", nargs="?", default=NAME, metavar="NAME", help="of the endpoint (%(default)s)")
        _add_place(removal)
        removal.add_argument("--yes", action="store_true", help="do not ask first")
        if command == "delete":
            removal.add_argument(
                "--files",
                action="store_true",
                help="delete the versions' checkpoints in the bucket too, which other names may share",
            )
    return parser


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--project", metavar="ID", help="the Google Cloud project (GOOGLE_CLOUD_PROJECT)")
    parser.add_argument(
        "--location", metavar="REGION", help="such as us-central1; that of bucket and image (GOOGLE_CLOUD_LOCATION)"
    )


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; what begins with no command is a checkpoint to deploy."""
    words = list(arguments)
    if words and words[0] not in (*COMMANDS, "-h", "--help"):
        words.insert(0, "deploy")
    return build_parser().parse_args(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_options(words)
    logging.getLogger("google").setLevel(logging.WARNING)  # the SDK tells every step of its own
    try:
        from gpt.vertex.session import Session

        session = Session.from_options(options.project, options.location, os.environ)
        if options.command == "list":
            return _list(session)
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", options.name):
            raise ConfigError(
                f"the name is {options.name!r}; begin with a letter, go on with a-z, 0-9 and hyphens, at most 63 in all"
            )
        return _deploy(session, options) if options.command == "deploy" else _remove(session, options)
    except GPTError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print(
            "\ninterrupted; what was begun goes on in the cloud, and a machine may cost money. "
            f"This completes it: {PROGRAM} {shlex.join(words)}",
            file=sys.stderr,
        )
        return INTERRUPTED


def _deploy(session: Session, options: argparse.Namespace) -> int:
    from gpt.vertex.artifact import Artifact
    from gpt.vertex.bucket import split
    from gpt.vertex.machine import Machine

    split(options.bucket, "bucket")
    if not re.fullmatch(r"[a-z0-9][\w.\-/:]*/[\w.\-/]+([:@][\w.\-:]+)?", options.image):
        raise ConfigError(
            f"image is {options.image!r}; give an image's address, such as "
            f"{session.location}-docker.pkg.dev/{session.project}/REPOSITORY/serve:1"
        )
    machine = Machine.from_options(
        options.machine_type,
        options.accelerator,
        options.accelerator_count,
        options.min_replicas,
        options.max_replicas,
    )
    artifact = Artifact(options.checkpoint, options.bucket)
    from gpt.vertex.deployment import Deployment

    deployment = Deployment(session, artifact, options.bucket, options.name, options.image, machine, _show)
    if options.dry_run:
        for line in deployment.plan(options.create_bucket):
            print(line)
        return 0
    deployed = deployment.execute(options.create_bucket)
    print(options.name, flush=True)
    _show(
        f"version {deployed.version} serves at the endpoint {options.name} in {session.location}. "
        f"It runs on {deployed.machine}, which costs money until this undeploys it:\n"
        f"{PROGRAM} undeploy {options.name} --project {session.project} --location {session.location}"
    )
    return 0


def _list(session: Session) -> int:
    from gpt.vertex.endpoint import list_endpoints

    session.sdk()  # which knows the locations
    endpoints = list_endpoints(session)
    for endpoint in endpoints:
        if not endpoint.deployed:
            print(f"{endpoint.id}\tnothing deployed")
        for one in endpoint.deployed:
            print(f"{endpoint.id}\tversion {one.version}\t{one.traffic} %\t{one.machine}\tsince {one.created}")
    if not endpoints:
        _show(f"there are no endpoints of this project in {session.location} of {session.project}")
    return 0


def _remove(session: Session, options: argparse.Namespace) -> int:
    if not options.yes and not sys.stdin.isatty():
        raise ConfigError(f"{options.command} asks first, and there is no terminal to ask on; add --yes")
    from gpt.vertex.removal import Removal

    removal = Removal(session, options.name, _show)
    if options.command == "undeploy" and not removal.deployed:
        _show(f"nothing is deployed to {options.name}")
        return 0
    files = options.command == "delete" and options.files
    if not options.yes and not _agreed(removal, options.name, options.command, files):
        _show("nothing was changed")
        return 0
    if options.command == "undeploy":
        removal.undeploy()
        _show(f"nothing of {options.name} costs money for machines any more")
    else:
        removal.delete(files)
        _show(f"{options.name} is deleted")
    return 0


def _agreed(removal: Removal, name: str, command: str, files: bool) -> bool:
    """Ask on the terminal, naming all that would go."""
    going = [f"version {one.version} on {one.machine}" for one in removal.deployed]
    if command == "delete":
        going += [f"the endpoint {name}"] if removal.has_endpoint else []
        count = len(removal.versions)
        going += [f"the model {name} with {count} version{'s' * (count != 1)}"] if count else []
        going += sorted({version.artifact_uri for version in removal.versions}) if files else []
    print(f"This {'stops' if command == 'undeploy' else 'deletes'} {', '.join(going)}; ", end="", file=sys.stderr)
    print(f"requests to {name} fail from then on. {command.capitalize()}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _show(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
