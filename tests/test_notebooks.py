"""The notebooks run from top to bottom, as somebody without a cloud would run them, and come without outputs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
TIMEOUT_S = 400


def _read(name: str) -> Any:
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def _execute(name: str) -> str:
    """Run a notebook in a kernel of its own, where it lies; all that its cells print or give, in their order."""
    book = _read(name)
    place = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(book, timeout=TIMEOUT_S, kernel_name="python3", resources=place).execute()
    found = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") + "\n" for output in found)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The settings of a run that takes seconds; its files where nobody looks for them."""
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))


def test_notebooks_are_the_four() -> None:
    assert NOTEBOOKS == ["deployment", "gpt", "kfp_tutorial", "pipeline"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_is_valid_and_has_no_outputs(name: str) -> None:
    book = _read(name)
    nbformat.validate(book)
    assert book.cells[0].cell_type == "markdown"
    assert book.cells[0].source.startswith("# ")
    assert [cell.outputs for cell in book.cells if cell.cell_type == "code" and cell.outputs] == []
    assert [cell.execution_count for cell in book.cells if cell.cell_type == "code" and cell.execution_count] == []
    assert book.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_link_of_a_notebook_leads_somewhere(name: str) -> None:
    text = "\n".join(cell.source for cell in _read(name).cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith("https://")]
    assert [link for link in links if not (ROOT / "notebooks" / link).exists()] == []


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
def test_model_is_trained_and_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRESET", "tiny")
    monkeypatch.setenv("STEPS", "60")
    said = _execute("gpt")
    assert (tmp_path / "out" / "best" / "model.safetensors").is_file()
    by_hand = [float(loss) for loss in re.findall(r"^step \d+: loss ([\d.]+)$", said, re.MULTILINE)]
    assert len(by_hand) == 3
    assert by_hand[-1] < by_hand[0] - 0.5
    assert "--- temperature 1.4" in said
    assert re.search(r"loss (6\.[0-9]+); log\(512\) = 6\.24", said)


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
def test_checkpoint_goes_to_the_cloud_answers_is_replaced_and_taken_down() -> None:
    said = _execute("deployment")
    assert "register the model notebook" in said
    assert "nothing to deploy" in said
    assert "the same text as on this machine: True" in said
    assert re.search(r"^notebook\tversion 2\t100 %\t", said, re.MULTILINE)
    assert "version 1\t" not in said
    assert "notebook\tnothing deployed" in said
    assert "notebook is deleted" in said


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
def test_tutorial_takes_both_ways_through_its_gate() -> None:
    said = _execute("kfp_tutorial")
    better, same = re.findall(r"^\{.*?\}$", said, re.MULTILINE | re.DOTALL)
    assert "'gate': 'yes'" in better
    assert re.search(r"'celebrate': '[\d.]+ nats per character less'", better)
    assert "'gate': 'no'" in same
    assert "celebrate" not in same
    assert "# PIPELINE DEFINITION" in said


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
def test_job_and_pipeline_train_and_deploy() -> None:
    said = _execute("pipeline")
    assert "\tnotebook-job\tsucceeded\t" in said
    assert "model.safetensors" in said
    first, second = said.split('"folder"')[:2]
    assert '"deployed": null' in first
    assert "there are no endpoints of this project" in second
    assert '"deployed": "notebook version 1"' in second
    assert re.search(r"^notebook\tversion 1\t100 %", said, re.MULTILINE)
    assert "the pipeline: succeeded" in said
    assert "notebook is deleted" in said
