"""python -m train: make a checkpoint. The same by hand, under torchrun, in a container and from the page."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import shlex
import sys
import typing
from pathlib import Path

from gpt.errors import ConfigError, GPTError, TrainingError
from train.config import TrainConfig
from train.folder import STATE_FOLDER, read_run_config
from train.hub_name import is_hub_name
from train.presets import PRESETS
from train.stop import StopRequest

if typing.TYPE_CHECKING:
    import torch

    from train.run import Run

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_PRESET = "laptop"


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
        "--preset", choices=sorted(PRESETS), help=f"the settings to begin with (default: {DEFAULT_PRESET})"
    )
    parser.add_argument("--out", type=Path, help="run folder (default: checkpoints/PRESET-run)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, from its last complete state"
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="train nothing: make a few steps, and print as JSON how long the run would take on this machine",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--threads", type=int, help="threads on a CPU (default: one a core; a resumed run's own)")
    add_settings(parser)
    return parser


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add an option for every setting but the preset; `overrides` reads them."""
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


def main(argv: list[str] | None = None) -> int:
    """Train as the arguments say; give the exit code.

    Returns:
        0; 1 after a failure and 2 after a wrong argument, in words on standard error; 130 after Ctrl-C or SIGTERM.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    out: Path = arguments.out or ROOT / "checkpoints" / f"{arguments.preset or DEFAULT_PRESET}-run"
    stop = StopRequest(tells=os.environ.get("RANK", "0") == "0")
    try:
        if arguments.estimate:
            return _estimate(arguments, _settings(arguments, out))
        # From the start: an interrupt that is raised inside an import may be lost there.
        with stop.listening():
            return _train(arguments, _settings(arguments, out), out, sys.argv[1:] if argv is None else argv, stop)
    except ConfigError as error:
        code, message = 2, str(error)
    except GPTError as error:
        code, message = 1, str(error)
    except OSError as error:
        code, message = 1, f"{error.filename or 'a file'} cannot be read or written ({error.strerror or error})"
    except KeyboardInterrupt:
        print(f"ended at once{_way_on(out)}", file=sys.stderr)
        return 130
    print(f"python -m train: error: {message}", file=sys.stderr)
    return code


def _way_on(out: Path) -> str:
    """What can be done with a run that has just been ended at once."""
    if (out / STATE_FOLDER).is_dir():
        return f"; --resume --out {out} goes on from what was saved before"
    command = f"--resume --out {out}" if out.exists() else "the same command"
    return f", before anything was saved; {command} begins anew"


def _settings(arguments: argparse.Namespace, out: Path) -> TrainConfig:
    """A preset's settings with the overrides, or a resumed run's own."""
    changed = overrides(arguments)
    if arguments.threads is not None and arguments.threads < 1:
        raise ConfigError(f"threads is {arguments.threads}; give a number at least 1")
    if not arguments.resume:
        preset = PRESETS[arguments.preset or DEFAULT_PRESET].config
        if init := changed.get("init", preset.init):
            from train.base import base_folder, base_settings

            folder = base_folder(init, ROOT / "checkpoints", os.environ.get("TIKTOKEN_CACHE_DIR"))
            config = base_settings(folder, preset, changed)
        else:
            config = preset.with_changes(**changed)
        return config.with_changes(data=_pinned(config.data))
    config = read_run_config(out)
    refused = sorted(set(changed) - {"max_steps", "patience", "teachers"})
    if arguments.preset not in (None, config.preset):
        refused.insert(0, "preset")
    if refused:
        raise ConfigError(
            f"{', '.join('--' + name.replace('_', '-') for name in refused)} cannot change in a resumed run; "
            "only --max-steps and --patience can, and --teachers where those have moved: leave the others out, or "
            "begin anew in another folder"
        )
    return dataclasses.replace(config, **changed)


def _pinned(data: str) -> str:
    """`--data`, a data set of the Hub with the commit that it has now, so that the run can go on with the same text."""
    if not is_hub_name(data):
        return data
    from gpt.hub.repository import Hub
    from train.hub_text import pinned

    return pinned(data, ROOT / "data", Hub())


def overrides(arguments: argparse.Namespace) -> dict[str, typing.Any]:
    """The settings that the arguments give in place of the preset's."""
    return {
        item.name: value
        for item in dataclasses.fields(TrainConfig)
        if item.name != "preset" and (value := getattr(arguments, item.name)) is not None
    }


