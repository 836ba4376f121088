"""python -m tests.emulator: the cloud for a rehearsal on this machine, until Ctrl-C.

What a terminal must export to take it for the cloud goes to standard output.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Sequence


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.emulator",
        description="Storage, Model Registry, endpoints and jobs of Google Cloud on this machine, until Ctrl-C. "
        "Prints what another terminal must export to use them.",
        epilog="exit status: 0 after Ctrl-C; 1 a port is taken; 2 an argument is wrong",
    )
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of everything (0: any that is free)")
    parser.add_argument(
        "--tls-port",
        type=int,
        default=0,
        metavar="N",
        help="port of dedicated endpoints, with TLS (0: any that is free)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal; the exit status."""
    parser = build_parser()
    options = parser.parse_args(argv)
    from tests.emulator.emulator import BUCKET, Emulator

    try:
        emulator = Emulator(port=options.port, tls_port=options.tls_port)
    except (OSError, OverflowError) as error:
        print(f"{parser.prog}: error: it cannot listen ({error}); choose other ports", file=sys.stderr)
        return 1
    ended = threading.Event()
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, lambda *_: ended.set())
    with emulator:
        for name, value in emulator.environment().items():
            print(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()
        print(f"There is one bucket, gs://{BUCKET}. Ctrl-C ends it, and all that it holds.", file=sys.stderr)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
