"""Several benchmarks, one after the other, each a process of its own: what they measured, as one JSON.

A benchmark that fails, or that is interrupted, costs what it had not measured yet, and nothing of the others.
"""

from __future__ import annotations

import datetime
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt.atomic import write_file
from tests.benchmarks._machine import load, machine, versions
from tests.benchmarks._record import read_record

ROWS = "{rows}"
"""Stands in a command line for the file of its Record."""
GRACE_S = 30.0
"""Of an interrupted benchmark, in which it says what it measured."""


def measure(commands: Mapping[str, Sequence[str]], path: Path, *, quick: bool) -> bool:
    """Run the benchmarks, and write the JSON after each.

    Args:
        commands: by the benchmark's name, its command line; ROWS is a word of it.
        path: of the JSON.
        quick: whether the commands are the short ones, which the JSON says.

    Returns:
        whether all of them succeeded.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was measured until then is in the JSON.
    """
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine(),
        "versions": versions(),
        "benchmarks": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, command) in enumerate(commands.items(), 1):
            print(f"\n== {name} ({number} of {len(commands)}), load {load():.2f}", flush=True)
            rows = Path(folder) / f"{name}.jsonl"
            one: dict[str, Any] = {"name": name, "load_before": load()}
            started = time.monotonic()
            try:
                failure = _run([str(rows) if word == ROWS else word for word in command])
                if failure is None and not read_record(rows)[0]:
                    failure = "it measured nothing"
            except KeyboardInterrupt:
                failure = "interrupted"
                raise
            finally:
                measured, missing = read_record(rows)
                one |= {"load_after": load(), "seconds": round(time.monotonic() - started, 1), "failure": failure}
                found["benchmarks"].append(one | {"missing": missing, "rows": measured})
                write_file(path, json.dumps(found, indent=1) + "\n")
            if failure:
                print(f"{name} failed: {failure}; the others go on", file=sys.stderr, flush=True)
    failed = [one["name"] for one in found["benchmarks"] if one["failure"]]
    if failed:
        print(f"without all of {', '.join(failed)}, which failed", file=sys.stderr)
    return not failed


def _run(command: Sequence[str]) -> str | None:
    """Run to the end; why it failed, if it did. KeyboardInterrupt waits until the process has ended."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        said = ""
        try:
            for line in process.stderr:  # shown as it comes, and its last line kept
                print(line, end="", file=sys.stderr, flush=True)
                said = line.strip() or said
            status = process.wait()
        except KeyboardInterrupt:
            _end(process)
            raise
    if status < 0:
        return f"it was ended by {signal.Signals(-status).name}"
    return (said or f"exit status {status}") if status else None


def _end(process: subprocess.Popen[str]) -> None:
    """Wait for a process that Ctrl-C reached too; tell one that goes on, and at last kill it."""
    for stop in (None, signal.SIGINT, signal.SIGKILL):
        if stop is not None:
            process.send_signal(stop)
        try:
            process.communicate(timeout=3.0 if stop is None else GRACE_S)
            return
        except subprocess.TimeoutExpired:
            continue
