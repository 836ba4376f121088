"""python -m train: make a checkpoint. The same by hand, under torchrun, in a container and from the page."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import shlex
import signal
import sys
import types
import typing
from pathlib import Path

from gpt.errors import GPTError, TrainingError
from train.config import TrainConfig
from train.presets import PRESETS

ROOT = Path(__file__).resolve().parent.parent


def build_parser() -> argparse.ArgumentParser:
    """The command line: the run's own options, then an option for every field of TrainConfig."""
    presets = "\n".join(
        f"  {name:<12} {preset.summary}\n{'':<15}takes: {preset.minutes}; reaches: {preset.result}"
        for name, preset in PRESETS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m train",
        description="Train a GPT from nothing. Without a network: --data sonnets.",
        epilog="presets (results in nats per character on the whole validation split of Tiny Shakespeare):\n"
        f"{presets}\n\n"
        "units: losses are nats per token, figures nats per character; lengths of a run are optimizer steps, never\n"
        "seconds, so that a run repeats; a token is a character, or a piece of about 2.6 (bpe of 1,024) or 3.1\n"
        "characters (gpt2).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--preset", choices=sorted(PRESETS), default="laptop", help="the settings to begin with (default: laptop)"
    )
    parser.add_argument("--out", type=Path, help="run folder (default: checkpoints/PRESET-run)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, from its last complete state"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--threads", type=int, help="threads on a CPU (default: one a core; a resumed run's own)")
    settings = parser.add_argument_group("settings, each in place of the preset's")
    hints = typing.get_type_hints(TrainConfig)
    for item in dataclasses.fields(TrainConfig):
        if item.name == "preset":
            continue
        option = "--" + item.name.replace("_", "-")
        if hints[item.name] is bool:
            settings.add_argument(
                option, action=argparse.BooleanOptionalAction, default=None, help=item.metadata["help"]
            )
        else:
            metavar = None if item.metadata["choices"] else {int: "N", float: "X", str: "TEXT"}[hints[item.name]]
            settings.add_argument(
                option,
                type=hints[item.name],
                choices=item.metadata["choices"] or None,
                metavar=metavar,
                help=item.metadata["help"],
            )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train as the arguments say; give the exit code: 0, 1 after a failure in words, 130 after Ctrl-C."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    command = shlex.join(["python", "-m", "train", *(sys.argv[1:] if argv is None else argv)])
    # Waiting threads that spin instead of sleeping make small models' steps a third faster; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "ACTIVE")
    try:
        overrides = {
            item.name: value
            for item in dataclasses.fields(TrainConfig)
            if item.name != "preset" and (value := getattr(arguments, item.name)) is not None
        }
        out: Path = arguments.out or ROOT / "checkpoints" / f"{arguments.preset}-run"
        config = _settings(arguments, out, overrides)
    except GPTError as error:
        parser.exit(2, f"python -m train: error: {error}\n")
    try:
        return _train(arguments, config, out, command)
    except GPTError as error:
        print(f"python -m train: error: {error}", file=sys.stderr)
        return 1


def _settings(arguments: argparse.Namespace, out: Path, overrides: dict[str, typing.Any]) -> TrainConfig:
    """A preset's settings with the overrides, or a resumed run's own."""
    if not arguments.resume:
        return dataclasses.replace(PRESETS[arguments.preset].config, **overrides)
    path = out / "config.json"
    try:
        config = TrainConfig.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(
            f"there is no run to resume in {out} ({error.strerror or error}); name its folder with --out"
        ) from error
    if refused := sorted(set(overrides) - {"max_steps", "patience"}):
        raise TrainingError(
            f"{', '.join('--' + name.replace('_', '-') for name in refused)} cannot change in a resumed run; "
            "only --max-steps and --patience can: leave the others out, or start anew in another folder"
        )
    return dataclasses.replace(config, **overrides)


def _train(arguments: argparse.Namespace, config: TrainConfig, out: Path, command: str) -> int:
    import torch
    from tqdm import tqdm

    from gpt.device import choose_device
    from train.distributed import ProcessGroup
    from train.run import Run
    from train.state import has_state, read_state

    device = choose_device(arguments.device)
    processes = ProcessGroup(os.environ, "nccl" if device.type == "cuda" else "gloo")
    try:
        if device.type == "cuda" and processes.world_size > 1:
            device = torch.device("cuda", processes.local_rank)
            torch.cuda.set_device(device)
        threads = arguments.threads or (read_state(out)[0].threads if arguments.resume and has_state(out) else 0)
        if threads:
            torch.set_num_threads(threads)
        resume = arguments.resume and has_state(out)
        if arguments.resume and not resume and processes.is_main:
            print("python -m train: no state was saved yet; the run begins anew", file=sys.stderr)
            for name in ("config.json", "metrics.jsonl", "train.log"):
                (out / name).unlink(missing_ok=True)
        processes.barrier()
        run = Run(
            config,
            out,
            resume=resume,
            data_root=ROOT / "data",
            checkpoints_root=ROOT / "checkpoints",
            tiktoken_cache=os.environ.get("TIKTOKEN_CACHE_DIR"),
            device=device,
            processes=processes,
            command=command,
        )
        stop = _StopRequest()
        bar = tqdm(
            total=config.max_steps,
            initial=run.trainer.state.step,
            unit="step",
            disable=not processes.is_main,
            dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else 15,
        )

        def on_step(step: int, loss: float) -> None:
            if not math.isnan(loss):
                speed = (bar.format_dict["rate"] or 0) * run.trainer.tokens_per_step
                bar.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} tokens/s", refresh=False)
            bar.update()

        with bar, stop.listening():
            outcome = run.execute(
                on_step=on_step, show=lambda text: bar.write(text, file=sys.stderr), should_stop=lambda: stop.asked
            )
        if outcome == "stopped":
            if processes.is_main:
                print(
                    f"stopped at step {run.trainer.state.step} and saved; "
                    f"go on with: python -m train --resume --out {out}",
                    file=sys.stderr,
                )
            return 130
        return 0
    finally:
        processes.close()


class _StopRequest:
    """Whether Ctrl-C or SIGTERM asked for a stop; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.asked = False

    def listening(self) -> typing.ContextManager[None]:
        import contextlib

        @contextlib.contextmanager
        def listen() -> typing.Iterator[None]:
            before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        return listen()

    def _ask(self, number: int, frame: types.FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("\nstopping after this step, and saving; once more to end at once", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
