"""The benchmarks run; what they find is for people to read."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from gpt import GPT, GPTConfig
from tests.benchmarks import __main__ as command
from tests.benchmarks._contestant import ContestantError, at_their_best, gather, in_turn
from tests.benchmarks._picture import pictures
from tests.benchmarks._record import Record, read_record
from tests.benchmarks._suite import ROWS, measure

ROOT = Path(__file__).resolve().parent.parent


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def fake(code: str) -> list[str]:
    """A benchmark's command line that runs this code, in which `record` is its Record."""
    start = "import os, signal, sys, time; from pathlib import Path; from tests.benchmarks._record import Record; "
    return [sys.executable, "-c", f"{start}record = Record(Path(sys.argv[1]))\n{code}", ROWS]


def measured(path: Path) -> dict[str, dict]:
    """The JSON's benchmarks by name."""
    return {one["name"]: one for one in json.loads(path.read_text(encoding="utf-8"))["benchmarks"]}


ONE_ROW = "record.row('a table', 'ours', 'tokens/s', [3.0, 1.0, 2.0], threads=2)"


def test_the_gpus_runs_on_a_cpu_and_refuses_a_gpu_that_is_not_there() -> None:
    done = benchmark("gpu", "--device", "cpu", "--model", "tiny", "--streams", "2", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert "engine, kernel by kernel" in done.stdout and "prefill of 32 tokens" in done.stdout
    refused = benchmark("gpu", "--device", "cuda:99")
    assert refused.returncode == 1 and "device is 'cuda:99', but torch finds" in refused.stderr


def test_the_json_has_the_machine_and_what_each_row_measured(tmp_path, capfd):
    path = tmp_path / "found.json"
    code = f"record.missing('llama.cpp f32', 'not installed'); print('its table'); {ONE_ROW}"
    assert measure({"decode": fake(code)}, path, quick=True)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["quick"] and found["machine"]["cores"] == os.cpu_count() and found["versions"]["torch"]
    [one] = found["benchmarks"]
    assert one["failure"] is None and {"load_before", "load_after", "seconds"} <= set(one)
    assert one["missing"] == {"llama.cpp f32": "not installed"}
    assert one["rows"] == [
        {
            "table": "a table",
            "name": "ours",
            "settings": {"threads": 2},
            "unit": "tokens/s",
            "median": 2.0,
            "minimum": 1.0,
            "maximum": 3.0,
            "rounds": 3,
        }
    ]
    said = capfd.readouterr().out
    assert "its table" in said and "without llama.cpp f32: not installed" in said


@pytest.mark.parametrize(
    "code, failure",
    [
        ("raise RuntimeError('no such luck')", "RuntimeError: no such luck"),
        ("sys.exit(3)", "exit status 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "it was ended by SIGKILL"),
        ("pass", "it measured nothing"),
    ],
)
def test_a_benchmark_that_fails_is_said_in_words_and_the_others_go_on(tmp_path, capfd, code, failure):
    path = tmp_path / "found.json"
    fakes = {"before": fake(ONE_ROW), "bad": fake(code), "after": fake(ONE_ROW)}
    assert not measure(fakes, path, quick=False)
    found = measured(path)
    assert {name: one["failure"] for name, one in found.items()} == {"before": None, "bad": failure, "after": None}
    assert len(found["before"]["rows"]) == len(found["after"]["rows"]) == 1
    assert f"bad failed: {failure}; the others go on" in capfd.readouterr().err


def test_a_benchmark_that_fails_keeps_the_rows_before(tmp_path):
    path = tmp_path / "found.json"
    assert not measure({"bad": fake(f"{ONE_ROW}; sys.exit(1)")}, path, quick=False)
    assert len(measured(path)["bad"]["rows"]) == 1


def test_ctrl_c_keeps_what_was_measured_and_begins_nothing_more(tmp_path):
    """The benchmark interrupts those who started it, as a terminal would, and still says what it has."""
    path = tmp_path / "found.json"
    waits = f"{ONE_ROW}\ntry:\n    os.kill(os.getppid(), signal.SIGINT); time.sleep(50)\nfinally:\n    {ONE_ROW}"
    fakes = {"first": fake(ONE_ROW), "second": fake(waits), "third": fake(ONE_ROW)}
    code = (
        "import json, signal, sys; from pathlib import Path; from tests.benchmarks._suite import measure\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with\n"
        "measure(json.loads(sys.argv[1]), Path(sys.argv[2]), quick=False)"
    )
    line = [sys.executable, "-c", code, json.dumps(fakes), str(path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert "KeyboardInterrupt" in done.stderr
    found = measured(path)
    assert list(found) == ["first", "second"]
    assert found["second"]["failure"] == "interrupted" and len(found["second"]["rows"]) == 2


def test_ctrl_c_still_draws_and_says_where_the_figures_are(tmp_path, monkeypatch, capsys):
    def measure(commands, path, *, quick):
        path.write_text(json.dumps(found_of([row("16 streams", "engine compiled", 10)])), encoding="utf-8")
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "measure", measure)
    assert command.main(["--output", str(tmp_path), "streams"]) == 130
    assert {file.name for file in tmp_path.iterdir()} == {"streams.json", "benchmark-streams.svg"}
    assert f"figures: {tmp_path / 'streams.json'}" in capsys.readouterr().err


def test_a_record_that_was_cut_off_is_read_up_to_there(tmp_path):
    path = tmp_path / "rows.jsonl"
    Record(path).row("a table", "ours", "s", [1.0])
    with path.open("a", encoding="utf-8") as file:
        file.write('{"table": "a ta')
    rows, missing = read_record(path)
    assert [row["name"] for row in rows] == ["ours"] and missing == {}
    assert read_record(tmp_path / "none") == ([], {})


def make(name: str, variant: str, threads: str, fails_at: str):
    """A contestant of these tests."""
    if name == "absent":
        raise ModuleNotFoundError("No module named 'absent'")

    def work(number: int) -> None:
        if number == int(fails_at):
            raise RuntimeError("out of luck")

    return work


def test_contestants_take_turns_and_a_missing_peer_is_named_once(tmp_path, capsys):
    record = Record(tmp_path / "rows.jsonl")
    wanted = [("ours", "fast", 1), ("absent", "x", 1), ("absent", "x", 2), ("ours", "fast", 2)]
    contestants = gather(__name__, wanted, record, "-1")
    assert list(contestants) == [("ours", "fast", 1), ("ours", "fast", 2)]
    seconds: dict = {}
    in_turn(contestants, 3, seconds)
    assert {peer: len(each) for peer, each in seconds.items()} == {peer: 3 for peer in contestants}
    assert read_record(tmp_path / "rows.jsonl")[1] == {"absent x": "ModuleNotFoundError: No module named 'absent'"}
    assert capsys.readouterr().out.count("without absent x") == 1


def test_a_contestant_that_fails_leaves_the_complete_rounds():
    seconds: dict = {}
    contestants = gather(__name__, [("ours", "fast", 1)], Record(), "4")  # two warm-ups, then two rounds
    with pytest.raises(ContestantError, match="out of luck"):
        in_turn(contestants, 5, seconds)
    assert [len(each) for each in seconds.values()] == [2]


def test_the_best_number_of_threads_has_the_lowest_median():
    seconds = {("ours", "fast", 1): [1.0, 2.0, 9.0], ("ours", "fast", 2): [3.0, 3.0, 3.0], ("other", "x", 2): [4.0]}
    assert at_their_best(seconds) == {("ours", "fast"): (1, [1.0, 2.0, 9.0]), ("other", "x"): (2, [4.0])}


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_onnxruntime_is_measured_only_where_it_writes_the_models_text(scale, monkeypatch):
    pytest.importorskip("onnxruntime")
    from tests.benchmarks._onnx import write_onnx
    from tests.benchmarks._onnxruntime import OnnxStream

    torch.manual_seed(0)
    config = GPTConfig(vocab_dim=9000, sequence_dim=40, embed_dim=24, num_heads=3, num_layers=2)
    model, written = GPT.from_config(config).eval(), GPT.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
        written.load_state_dict(model.state_dict())
        next(written.parameters()).mul_(scale)
    other = "tests.benchmarks._onnxruntime.write_onnx"
    monkeypatch.setattr(other, lambda model, path, top_k: write_onnx(written, path, top_k))
    if scale != 1:
        with pytest.raises(ValueError, match="another greedy text than the model"):
            OnnxStream(model, 50, 1, quantised=False)
        return
    for quantised in (False, True):
        stream = OnnxStream(model, 50, 1, quantised=quantised)
        assert len(stream.write([1, 2, 3], 20, lambda logits, top: int(top[7]))) == 20


def test_ranks_refuses_a_batch_that_cannot_be_shared() -> None:
    refused = benchmark("ranks", "--batch-size", "3")
    assert refused.returncode == 2 and "--batch-size is 3; give a multiple of 2" in refused.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ranks_trains_with_two_processes(tmp_path):
    path = tmp_path / "found.json"
    done = benchmark("--json", str(path), "ranks", "--batch-size", "2", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    rows = measured(path)["ranks"]["rows"]
    assert [row["name"] for row in rows[:2]] == ["one process, 2 threads", "2 processes, a thread each"]


def test_without_a_name_all_run_but_the_gpus(tmp_path, monkeypatch, capsys):
    asked: dict = {}

    def measure(commands, path, *, quick):
        asked.update(commands=commands, path=path, quick=quick)
        return False

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(command, "_has_gpu", lambda: False)
    assert command.main(["--quick", "--output", str(tmp_path / "new")]) == 1
    assert asked["path"] == tmp_path / "new" / "benchmarks.json" and asked["quick"] and (tmp_path / "new").is_dir()
    names = {path.stem for path in (ROOT / "tests" / "benchmarks").glob("[!_]*.py")}
    assert set(asked["commands"]) == names - {"gpu"}
    assert all(line[-4:] == ["--quick", "--rows", ROWS, name] for name, line in asked["commands"].items())
    assert "without gpu" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "tests" / "benchmarks").glob("[!_]*.py")))
def test_each_has_help_and_quick_arguments_that_it_reads(name, capsys):
    module = importlib.import_module(f"tests.benchmarks.{name}")
    with pytest.raises(SystemExit) as ended:
        module.run([*module.QUICK, "--help"], Record())
    assert ended.value.code == 0 and f"usage: python -m tests.benchmarks {name}" in capsys.readouterr().out


def test_the_pictures_of_docs_are_of_the_figures_beside_them():
    found = json.loads((ROOT / "docs" / "benchmarks.json").read_text(encoding="utf-8"))
    drawn = pictures(found)
    assert sorted(drawn) == sorted(path.name for path in (ROOT / "docs").glob("benchmark-*.svg"))
    for name, svg in drawn.items():
        assert svg == (ROOT / "docs" / name).read_text(encoding="utf-8"), "python -m tests.benchmarks --draw draws it"


def test_a_name_has_its_own_options_and_writes_what_is_asked_for(tmp_path):
    path = tmp_path / "found.json"
    done = benchmark("--json", str(path), "attention", "--turns", "1", "--threads", "1")
    assert done.returncode == 0 and "ratio" in done.stdout, done.stderr
    assert len(measured(path)["attention"]["rows"]) == 16
    assert benchmark("atention").returncode == 2


def found_of(rows: list[dict]) -> dict:
    """A run's JSON with these rows."""
    return {
        "date": "2026-11-25T10:00:00+00:00",
        "quick": True,
        "machine": {"processor": "A <fast> one", "cores": 2},
        "versions": {"torch": "2.13.0"},
        "benchmarks": [{"name": "one", "load_before": 0.25, "rows": rows}],
    }


def row(table: str, name: str, median: float) -> dict:
    figures = {"median": median, "minimum": median / 2, "maximum": 2 * median}
    return {"table": table, "name": name, "settings": {"threads": 2}, "unit": "x", "rounds": 3, **figures}


def test_pictures_are_svg_whose_bars_are_in_proportion():
    rows = [row("one stream", name, rate) for name, rate in {"other int8": 100, "engine compiled": 400}.items()]
    drawn = pictures(found_of([*rows, row("one stream", "floor half", 9000)]))
    assert list(drawn) == ["benchmark-one-stream.svg"]
    root = ElementTree.fromstring(drawn["benchmark-one-stream.svg"])
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert (
        "400  (2 threads)" in words
        and "2 cores of A <fast> one, 2026-11-25, torch 2.13.0; load before the run 0.25" in words
    )
    ours, theirs = root.iter("{http://www.w3.org/2000/svg}rect")
    assert ours.get("class") == "ours" and theirs.get("class") == "theirs"
    assert float(ours.get("width", 0)) == pytest.approx(4 * float(theirs.get("width", 0)), rel=0.01)


def test_pictures_of_scale_begin_at_zero_on_both_axes():
    rows = [row("scale: num_layers", str(layers), 100 * layers) for layers in (1, 2, 4)]
    [(name, svg)] = pictures(found_of(rows)).items()
    points = re.findall(r"([\d.]+),([\d.]+)", re.findall(r'polyline class="line" points="([^"]+)"', svg)[0])
    (x1, y1), (x2, y2), (x4, y4) = [(float(x), float(y)) for x, y in points]
    assert name == "benchmark-scale.svg"
    assert x4 - x2 == pytest.approx(2 * (x2 - x1), abs=0.2) and y2 - y4 == pytest.approx(2 * (y1 - y2), abs=0.2)


def test_pictures_are_drawn_again_from_the_figures(tmp_path):
    path = tmp_path / "found.json"
    path.write_text(json.dumps(found_of([row("16 streams", "engine compiled", 10)])), encoding="utf-8")
    assert command.main(["--draw", str(path), "--output", str(tmp_path / "new")]) == 0
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["benchmark-streams.svg"]


def test_figures_that_are_none_are_refused_in_a_sentence(tmp_path, capsys):
    path = tmp_path / "found.json"
    path.write_text("{}", encoding="utf-8")
    assert command.main(["--draw", str(path)]) == 1
    assert command.main(["--draw", str(tmp_path / "none.json")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "is no file of figures" in said[0] and "cannot be read" in said[1]


def test_training_measures_every_preset_or_those_that_are_named(monkeypatch, capsys):
    from tests.benchmarks import training

    measured = list[tuple[str, int]]()
    monkeypatch.setattr(training, "_compare", lambda preset, batch_size, *_: measured.append((preset, batch_size)))
    training.run([], Record())
    training.run(["character", "--batch-size", "2"], Record())
    assert measured == [("shakespeare", 64), ("character", 16), ("character", 2)]
    with pytest.raises(SystemExit):
        training.run(["gpt5"], Record())
    assert "'gpt5' is none of shakespeare, character" in capsys.readouterr().err
