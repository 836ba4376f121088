"""The steps of the pipeline: what each does with the files that Kubeflow hands it.

train/vertex/components.py makes Kubeflow components of them; here they know nothing of Kubeflow.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gpt.errors import GPTError, TrainingError
from train.folder import BEST_FOLDER

ROOT = Path(__file__).resolve().parents[2]
MIN_CHARACTERS = 100
DEPLOY, KEEP = "deploy", "keep"


def prepare(data: str, text_path: Path) -> dict[str, str | int]:
    """Write the corpus as one verified UTF-8 text.

    Args:
        data: a corpus's name, a path of this machine, or a gs:// address.
        text_path: the file to write.

    Returns:
        what it is: name, characters, sha256.

    Raises:
        CorpusError, VertexError: it cannot be had, or is no text that can be learnt from.
    """
    from gpt.vertex.bucket import SCHEME, Storage
    from train.corpus import load_corpus

    with tempfile.TemporaryDirectory() as folder:
        if data.startswith(SCHEME):
            path = Path(folder) / data.rpartition("/")[2]
            with contextlib.closing(Storage()) as storage:
                storage.download(data, path)
            data = str(path)
        corpus = load_corpus(data, ROOT / "data", min_characters=MIN_CHARACTERS)
    text_path.parent.mkdir(parents=True, exist_ok=True)
    text_path.write_text(corpus.text, encoding="utf-8", newline="\n")
    return {"name": corpus.name, "characters": len(corpus.text), "sha256": corpus.sha256}


def train(text_path: Path, corpus: str, name: str, options: list[str], processes: int, checkpoint: Path) -> None:
    """Train with `python -m train`, which PYTHONPATH leads to, and keep the best checkpoint.

    Args:
        text_path: what to learn.
        corpus: its name, for the record.
        name: the run's, for its card.
        options: of `python -m train`, without --data and --out.
        processes: one a GPU; more than one run under torchrun.
        checkpoint: the folder to write.

    Raises:
        TrainingError: the trainer failed; what it wrote says why.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    # On the machine's own disk: the pipeline's storage knows no renaming, which the trainer relies on.
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / f"{corpus.removesuffix('.txt')}.txt"
        shutil.copyfile(text_path, text)
        command = [sys.executable, *launcher, "-m", "train", *options, "--data", text.name, "--out", name]
        status = subprocess.run(command, cwd=folder).returncode
        if status:
            raise TrainingError(f"python -m train ended with the exit status {status}; what it wrote says why")
        shutil.copytree(Path(folder) / name / BEST_FOLDER, checkpoint, dirs_exist_ok=True)


def evaluate(text_path: Path, checkpoint: Path, train_fraction: float) -> dict[str, float]:
    """Score a checkpoint on the validation part of the text.

    Returns:
        nats per character, by protocol: "block" and "sliding".

    Raises:
        CheckpointError, CorpusError: one of the two cannot be read.
    """
    from gpt.checkpoint import load_checkpoint
    from train.corpus import load_corpus
    from train.metrics import validation_tokens, window_nats

    corpus = load_corpus(text_path, ROOT / "data", min_characters=MIN_CHARACTERS)
    train_text, validation_text = corpus.split(train_fraction)
    loaded = load_checkpoint(checkpoint)
    tokens = validation_tokens(loaded.tokenizer, train_text, validation_text)
    context = loaded.config.sequence_dim
    strides = {"block": context, "sliding": max(1, context // 2)}
    return {name: window_nats(loaded.model, tokens, stride) / len(validation_text) for name, stride in strides.items()}


def gate(nats: float, threshold: float) -> str:
    """DEPLOY if the figure, in nats per character, is at most the threshold; else KEEP."""
    return DEPLOY if nats <= threshold else KEEP


def deploy(
    checkpoint: Path,
    nats: float,
    threshold: float,
    *,
    project: str,
    location: str,
    api_endpoint: str,
    bucket: str,
    name: str,
    image: str,
    machine_type: str,
) -> str:
    """Register the checkpoint and deploy it, as `python -m gpt.vertex.deploy` does.

    Args:
        checkpoint: its folder.
        nats: the evaluation's figure, in nats per character.
        threshold: the largest figure that may serve.
        project, location: where.
        api_endpoint: of a rehearsal; empty for the location's own.
        bucket: gs:// address that gets the checkpoint.
        name: of model and endpoint.
        image: the serving image.
        machine_type: that it runs on.

    Returns:
        the endpoint's id and the model's version, as "ENDPOINT version VERSION".

    Raises:
        TrainingError: a figure does not pass. A pipeline that skips its conditions gets no further than this.
        GPTError: as deploying says.
    """
    from gpt.checkpoint_info import read_record

    # The trainer scored the same weights on the same text: two figures, of which none went through the gate.
    figures = {"the evaluation": nats, "the checkpoint's record": read_record(checkpoint).nats_per_character["block"]}
    for source, figure in figures.items():
        if not figure <= threshold:
            raise TrainingError(
                f"{figure:.4f} nats per character, says {source}, and at most {threshold:g} may serve; nothing was "
                "deployed: train longer, or raise --threshold"
            )
    from gpt.vertex.artifact import Artifact
    from gpt.vertex.deployment import Deployment
    from gpt.vertex.machine import Machine
    from gpt.vertex.session import Session

    session = Session(project, location, api_endpoint or None)
    artifact, machine = Artifact(checkpoint, bucket), Machine.from_options(machine_type)
    deployed = Deployment(session, artifact, bucket, name, image, machine, _say).execute()
    return f"{name} version {deployed.version}"


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """End the process with the error's words, where a traceback would only hide them."""
    try:
        yield
    except GPTError as error:
        sys.exit(f"error: {error}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
