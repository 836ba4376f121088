"""python -m tests.benchmarks NAME: measure one thing beside what it is compared with, in one run.

Every other file of this folder is a benchmark; its `run` takes the arguments behind its name. Figures move from
machine to machine and from hour to hour: quote the ratios.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path


def main() -> None:
    """Run the benchmark that the command line names."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure one thing beside what it is compared with, each in its own process or in turn.",
        epilog="the benchmark's own options: python -m tests.benchmarks NAME --help",
    )
    parser.add_argument("name", choices=names, help="what to measure")
    options = parser.parse_args(sys.argv[1:2])
    print(f"load before the run: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", file=sys.stderr)
    importlib.import_module(f"tests.benchmarks.{options.name}").run(sys.argv[2:])


if __name__ == "__main__":
    main()
