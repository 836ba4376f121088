"""Which path the engine takes, the change from one to the other in the midst of a text; both write the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt import load_checkpoint
from gpt.compiled_rows import CompiledRows
from gpt.compiler import compile_elsewhere
from gpt.engine import Engine
from gpt.errors import BackendError, ConfigError
from gpt.sampling import SamplingParams
from tests.tiny_engine import GREEDY, make_engine, make_model, prompt, run, uncached_greedy

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 14, 20, 30])
def test_a_text_goes_on_as_it_would_have_when_the_path_changes(steps):
    model = make_model()
    engine = make_engine(model, max_streams=3, prefill_tokens=4)
    lengths = (2, 9, 16, 30)  # the third is being read for four steps, the fourth waits for a row
    generations = [engine.submit(prompt(length), GREEDY, 40) for length in lengths]
    for _ in range(steps):
        engine.step()
    assert engine.path == "PyTorch"
    engine._get_ready(model)
    assert run(engine, *generations) == [uncached_greedy(model, prompt(length), 40) for length in lengths]
    assert engine.path == "compiled"
    engine.close()


def test_the_background_engine_answers_at_once_and_changes_when_the_other_path_is_ready(monkeypatch):
    ready = threading.Event()

    def prepare():
        ready.wait()
        return compile_elsewhere()

    monkeypatch.setattr("gpt.engine.compile_elsewhere", prepare)
    model = make_model()
    engine = Engine(model, max_streams=2)
    generation = engine.submit(prompt(3), GREEDY, 1_000_000)
    first = [next(generation).token_id for _ in range(20)]
    assert engine.path == "PyTorch: the compiled path is getting ready"
    ready.set()
    count = 0
    while engine.path != "compiled":
        next(generation)
        count += 1
    generation.cancel()
    assert first == uncached_greedy(model, prompt(3), 20)
    assert [token.token_id for token in engine.submit(prompt(3), GREEDY, 20)] == first
    engine.close()


def test_without_numba_pytorch_goes_on_and_the_path_says_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpt.compiled_rows", None)  # as if importing it failed
    model = make_model()
    engine = make_engine(model)
    engine._get_ready(model)
    assert engine.path.startswith("PyTorch: the compiled path did not get ready (")
    assert run(engine, engine.submit(prompt(3), GREEDY, 20)) == [uncached_greedy(model, prompt(3), 20)]
    with pytest.raises(ConfigError, match=r"the compiled path cannot run here: .* did not get ready"):
        make_engine(model, compiled=True)


def test_other_types_than_float32_stay_with_pytorch():
    with pytest.raises(ConfigError, match="the compiled path is for a CPU at float32"):
        make_engine(make_model().double(), compiled=True)


def test_an_engine_that_was_closed_meanwhile_keeps_no_compiled_path():
    model = make_model()
    engine = make_engine(model)
    engine.close()
    engine._get_ready(model)
    assert engine._compiled is None and engine.path == "PyTorch"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name, count",
    [("laptop", 200), ("verse", 50), ("shakespeare", 20), pytest.param("shakespeare", 200, marks=pytest.mark.slow)],
)
def test_both_paths_write_the_same_text(name, count):
    """Greedy past the context, and with seeds; they may part where the two largest logits are equal up to rounding.

    One of these prompts came to such a place with earlier weights of `verse`; none does with those of now.
    """
    checkpoint = load_checkpoint(ROOT / "checkpoints" / name)
    model = checkpoint.model
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(model.config.vocab_dim, (1 + n % 30,), generator=generator).tolist() for n in range(count)]
    new_tokens = model.config.sequence_dim + 20
    texts = []
    for compiled in (False, True):
        engine = Engine(model, background=False, compiled=compiled, max_queue=2 * count)
        generations = [engine.submit(ids, GREEDY, new_tokens) for ids in prompts]
        generations += [engine.submit(ids, SamplingParams(), new_tokens, seed=n) for n, ids in enumerate(prompts[:20])]
        texts.append(run(engine, *generations))
        engine.close()
    assert texts[0][count:] == texts[1][count:]
    parted = [(ids, one, other) for ids, one, other in zip(prompts, *texts, strict=False) if one != other]
    assert len(parted) <= (1 if name == "verse" else 0)
    for ids, one, other in parted:
        place = next(number for number, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
        context = ids + list(one[:place])
        assert len(context) <= model.config.sequence_dim
        with torch.inference_mode():
            logits = model(torch.tensor([context]))[0, -1]
        assert logits.max() - logits[[one[place], other[place]]].min() < 1e-4


OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "the default": {},
    "hot": {"temperature": 3.0, "top_k": 0},
    "top_k": {"top_k": 5},
    "top_p": {"top_k": 0, "top_p": 0.8},
    "min_p": {"top_k": 0, "min_p": 0.1},
    "every filter": {"temperature": 1.5, "top_k": 9, "top_p": 0.9, "min_p": 0.05},
    "penalties": {"repetition_penalty": 1.5, "presence_penalty": 0.5, "frequency_penalty": 0.2},
    "greedy with penalties": {"temperature": 0.0, "repetition_penalty": 1.5},
}


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_both_paths_give_the_same_log_probabilities(name, background):
    """Beside each other, past the context, with more alternatives than the compiled code gives, and with none."""
    model, params, counts = make_model(), SamplingParams(**OPTIONS[name]), (None, 0, 1, 6, 20, 61)
    given = []
    for compiled in (False, True):
        engine = Engine(model, background=background, compiled=compiled)
        generations = [engine.submit(prompt(n + 1, n), params, 40, n, count) for n, count in enumerate(counts)]
        if not background:
            run(engine)
        given.append([list(generation) for generation in generations])
        engine.close()
    for count, *texts in zip(counts, *given, strict=True):
        for reference, token in zip(*texts, strict=True):
            assert token.token_id == reference.token_id and len(token.alternatives) == (count or 0)
            assert [each for each, _ in token.alternatives] == [each for each, _ in reference.alternatives]
            expected = [reference.logprob, *(logprob for _, logprob in reference.alternatives)]
            assert [token.logprob, *(logprob for _, logprob in token.alternatives)] == (
                [None] if count is None else pytest.approx(expected, abs=1e-4)  # the logits differ by rounding
            )


@pytest.mark.parametrize(("count", "steps"), [(None, 8), (0, 8), (20, 8), (21, 1)])
def test_log_probabilities_are_made_in_bursts_as_tokens_are(count, steps):
    engine = make_engine(compiled=True)
    engine.submit([1, 2, 3], GREEDY, 10, logprobs=count)
    engine.step()
    engine._batch._step_s = 1e-5
    rows = engine._batch._rows
    assert isinstance(rows, CompiledRows) and engine._batch._steps(rows, engine._batch.sequences) == steps
    engine.close()


def test_a_compiler_that_fails_is_a_sentence_in_the_path(monkeypatch):
    monkeypatch.setattr("gpt.compiled.prepare.is_prepared", lambda: False)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(BackendError, match="the compiler ended with exit status 1"):
        compile_elsewhere()
    model = make_model()
    engine = make_engine(model)
    engine._get_ready(model, compile_elsewhere)
    assert engine.path.endswith("did not get ready (the compiler ended with exit status 1)")


def test_the_compiler_needs_a_place_to_keep_the_code_and_no_torch(tmp_path):
    """In a copy that cannot be written to, with no cache of the user's either."""
    command = "import sys; from gpt.compiled.prepare import main; print(main(), 'torch' in sys.modules)"
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "gpt", copy / "gpt", ignore=shutil.ignore_patterns("__pycache__", "ui", "vertex"))
    # A file where a folder would be made: not even root can keep anything there.
    (copy / "gpt" / "compiled" / "__pycache__").touch()
    (tmp_path / "file").touch()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "file"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=copy, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "False"]
    assert done.stderr == "there is no folder to keep compiled code in; set NUMBA_CACHE_DIR to one\n"


def test_a_program_that_ends_while_the_path_gets_ready_ends_well():
    command = "from tests.tiny_engine import *; print(next(Engine(make_model()).submit([1], GREEDY)).token_id)"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.strip().isdigit()
