"""python -m train.blind: texts of checkpoints in pairs without names, to be judged, and the answers counted."""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import secrets
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpt.errors import ConfigError, CorpusError, GPTError

ROOT = Path(__file__).resolve().parent.parent
SPEAKER = re.compile(r"^([A-Z][A-Za-z' ]*):$", re.MULTILINE)
QUESTION = re.compile(r"^Pair (\d+), better \(1, 2 or =\):[ \t]*(.*?)[ \t]*$", re.MULTILINE)
SHEET_NAME = re.compile(r"^# Blind comparison ([0-9a-f]+)$", re.MULTILINE)
RANGES = {"prompts": (1, 100), "characters": (1, 10_000), "top-k": (0, 2**31), "seed": (0, 2**62)}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.blind",
        description="Have checkpoints begin from the same speakers of a text, and write what each wrote into a sheet, "
        "two at a time, in random order and without names; which is which stands in a file apart, not to be looked at. "
        "Write 1, 2 or = behind each question of the sheet; --score counts the answers.",
    )
    parser.add_argument("checkpoints", type=Path, nargs="*", metavar="CHECKPOINT", help="two folders or more")
    parser.add_argument("--score", action="store_true", help="count the answers that stand in the sheet")
    parser.add_argument(
        "--sheet", type=Path, default=Path("blind.md"), metavar="FILE", help="what is judged (default: %(default)s)"
    )
    parser.add_argument(
        "--key",
        type=Path,
        default=Path("blind-key.json"),
        metavar="FILE",
        help="which text is whose (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        default="shakespeare",
        help="whose speakers begin: shakespeare, sonnets, or a UTF-8 file (default: %(default)s)",
    )
    parser.add_argument(
        "--prompts",
        type=int,
        default=10,
        metavar="N",
        help="speakers, those with the most turns first: pairs of each two checkpoints (default: %(default)s)",
    )
    parser.add_argument("--characters", type=int, default=500, metavar="N", help="of each text (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.8, metavar="X", help="0 to 10 (default: %(default)s)")
    parser.add_argument("--top-k", type=int, default=50, metavar="N", help="0: off (default: %(default)s)")
    parser.add_argument("--seed", type=int, metavar="N", help="repeats texts and order (default: drawn, in the key)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write or score as the arguments say; give the exit code: 0, or 1 after a failure in words."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.score == bool(arguments.checkpoints):
        parser.error("give two checkpoints or more to write a sheet, or --score alone to count its answers")
    if len(arguments.checkpoints) == 1 or len(set(arguments.checkpoints)) < len(arguments.checkpoints):
        parser.error("the checkpoints are one and the same; give two different ones or more")
    if arguments.seed is None:
        arguments.seed = secrets.randbelow(2**31)
    for name, (low, high) in RANGES.items():
        if not low <= (value := getattr(arguments, name.replace("-", "_"))) <= high:
            parser.error(f"{name} is {value}; give a whole number from {low:,} to {high:,}")
    if not 0 <= arguments.temperature <= 10:
        parser.error(f"temperature is {arguments.temperature}; give a number from 0 to 10")
    try:
        if arguments.score:
            for line in score(_read(arguments.sheet), _read(arguments.key)):
                print(line)
        else:
            _write(arguments)
    except GPTError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _write(arguments: argparse.Namespace) -> None:
    from gpt.atomic import write_file
    from gpt.checkpoint import load_checkpoint
    from gpt.device import choose_device
    from train.corpus import load_corpus
    from train.sample import sample_texts

    for path in (arguments.sheet, arguments.key):
        if path.exists():
            raise ConfigError(f"{path} is there already, perhaps with answers; move it, or name another file")
    prompts = speakers(load_corpus(arguments.data, ROOT / "data").text, arguments.prompts)
    texts: dict[tuple[str, str], str] = {}
    for folder in arguments.checkpoints:
        checkpoint = load_checkpoint(folder, choose_device(arguments.device))
        for number, prompt in enumerate(prompts):
            texts[str(folder), prompt] = sample_texts(
                checkpoint.model,
                checkpoint.tokenizer,
                prompt,
                1,
                arguments.characters,
                temperature=arguments.temperature,
                top_k=arguments.top_k,
                seed=arguments.seed + number,
            )[0]
    chance = random.Random(arguments.seed)
    pairs = [
        (prompt, chance.sample(both, 2))
        for prompt in prompts
        for both in itertools.combinations(map(str, arguments.checkpoints), 2)
    ]
    chance.shuffle(pairs)
    name = f"{chance.getrandbits(48):012x}"
    settings = {key: getattr(arguments, key) for key in ("data", "characters", "temperature", "top_k", "seed")}
    key = {"sheet": name, **settings, "pairs": [{"prompt": prompt, "texts": both} for prompt, both in pairs]}
    shown = [(prompt, [texts[folder, prompt] for folder in both]) for prompt, both in pairs]
    try:
        write_file(arguments.key, json.dumps(key, indent=2) + "\n")
        write_file(arguments.sheet, sheet(name, shown))
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written ({error.strerror}); name another file") from error
    print(f"{len(pairs)} pairs are in {arguments.sheet}; write 1, 2 or = behind each question, and then")
    print(f"python -m train.blind --score --sheet {arguments.sheet} --key {arguments.key}")


def speakers(text: str, count: int) -> list[str]:
    """The prompts "NAME:" and a line break of those who have the most turns in a play.

    Raises:
        CorpusError: it has not so many.
    """
    names = [name for name, _ in Counter(SPEAKER.findall(text)).most_common(count)]
    if len(names) < count:
        raise CorpusError(f"the text has {len(names)} speakers, names with a colon on lines of their own, not {count}")
    return [f"{name}:\n" for name in names]


def sheet(name: str, pairs: Sequence[tuple[str, Sequence[str]]]) -> str:
    """The sheet's Markdown: of each pair, the prompt and its two texts, and the question."""
    parts = [f"# Blind comparison {name}\n\nWhich text reads better? Write 1, 2 or = behind each question.\n"]
    for number, (prompt, texts) in enumerate(pairs, start=1):
        parts.append(f"## Pair {number}\n")
        for place, text in enumerate(texts, start=1):
            indented = "".join(f"    {line}\n" for line in (prompt + text).split("\n"))
            parts.append(f"Text {place}:\n\n{indented}")
        parts.append(f"Pair {number}, better (1, 2 or =):\n")
    return "\n".join(parts)


def score(answered: str, key_text: str) -> Iterator[str]:
    """What the answers of a sheet say of each two checkpoints, a line each.

    Raises:
        ConfigError: an answer is none, all are missing, or the key is not the sheet's.
    """
    try:
        key: dict[str, Any] = json.loads(key_text)
        pairs = [(str(pair["texts"][0]), str(pair["texts"][1])) for pair in key["pairs"]]
        key_name = key["sheet"]
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ConfigError("the key is no file that python -m train.blind wrote; name it by --key") from error
    found = SHEET_NAME.search(answered)
    questions = QUESTION.findall(answered)
    if found is None or found[1] != key_name or [int(number) for number, _ in questions] != [*range(1, len(pairs) + 1)]:
        raise ConfigError("the key is not this sheet's, or a question of the sheet is missing; name both files again")
    wins: dict[tuple[str, ...], Counter[str]] = {tuple(sorted(pair)): Counter() for pair in pairs}
    for (number, answer), pair in zip(questions, pairs, strict=True):
        if answer not in ("", "1", "2", "="):
            raise ConfigError(f"the answer to pair {number} is {answer!r}; write 1, 2 or =, or nothing")
        if answer:
            wins[tuple(sorted(pair))][pair[int(answer) - 1] if answer != "=" else "="] += 1
    if not any(wins.values()):
        raise ConfigError("the sheet has no answers; write 1, 2 or = behind its questions")
    for (first, second), counts in sorted(wins.items()):
        decided = counts[first] + counts[second]
        line = f"{first} {counts[first]}, {second} {counts[second]}, equal {counts['=']}"
        if decided:
            low, high = wilson(counts[first], decided)
            line += f": {first} is better in {counts[first] / decided:.0%} of those decided, {low:.0%} to {high:.0%}"
        yield line
    yield "The two shares are the bounds of Wilson's interval at 95 %; where they enclose 50 %, nothing is decided."


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The interval of a binomial proportion, at 95 % unless told otherwise (Wilson 1927)."""
    share, square = successes / trials, z * z / trials
    middle = share + square / 2
    reach = (share * (1 - share) * square + square * square / 4) ** 0.5
    return max(0.0, (middle - reach) / (1 + square)), min(1.0, (middle + reach) / (1 + square))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        raise ConfigError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error


if __name__ == "__main__":
    sys.exit(main())
