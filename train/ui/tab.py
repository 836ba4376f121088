"""The Train tab: set up a run, watch it learn, stop when it is good, and put it to use."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Generator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from gpt.errors import GPTError
from train.job import Jobs
from train.report import RunReport
from train.texts import TextStore
from train.ui.notes import note, sentence
from train.ui.run_view import run_value, run_view
from train.ui.setup import Setup
from train.ui.timing import Timing

logger = logging.getLogger(__name__)

CSS = Path(__file__).with_name("train.css")
BROKEN = "Something went wrong here; the server's log says what."
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
POLL_S = 1.0


class TrainTab:
    """The tab's content.

    Args:
        root: the repository's folder.
        jobs: the runs.
        texts: where the texts that visitors bring are kept.
        environment: of the processes that measure.

    Attributes:
        use: the button that puts the run's best checkpoint to use.
        run: the list of runs; its value is the name of the one that is shown.
    """

    def __init__(self, root: Path, jobs: Jobs, texts: Path, environment: Mapping[str, str]) -> None:
        self._jobs = jobs
        self._timing = Timing(jobs.device, environment)
        with gr.Row(elem_id="train"):
            with gr.Column(scale=2, min_width=300, elem_id="train-setup"):
                self._setup = Setup(root, jobs, TextStore(texts), self._timing, environment.get("TIKTOKEN_CACHE_DIR"))
            with gr.Column(scale=5, min_width=320, elem_id="train-live"):
                with gr.Row(elem_classes=["actions"]):
                    # Any value is let through: the runs change all the time, and the folder alone knows them.
                    self.run = gr.Dropdown(
                        [],
                        label="Run",
                        elem_id="train-run",
                        container=False,
                        min_width=160,
                        allow_custom_value=True,
                    )
                    self._pause = gr.Button("Pause", elem_id="train-pause", interactive=False, min_width=80)
                    self._resume = gr.Button("Resume", elem_id="train-resume", interactive=False, min_width=80)
                    self._stop = gr.Button(
                        "Stop", variant="stop", elem_id="train-stop", interactive=False, min_width=80
                    )
                    self.use = gr.Button(
                        "Use this model",
                        variant="primary",
                        elem_id="train-use",
                        interactive=False,
                        min_width=160,
                    )
                self._view = run_view("train-view")
        self._seen = gr.State("")
        self._idle = gr.State(True)

    def wire(self, demo: gr.Blocks, tabs: gr.Tabs, tab: gr.Tab) -> None:
        """Connect everything; runs that are there already are found when the page or the tab opens."""
        setup = self._setup
        watched: dict[str, Any] = {
            "inputs": [self.run, self._seen],
            "outputs": [*self._live, self._seen, self._idle],
            "queue": False,
            **QUIET,
        }
        timer = gr.Timer(POLL_S, active=False)
        timer.tick(self._poll, **watched)
        # Who looks at another tab asks for nothing.
        tabs.select(_ticking(str(tab.label)), outputs=timer, queue=False, **QUIET)
        self.run.input(self._poll, **watched)
        demo.load(self._begin, outputs=watched["outputs"], queue=False, **QUIET)

        # One after the other, and the last choice wins: what the form shows must be of what is chosen.
        suited: dict[str, Any] = {
            "fn": self._suit,
            "inputs": [setup.data, setup.preset, setup.base],
            "outputs": [*setup.outputs, self._setup.start],
            "trigger_mode": "always_last",
            "concurrency_id": "train-suit",
            "concurrency_limit": 1,
            **QUIET,
        }
        # Nothing is examined or measured before the tab is opened: who only generates has no need of it.
        opened = tab.select(**{**suited, "fn": self._suit_once, "inputs": [*suited["inputs"], setup.name]})
        chosen = gr.on([setup.data.input, setup.preset.input, setup.base.input], **suited)
        uploaded = setup.upload.upload(
            self._upload,
            setup.upload,
            [setup.data, setup.refusal],
            show_progress="minimal",
            api_visibility="private",
        ).then(**suited)
        fetched = setup.fetch.click(self._fetch, outputs=[setup.refusal, setup.fetch], **QUIET).then(**suited)
        typed = gr.on(
            [control.input for control in setup.form.controls],  # type: ignore[attr-defined]
            self._facts,
            setup.inputs,
            setup.facts,
            trigger_mode="always_last",
            concurrency_limit=2,
            **QUIET,
        )
        ticked = setup.one_core.input(lambda: None, queue=False, **QUIET)
        for event in (chosen, uploaded, fetched, typed, ticked):
            event.then(
                self._time,
                [*setup.inputs, setup.one_core],
                setup.estimate,
                trigger_mode="always_last",
                concurrency_limit=4,
                concurrency_id="train-timing",
                **QUIET,
            )
        self._idle.change(self._time, [*setup.inputs, setup.one_core], setup.estimate, **QUIET)
        opened.then(self._time_once, [*setup.inputs, setup.one_core, setup.estimate], setup.estimate, **QUIET)

        self._setup.start.click(
            self._begin_run,
            [*setup.inputs, setup.one_core, setup.name],
            [*watched["outputs"], setup.name],
            concurrency_limit=1,
            concurrency_id="train",
            **QUIET,
        ).then(fn=None, js="() => document.querySelector('#train-live').scrollIntoView({ block: 'nearest' })")
        for button, act in (
            (self._pause, self._jobs.pause),
            (self._stop, self._jobs.finish),
            (self._resume, self._jobs.resume),
        ):
            button.click(
                self._acting(act),
                self.run,
                watched["outputs"],
                concurrency_limit=1,
                concurrency_id="train",
                **QUIET,
            )

    @property
    def _live(self) -> list[gr.components.Component]:
        return [self.run, self._view, self._pause, self._resume, self._stop, self.use]

    def _begin(self) -> list[Any]:
        """What the page shows when it opens: the run under way, or the last one."""
        return self._updates(None)

    def _poll(self, name: str | None, seen: str) -> list[Any]:
        """The run as it stands now; nothing where nothing has changed."""
        return self._updates(name, seen)

    def _updates(self, name: str | None, seen: str = "", *, begun: bool = False) -> list[Any]:
        """The run `name`, or one there is; it is chosen in the list if it has `begun` just now, or is another.

        An answer that says which run is looked at would undo the choice that was made while it was under way.
        """
        names = self._jobs.names()
        choice: dict[str, Any] = {"value": name} if begun else {}
        if name not in names:
            name = next(iter(self._jobs.active()), names[0] if names else None)
            choice = {"value": name}
        report = self._jobs.report(name) if name is not None else None
        value = run_value(report)
        state = hashlib.sha256(repr((names, name, value)).encode()).hexdigest()
        if state == seen:
            return [gr.skip()] * (len(self._live) + 2)
        shown = [gr.update(choices=names, interactive=bool(names), **choice), value, *_buttons(report)]
        return [*shown, state, not self._jobs.active()]

    def _begin_run(self, *values: Any) -> list[Any]:
        """Start a run; words where it cannot be started."""
        *fields, one_core, name = values
        failed = [gr.skip()] * (len(self._live) + 3)
        try:
            config = self._setup.config(*fields)
            self._setup.check(config)
            self._timing.cancel()
            self._jobs.start((name or "").strip(), self._setup.options(config, bool(one_core)))
        except GPTError as error:
            gr.Warning(escape(sentence(error)))
            return failed
        return [*self._updates(name.strip(), begun=True), self._jobs.free_name(name.strip())]

    def _acting(self, act: Any) -> Any:
        def handler(name: str | None) -> list[Any]:
            try:
                act(name or "")
            except GPTError as error:
                gr.Warning(escape(sentence(error)))
            return self._updates(name)

        return handler

    def _suit_once(self, *values: Any) -> Generator[list[Any], None, None]:
        """Fill the form when the tab is first opened."""
        *chosen, name = values
        if name:
            yield [gr.skip()] * (len(self._setup.outputs) + 1)
        else:
            yield from self._suit(*chosen)

    def _suit(self, *values: Any) -> Generator[list[Any], None, None]:
        """Settings that suit the text; no run starts before they stand there. A bug is the log's, not the page's."""
        yield [*self._setup.resting(True), gr.update(interactive=False)]
        try:
            yield [*self._setup.suit(*values), gr.update(interactive=True)]
        except Exception:
            logger.exception("the text could not be examined")
            gr.Warning(BROKEN)
            yield [*self._setup.resting(False), gr.update(interactive=True)]

    def _facts(self, *fields: Any) -> str:
        try:
            return self._setup.facts_of(self._setup.config(*fields))
        except GPTError as error:
            return note(sentence(error), "bad")

    def _time_once(self, *values: Any) -> Generator[Any, None, None]:
        """Measure when the tab is first opened."""
        *fields, shown = values
        if shown:
            yield gr.skip()
        else:
            yield from self._time(*fields)

    def _time(self, *values: Any) -> Generator[Any, None, None]:
        *fields, one_core = values
        if self._jobs.active():
            yield ""  # what it would measure is the two of them; it is measured when that one has ended
            return
        try:
            config = self._setup.config(*fields)
        except GPTError:
            yield ""  # the facts say it
            return
        if self._setup.lacks(config.data):
            yield ""
            return
        yield from self._setup.timed(config, bool(one_core))

    def _upload(self, file: str) -> list[Any]:
        try:
            value = self._setup.bring(file)
        except GPTError as error:
            return [gr.skip(), note(sentence(error), "bad")]
        return [gr.update(choices=self._setup.choices(), value=value), ""]

    def _fetch(self) -> Generator[list[Any], None, None]:
        busy = gr.update(interactive=False)  # said with every step: gpt/ui/run.py says why
        yield [gr.skip(), busy]
        try:
            for words in self._setup.fetched():
                yield [words, busy]
            end = ""
        except GPTError as error:
            end = note(sentence(error), "bad")
        yield [end, gr.update(interactive=True)]


def _ticking(label: str) -> Callable[[gr.SelectData], gr.Timer]:
    def handler(event: gr.SelectData) -> gr.Timer:
        return gr.Timer(active=event.value == label)

    return handler


def _buttons(report: RunReport | None) -> list[Any]:
    """Pause, Resume, Stop and Use, as the run allows them."""
    state = report.state if report else ""
    return [
        gr.update(interactive=state in ("training", "scoring")),
        gr.update(interactive=report is not None and report.can_resume),
        gr.update(interactive=state == "training"),
        gr.update(interactive=report is not None and report.best_step is not None),
    ]
