"""The Dockerfile and .dockerignore as data: what can be known of an image without an engine that builds it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A word, with the variables in it: $NAME or ${NAME}.
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")


@dataclass
class Stage:
    """One FROM and what follows it, with what it inherits.

    Attributes:
        name: after AS.
        base: the image or the stage that it begins with.
        instructions: each with its keyword and the rest of its line, the base's first.
    """

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def values(self, keyword: str) -> list[str]:
        return [value for name, value in self.instructions if name == keyword]

    @property
    def environment(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for value in self.values("ENV"):
            for word in shlex.split(value):
                name, _, text = word.partition("=")
                found[name] = _VARIABLE.sub(lambda match: found.get(match[1] or match[2], match[0]), text)
        return found

    @property
    def entry_point(self) -> list[str]:
        words: list[str] = json.loads(self.values("ENTRYPOINT")[-1])
        return words

    @property
    def health_check(self) -> list[str]:
        """The words of the command; empty for NONE."""
        value = self.values("HEALTHCHECK")[-1]
        words: list[str] = [] if value == "NONE" else json.loads(value.partition("CMD ")[2])
        return words

    @property
    def copies(self) -> list[tuple[str, str, str]]:
        """Every COPY's sources and target: the stage that it copies from (empty for the checkout), source, target."""
        found = []
        for value in self.values("COPY"):
            words = shlex.split(value)
            options = [word for word in words if word.startswith("--")]
            stage = next((word.removeprefix("--from=") for word in options if word.startswith("--from=")), "")
            *sources, target = [word for word in words if not word.startswith("--")]
            found += [(stage, source, target) for source in sources]
        return found

    @property
    def run_lines(self) -> str:
        return "\n".join(self.values("RUN"))


def read_stages(text: str) -> dict[str, Stage]:
    """The stages of a Dockerfile, in their order."""
    stages: dict[str, Stage] = {}
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        keyword, _, value = line.partition(" ")
        if keyword == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", value).groups()  # type: ignore[union-attr]
            stages[name] = Stage(name, base, list(stages[base].instructions) if base in stages else [])
        else:
            list(stages.values())[-1].instructions.append((keyword, value.strip()))
    return stages


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore keeps a path out: the last pattern that matches it, or a folder above it, decides."""
    parents = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
    ignored = False
    for pattern in patterns:
        expression = _expression(pattern.removeprefix("!").strip("/"))
        if any(expression.fullmatch(candidate) for candidate in parents):
            ignored = not pattern.startswith("!")
    return ignored


def read_patterns(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def copy_into(stage: Stage, target: Path, patterns: list[str]) -> None:
    """Lay out what the image has in its working folder: every COPY from the checkout, without what is ignored."""
    for _, source, place in (copy for copy in stage.copies if not copy[0]):
        path = ROOT / source.rstrip("/")
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        for file in files:
            name = file.relative_to(ROOT).as_posix()
            if not is_ignored(name, patterns):
                goal = target / place if path.is_file() else target / place / file.relative_to(path)
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, goal)


def _expression(pattern: str) -> re.Pattern[str]:
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts))
