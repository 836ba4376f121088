"""python -m train.memorised: how much of its training text a checkpoint repeats, beside n-grams and held-out text."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gpt.errors import CheckpointError, CorpusError, GPTError

if TYPE_CHECKING:
    from gpt.checkpoint import Checkpoint
    from train.corpus import Corpus
    from train.shared_runs import SharedRuns

ROOT = Path(__file__).resolve().parent.parent
# What numbers may be given. In texts shorter than a long run none could be found.
RANGES = {"samples": (1, 10_000), "characters": (50, 100_000), "top-k": (0, 2**31), "seed": (0, 2**62)}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.memorised",
        description="Have a checkpoint write texts, and find in each the longest run of characters that the training "
        "text has too; beside texts by n-grams of the same training text, and pieces of the validation text.",
        epilog="columns: the number of texts; the median, 90th percentile and maximum, over the texts, of the longest "
        "shared run, in characters; the part of all characters that stand in shared runs of 50 or more; the longest.",
    )
    parser.add_argument("checkpoint", type=Path, help="folder of the checkpoint, such as checkpoints/laptop")
    parser.add_argument(
        "--data",
        help="the text it was trained on: shakespeare, sonnets, or a UTF-8 file (default: the one of the two that its "
        "record names, else shakespeare)",
    )
    parser.add_argument(
        "--train-fraction",
        type=float,
        default=0.9,
        metavar="X",
        help="the part of the characters that it was trained on (default: %(default)s)",
    )
    parser.add_argument("--samples", type=int, default=64, metavar="N", help="texts of a source (default: %(default)s)")
    parser.add_argument("--characters", type=int, default=1000, metavar="N", help="of each text (default: %(default)s)")
    parser.add_argument(
        "--temperatures", default="0.5,0.8,1", metavar="LIST", help="commas between them (default: %(default)s)"
    )
    parser.add_argument(
        "--top-k",
        type=int,
        default=50,
        metavar="N",
        help="draw from the N most probable tokens; 0: from all (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="the same seed repeats the texts (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--record", action="store_true", help="also write the figures into the checkpoint's record and its card"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the figures as the arguments say; give the exit code: 0, or 1 after a failure in words."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    temperatures = []
    for word in arguments.temperatures.split(","):
        try:
            temperatures.append(float(word))
        except ValueError:
            temperatures.append(-1.0)
        if not 0 <= temperatures[-1] <= 10:
            parser.error(f"temperatures has {word.strip()!r}; give numbers from 0 to 10 with commas between them")
    if not 0 < arguments.train_fraction < 1:
        parser.error(f"train-fraction is {arguments.train_fraction}; give a number between 0 and 1")
    for name, (low, high) in RANGES.items():
        if not low <= (value := getattr(arguments, name.replace("-", "_"))) <= high:
            parser.error(f"{name} is {value}; give a whole number from {low:,} to {high:,}")
    try:
        _report(arguments, temperatures)
    except GPTError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _report(arguments: argparse.Namespace, temperatures: list[float]) -> None:
    from gpt.checkpoint import load_checkpoint
    from gpt.device import choose_device
    from train.shared_runs import LONG_RUN

    checkpoint = load_checkpoint(arguments.checkpoint, choose_device(arguments.device))
    corpus = _training_corpus(checkpoint, arguments)
    train_text, validation_text = corpus.split(arguments.train_fraction)
    if not arguments.json:
        print(
            f"{arguments.checkpoint}: the longest runs of characters that texts of {arguments.characters:,} have in "
            f"common with the training part of {corpus.name}, {len(train_text):,} characters"
        )
        print(f"{'':<26}texts  median    90 %  maximum  in runs of {LONG_RUN} or more  longest", flush=True)
    found = []
    for runs in _measure(checkpoint, train_text, validation_text, arguments, temperatures):
        found.append(dataclasses.asdict(runs))
        if not arguments.json:
            print(
                f"{runs.source:<26}{runs.texts:>5}  {runs.median:>6g}  {runs.percentile_90:>6g}  {runs.maximum:>7}  "
                f"{runs.covered:>21.2%}  {runs.longest!r}",
                flush=True,
            )
    if arguments.record:
        _keep(arguments.checkpoint, found)
    if arguments.json:
        facts = {"checkpoint": str(arguments.checkpoint), "corpus": corpus.name, "corpus_sha256": corpus.sha256}
        numbers = {"train_characters": len(train_text), "top_k": arguments.top_k, "seed": arguments.seed}
        print(json.dumps({**facts, **numbers, "sources": found}, indent=2))


def _training_corpus(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Corpus:
    """The text that the checkpoint was trained on; CorpusError if its record says that it was another."""
    from train.corpus import NAMES, load_corpus
    from train.ngram import MAX_CHARACTERS

    record = checkpoint.record
    name = arguments.data or (record.corpus if record.corpus in NAMES else NAMES[0])
    corpus = load_corpus(name, ROOT / "data", min_characters=100)
    if record.corpus_sha256 and record.corpus_sha256 != corpus.sha256:
        raise CorpusError(
            f"the checkpoint {arguments.checkpoint} was trained on {record.corpus} (sha256 "
            f"{record.corpus_sha256[:12]}...), not on {corpus.name} ({corpus.sha256[:12]}...); name its text by --data"
        )
    if len(corpus.text) > MAX_CHARACTERS:
        raise CorpusError(
            f"the corpus {corpus.name} has {len(corpus.text):,} characters; at most {MAX_CHARACTERS:,} can be searched"
        )
    return corpus


def _measure(
    checkpoint: Checkpoint,
    train_text: str,
    validation_text: str,
    arguments: argparse.Namespace,
    temperatures: list[float],
) -> Iterator[SharedRuns]:
    """The model's texts at each temperature, those of n-grams, pieces of the validation text: one after the other."""
    from train.ngram import NgramSampler
    from train.sample import sample_texts
    from train.shared_runs import held_out_pieces, shared_runs
    from train.suffix_array import SuffixArray

    samples, characters, top_k, seed = arguments.samples, arguments.characters, arguments.top_k, arguments.seed
    pieces = held_out_pieces(validation_text, samples, characters)  # first, since it may fail
    index = SuffixArray(train_text)
    prompt = "\n" if "\n" in train_text else train_text[0]
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    for number, temperature in enumerate(temperatures):
        first = seed + number * samples
        texts = sample_texts(
            model, tokenizer, prompt, samples, characters, temperature=temperature, top_k=top_k, seed=first
        )
        source = f"temperature {temperature:g}" + (f", top-k {top_k}" if top_k else "")
        yield shared_runs(index, source, texts)
    sampler = NgramSampler(train_text)
    for order in range(1, sampler.max_order + 1):
        texts = sampler.sample(order, samples, characters, prompt=prompt, seed=seed + order)
        yield shared_runs(index, f"{order}-grams", texts)
    yield shared_runs(index, "validation text", pieces)


def _keep(folder: Path, rows: list[dict[str, str | float]]) -> None:
    """Write the rows into the checkpoint's record, and the table made of them into its card."""
    from gpt.atomic import write_file
    from gpt.checkpoint_info import CARD_FILE, RECORD_FILE, read_card, read_record
    from train.card import with_memorisation

    record = dataclasses.replace(read_record(folder), memorisation=rows)
    card = with_memorisation(read_card(folder) or f"# {folder.name}\n", rows)
    try:
        write_file(folder / RECORD_FILE, record.to_json())
        write_file(folder / CARD_FILE, card)
    except OSError as error:
        raise CheckpointError(
            f"the figures cannot be written into {folder} ({error.strerror or error}); free some space, or change the "
            "folder's rights"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
