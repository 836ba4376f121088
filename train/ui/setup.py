"""The setup of a run: its text, its preset and settings, and what the page says of them before it starts."""

from __future__ import annotations

import queue
import shlex
import threading
from collections.abc import Generator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from gpt.checkpoint_info import list_checkpoints
from gpt.errors import CorpusError, GPTError, UnknownCharacterError
from gpt.tokenizer import load_tokenizer
from train.command import command_options
from train.config import TrainConfig
from train.corpus import MIN_CHARACTERS, SHAKESPEARE_BYTES, Corpus, fetch_shakespeare, load_corpus
from train.corpus_report import examine, suited
from train.job import Jobs
from train.presets import PRESETS
from train.texts import TextStore
from train.ui.notes import duration, facts_html, note, sentence
from train.ui.settings import SettingsForm, chosen_config, usual_config
from train.ui.timing import Timing

OFFERED = ("laptop", "best", "character", "shakespeare", "gpt2", "tiny")
NOTHING = ""


class Setup:
    """The form, and what it means.

    Args:
        root: the repository's folder, which the commands are run in.
        jobs: the runs, and the folder of checkpoints to go on from.
        texts: those that visitors brought.
        timing: measures.
        tiktoken_cache: where GPT-2's vocabulary is looked for after the checkpoints.
    """

    def __init__(self, root: Path, jobs: Jobs, texts: TextStore, timing: Timing, tiktoken_cache: str | None) -> None:
        self._root = root
        self._jobs = jobs
        self._checkpoints = jobs.root
        self._texts = texts
        self._timing = timing
        self._tiktoken_cache = tiktoken_cache
        data = self._default_data()
        self.data = gr.Dropdown(
            self.choices(), value=data, label="Text", info="What the model learns to write like",
            elem_id="train-data", interactive=True,
        )  # fmt: skip
        with gr.Row(elem_classes=["train-row"]):
            self.upload = gr.UploadButton(
                "Upload a text\u2026", file_types=[".txt", "text/plain"], size="sm", elem_id="train-upload"
            )
            self.fetch = gr.Button("Fetch it now", size="sm", visible=False, elem_id="train-fetch")
        self.refusal = gr.HTML("", elem_id="train-refusal", apply_default_css=False)
        self.facts = gr.HTML("", elem_id="train-facts", apply_default_css=False)
        self.preset = gr.Dropdown(
            [(_title(name), name) for name in OFFERED],
            value=OFFERED[0],
            label="Preset",
            info=_summary(OFFERED[0]),
            elem_id="train-preset",
            interactive=True,
        )
        self.base = gr.Dropdown(
            [("Nothing: random weights", NOTHING)],
            value=NOTHING,
            label="Begin with",
            info="A checkpoint whose tokenizer fits the text is trained further, more gently",
            elem_id="train-base",
            interactive=True,
        )
        with gr.Accordion("Settings", open=False, elem_id="train-settings"):
            self.form = SettingsForm()
            self.one_core = gr.Checkbox(
                label="Leave the other cores free",
                info="Otherwise it takes them all, except while somebody generates text",
                elem_id="train-one-core",
            )
        self.name = gr.Textbox(label="Name of the run", max_lines=1, elem_id="train-name", max_length=64)
        # Above what comes and goes with every change, so that it stays where a visitor presses.
        self.start = gr.Button("Start", variant="primary", elem_id="train-start")
        self.estimate = gr.HTML("", elem_id="train-estimate", apply_default_css=False)

    @property
    def inputs(self) -> list[gr.components.Component]:
        """What `config` takes."""
        return [self.data, self.preset, self.base, *self.form.controls]

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What `suit` gives."""
        return [self.data, self.fetch, self.facts, self.preset, self.base, *self.form.controls, self.name]

    def choices(self) -> list[tuple[str, str]]:
        """The texts there are, as choices: what the page calls each, and its `--data`."""
        named = [
            ("The sonnets, 94 kB, bundled", "sonnets"),
            ("Tiny Shakespeare, 1.1 MB of the plays", "shakespeare"),
        ]
        return named + [(f"{name}, yours", self._value(self._texts.path(name))) for name in self._texts.names()]

    def resting(self, rests: bool) -> list[Any]:
        """Updates of `outputs` while the settings are being found, or when that failed: what is typed would be lost."""
        return [gr.skip()] * 5 + self.form.resting(rests) + [gr.skip()]

    def config(self, data: str, preset: str, base: str, *values: Any) -> TrainConfig:
        """The settings that the form stands for; GPTError in words where they are none."""
        return chosen_config(usual_config(preset, base or "", data), values)

    def suit(self, data: str | None, preset: str, base: str | None) -> list[Any]:
        """Updates after another text, preset or base was chosen: settings that suit the text, and facts about it.

        The choice of the text stays where it is one, also where another was made or uploaded meanwhile.
        """
        chosen, data = data, data if data in [value for _, value in self.choices()] else self._default_data()
        try:
            corpus = self._load(data)
        except GPTError as error:
            facts, fields = note(sentence(error), "warn"), self.form.resting(False)
            name = self._name(data, preset, "")
            return [
                self._listed(chosen, data),
                gr.update(visible=self.lacks(data)),
                facts,
                gr.skip(),
                gr.skip(),
                *fields,
                name,
            ]
        bases, left_out = self._bases(corpus)
        base = base if base in [value for _, value in bases] else NOTHING
        try:
            config = suited(usual_config(preset, base, data), corpus)
            facts = self._facts(config, corpus, left_out)
        except GPTError as error:
            config = None
            facts = note(sentence(error), "bad")
        fields = self.form.updates(config) if config else self.form.resting(False)
        return [
            self._listed(chosen, data),
            gr.update(visible=False),
            facts,
            gr.update(info=_summary(preset)),
            gr.update(choices=bases, value=base),
            *fields,
            self._name(data, preset, base),
        ]

    def _listed(self, chosen: str | None, data: str) -> Any:
        """The list of texts as it is now; its value only where what was chosen is none of them."""
        return gr.update(choices=self.choices()) | ({} if data == chosen else {"value": data})

    def check(self, config: TrainConfig) -> None:
        """Raise CorpusError if the text cannot be trained on with these settings."""
        report = examine(config, self._load(config.data), self._checkpoints, self._tiktoken_cache)
        if report.refusal:
            raise CorpusError(report.refusal)

    def facts_of(self, config: TrainConfig) -> str:
        """What the page says of the text beside these settings, as HTML."""
        corpus = self._load(config.data)
        return self._facts(config, corpus, self._bases(corpus)[1])

    def timed(self, config: TrainConfig, one_core: bool) -> Generator[str, None, None]:
        """What the page says of the time that the run would take: that it is being measured, and then the result."""
        yield note("Measuring a few steps on this machine\u2026", "wait")
        try:
            found = self._timing.measure(config, 1 if one_core else None)
        except GPTError as error:
            yield note(sentence(error), "bad")
            return
        if found is None:
            return
        threads = f", {found['threads']} thread{'s' if found['threads'] > 1 else ''}" if found["threads"] else ""
        steps = f"{found['steps']:,} steps of {found['tokens_per_step']:,} tokens"
        rate = f"{found['tokens_per_second']:,.0f} tokens per second"
        model = f"{found['parameters']:,} parameters ({escape(found['device'])}{threads})"
        yield (
            f'<div class="ts-time"><b>{duration(found["seconds"])}</b> on this machine '
            f"<span>{steps}, {rate}, {model}</span><code>{escape(self.command(config, one_core))}</code></div>"
        )

    def command(self, config: TrainConfig, one_core: bool, name: str = "NAME") -> str:
        """The same run, by hand."""
        return shlex.join(["python", "-m", "train", *self.options(config, one_core), "--out", f"checkpoints/{name}"])

    @staticmethod
    def options(config: TrainConfig, one_core: bool) -> list[str]:
        """The options of `python -m train` that make the run."""
        return [*command_options(config), *(["--threads", "1"] if one_core else [])]

    def bring(self, file: str) -> str:
        """Keep an uploaded text; the value of its choice. GPTError in words if it is none to train on."""
        path = Path(file)
        return self._value(self._texts.path(self._texts.add(path, path.name)))

    def fetched(self) -> Generator[str, None, None]:
        """Fetch Tiny Shakespeare; yields what the page says of it on the way.

        Raises:
            CorpusError: it cannot be fetched; the message says what to do.
        """
        arrived: queue.SimpleQueue[int | GPTError | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                fetch_shakespeare(self._root / "data" / "shakespeare.txt", arrived.put)
                arrived.put(None)
            except GPTError as error:
                arrived.put(error)

        threading.Thread(target=work, name="fetch", daemon=True).start()
        yield note("Fetching Tiny Shakespeare\u2026", "wait")
        while (item := arrived.get()) is not None:
            if isinstance(item, GPTError):
                raise CorpusError(
                    f"Tiny Shakespeare could not be fetched ({item.__cause__}); try again with a network, choose the "
                    "sonnets, or upload a text"
                ) from item
            share = item / SHAKESPEARE_BYTES
            yield note(f"Fetching Tiny Shakespeare: {share:.0%}", "wait", share)

    def lacks(self, data: str) -> bool:
        """Whether the text has to be fetched first."""
        return data == "shakespeare" and not (self._root / "data" / "shakespeare.txt").exists()

    def _name(self, data: str, preset: str, base: str) -> str:
        """A free name for the run."""
        return self._jobs.free_name(f"{Path(data).stem}-{f'from-{_base_name(Path(base))}' if base else preset}")

    def _load(self, data: str) -> Corpus:
        if self.lacks(data):  # choosing it fetches nothing; the button does
            raise CorpusError(
                f"Tiny Shakespeare ({SHAKESPEARE_BYTES / 1e6:.1f} MB) is not on this machine yet; "
                "press Fetch it now, once, or choose another text"
            )
        known = data in ("shakespeare", "sonnets")
        return load_corpus(data if known else self._root / data, self._root / "data", min_characters=MIN_CHARACTERS)

    def _default_data(self) -> str:
        return "shakespeare" if (self._root / "data" / "shakespeare.txt").exists() else "sonnets"

    def _value(self, path: Path) -> str:
        """A path as it stands in a command that is run in the repository."""
        return str(path.relative_to(self._root) if path.is_relative_to(self._root) else path)

    def _bases(self, corpus: Corpus) -> tuple[list[tuple[str, str]], list[str]]:
        """The checkpoints that can go on with a text, as choices, and the names of those that cannot."""
        choices, left_out = [("Nothing: random weights", NOTHING)], []
        for info in list_checkpoints(self._checkpoints):
            try:
                load_tokenizer(info.folder).encode("".join(sorted(set(corpus.text))))
            except UnknownCharacterError:
                left_out.append(info.name)
            except GPTError:
                continue
            else:
                choices.append(
                    (f"{info.name}: go on with its {info.parameters:,} parameters", self._value(info.folder))
                )
        return choices, left_out

    def _facts(self, config: TrainConfig, corpus: Corpus, left_out: list[str]) -> str:
        report = examine(config, corpus, self._checkpoints, self._tiktoken_cache)
        return facts_html(report, len(corpus.text.encode()), left_out)


def _title(preset: str) -> str:
    """The preset's name and its size, with which every summary begins."""
    return f"{preset}, {PRESETS[preset].summary.partition(' parameters')[0]} parameters"


def _summary(preset: str) -> str:
    found = PRESETS.get(preset)
    return found.summary[:1].upper() + found.summary[1:] if found else ""


def _base_name(folder: Path) -> str:
    return folder.parent.name if folder.name == "best" else folder.name