def _estimate(arguments: argparse.Namespace, config: TrainConfig) -> int:
    import torch

    from gpt.device import choose_device
    from train.corpus import MIN_CHARACTERS, load_corpus
    from train.estimate import estimate

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    corpus = load_corpus(config.data, ROOT / "data", min_characters=MIN_CHARACTERS)
    found = estimate(config, corpus, choose_device(arguments.device))
    print(json.dumps(dataclasses.asdict(found)))
    print(
        f"about {found.seconds / 60:.1f} minutes: {found.steps:,} steps of {found.tokens_per_step:,} tokens, "
        f"{found.tokens_per_second:,.0f} tokens per second",
        file=sys.stderr,
    )
    return 0


def _train(arguments: argparse.Namespace, config: TrainConfig, out: Path, argv: list[str], stop: StopRequest) -> int:
    import torch

    from gpt.device import choose_device
    from train.distributed import ProcessGroup
    from train.run import Run
    from train.state import has_state, read_state
    from train.teachers import find_teachers

    if config.teachers:
        find_teachers(config.teachers, config.sequence_dim)  # before a text is fetched and encoded
    stop.end_at_once()
    device = choose_device(arguments.device)
    processes = ProcessGroup(os.environ, "nccl" if device.type == "cuda" else "gloo")
    try:
        if device.type == "cuda" and processes.world_size > 1:
            device = choose_device(f"cuda:{processes.local_rank}")
            torch.cuda.set_device(device)
        launcher = ["python", "-m", "train"]
        if processes.world_size > 1:
            launcher = ["torchrun", f"--nproc_per_node={processes.world_size}", "-m", "train"]
        resumes = arguments.resume and has_state(out)
        if threads := arguments.threads or (read_state(out).threads if resumes else 0):
            torch.set_num_threads(threads)
        if arguments.resume and not resumes and processes.is_main:
            print("python -m train: no state was saved yet; the run begins anew", file=sys.stderr)
        with contextlib.closing(
            Run(
                config,
                out,
                resume=arguments.resume,
                data_root=ROOT / "data",
                checkpoints_root=ROOT / "checkpoints",
                tiktoken_cache=os.environ.get("TIKTOKEN_CACHE_DIR"),
                device=device,
                processes=processes,
                command=shlex.join([*launcher, *argv]),
            )
        ) as run:
            try:
                stop.end_at_once()
                outcome = _execute(run, stop, processes.is_main)
            except KeyboardInterrupt:
                run.fail("it was ended at once, by a second request to stop")
                raise
            except Exception as error:
                run.fail(str(_in_words(error, config, device)))
                raise
        if outcome == "stopped" and processes.is_main:
            print(
                f"stopped at step {run.trainer.state.step} and saved; "
                f"go on with: {shlex.join([*launcher, '--resume', '--out', str(out)])}",
                file=sys.stderr,
            )
        return 130 if outcome == "stopped" else 0
    except (MemoryError, RuntimeError) as error:
        if (named := _in_words(error, config, device)) is not error:
            raise named from error
        raise
    finally:
        processes.close()


def _in_words(error: Exception, config: TrainConfig, device: torch.device) -> Exception:
    """The error itself, or what to do where it says that the memory does not suffice."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error):
        return TrainingError(
            f"the memory of {device} does not suffice: halve --batch-size ({config.batch_size} now) and double "
            "--accumulation-steps, which learns the same, or choose a smaller model"
        )
    return error


def _execute(run: Run, stop: StopRequest, is_main: bool) -> str:
    """Train under a progress bar; gives how it ended."""
    from tqdm import tqdm

    bar = tqdm(
        total=run.config.max_steps,
        initial=run.trainer.state.step,
        unit="step",
        disable=not is_main,
        dynamic_ncols=True,
        mininterval=0.1 if sys.stderr.isatty() else 15,
    )

    def on_step(step: int, loss: float) -> None:
        if not bar.disable and not math.isnan(loss):
            shown = bar.format_dict
            speed = (step - shown["initial"]) * run.trainer.tokens_per_step / (shown["elapsed"] or math.inf)
            used = run.utilisation(speed)
            part = "" if used is None else f", {used:.0%} of the GPU"
            bar.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} tokens/s{part}", refresh=False)
        bar.update()

    with bar:
        return run.execute(
            on_step=on_step, show=lambda text: bar.write(text, file=sys.stderr), should_stop=lambda: stop.asked
        )


if __name__ == "__main__":
    sys.exit(main())
