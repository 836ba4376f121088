"""How long a visitor waits: from starting `python app.py` to the page's address, and to the first text it writes.

The shipped checkpoints, and a model of GPT-2's sizes with random weights and the shipped tokenizer; each is started as
often as --rounds says, a process each time. Seconds are medians; memory is what the process held at the most.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.benchmarks._record import Record

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("laptop", "shakespeare", "verse")
RANDOM = "gpt2"
QUICK = ("--rounds", "1", "--checkpoints", "laptop")


def run(arguments: list[str], record: Record) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks start",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="starts of each (%(default)s)")
    names = (*SHIPPED, RANDOM)
    parser.add_argument("--checkpoints", nargs="+", choices=names, default=names, help="of these (all)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = [ROOT / "checkpoints" / name for name in options.checkpoints if name != RANDOM]
        if RANDOM in options.checkpoints:
            checkpoints.append(_random_gpt2(Path(folder) / RANDOM))
        print(f"{'seconds from the start':<24} the page  first text   memory")
        for checkpoint in checkpoints:
            pages, firsts, memory = zip(*(_start(checkpoint) for _ in range(options.rounds)), strict=True)
            print(
                f"{checkpoint.name:<24} {statistics.median(pages):8.1f} {statistics.median(firsts):11.1f} "
                f"{max(memory) / 1e6:5.2f} GB"
            )
            record.row("from the command", f"{checkpoint.name}, the page", "s", pages)
            record.row("from the command", f"{checkpoint.name}, the first text", "s", firsts)
            record.row("from the command", f"{checkpoint.name}, memory", "GB", [held / 1e6 for held in memory])


def _random_gpt2(folder: Path) -> Path:
    """A checkpoint of GPT-2's sizes, at half precision as the shipped ones are."""
    import torch
    from safetensors.torch import save_file

    from gpt import GPT, GPTConfig

    shutil.copytree(ROOT / "checkpoints" / "shakespeare", folder)
    sizes = {"sequence_dim": 1024, "embed_dim": 768, "num_heads": 12, "num_layers": 12}
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8")) | sizes
    (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    torch.manual_seed(0)
    weights = GPT.from_config(GPTConfig(**fields)).state_dict()
    save_file({name: weight.half() for name, weight in weights.items()}, folder / "model.safetensors")
    return folder


def _start(checkpoint: Path) -> tuple[float, float, int]:
    """Seconds to the page and to the first text, and the most kilobytes held."""
    started = time.perf_counter()
    command = [sys.executable, "app.py", "--port", "0", "--device", "cpu", "--checkpoint", str(checkpoint)]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://\S+/", process.stdout.readline())
            assert address is not None, "app.py ended"
            page = time.perf_counter() - started
            _first_text(address[0])
            first = time.perf_counter() - started
            held = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            assert held is not None
            return page, first, int(held[1])
        finally:
            process.send_signal(signal.SIGINT)


def _first_text(address: str) -> None:
    """Ask the page's public endpoint for a text, and wait until some of it is there."""
    call = f"{address}gradio_api/call/generate"
    body = json.dumps({"data": ["ROMEO:", 0.8, 50, 1.0, 0.0, 1.0, 5, 1]}).encode()
    request = urllib.request.Request(call, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{call}/{event}", timeout=60) as lines:
        for line in lines:
            assert not line.startswith(b"event: error"), lines.read()
            if line.startswith(b"data: [") and len(json.loads(line[6:])[0]) > len("ROMEO:"):
                return
    raise AssertionError("the text ended before it began")
