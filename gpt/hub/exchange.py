"""Checkpoints and the Hub: pushed to a repository, pulled from one, and GPT-2's weights brought in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from gpt.checkpoint import save_checkpoint
from gpt.checkpoint_archive import MAX_TEXT_BYTES
from gpt.checkpoint_info import CARD_FILE, CONFIG_FILE, FILES, WEIGHTS_FILE, CheckpointInfo, read_card
from gpt.checkpoint_store import CheckpointStore
from gpt.errors import HubError
from gpt.hub.card import hub_card, plain_card
from gpt.hub.repository import Hub, Listing, Progress
from gpt.hub.transformers_import import MERGES_FILE, PICKLED_WEIGHTS, read_transformers, read_vocabulary
from gpt.record import TrainingRecord
from gpt.tokenizer import FILES as TOKENIZER_FILES
from gpt.vocabulary import TOKENIZER_FILE

# GPT-2's largest has 6.4 GB.
MAX_WEIGHTS_BYTES = 8_000_000_000
REQUIRED = (WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILES[0])
# Where the names that everybody says live on the Hub.
PUBLISHED = {name: f"openai-community/{name}" for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")}


def push_checkpoint(
    hub: Hub, info: CheckpointInfo, repository: str, *, private: bool = False, license: str = "", message: str = ""
) -> str:
    """Push a checkpoint to a repository of the Hub, made where it is missing; the commit's address.

    Files of an earlier push that this checkpoint does not have are deleted there in the same commit.

    Raises:
        CheckpointError: the card cannot be read.
        HubError: the Hub refused, or was not reached.
    """
    card = hub_card(info, read_card(info.folder), repository, license)
    there = [name for name in FILES if name != CARD_FILE and (info.folder / name).is_file()]
    files: dict[str, Path | bytes] = {name: info.folder / name for name in there}
    full_name = hub.create(repository, private=private)
    stale = [name for name in FILES if name not in there and name != CARD_FILE]
    return hub.commit(full_name, files | {CARD_FILE: card.encode()}, stale, message or f"Push {info.name}")


def pull_checkpoint(
    hub: Hub,
    store: CheckpointStore,
    repository: str,
    *,
    name: str | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
) -> str:
    """Add the checkpoint that a repository holds, once it was loaded strictly; its name here.

    Args:
        hub: where from.
        store: where to.
        repository: its name on the Hub.
        name: what to call it here; None is the repository's own name, with a number where it is taken.
        revision: a branch, tag or commit; None is the newest.
        progress: told the bytes.

    Raises:
        HubError: there is no such repository, it holds no checkpoint of this project, or no answer.
        CheckpointError: what it holds is damaged, or the name is taken.
    """
    return _pull(hub, store, hub.list_files(_full_name(repository), revision), name, progress)


def import_checkpoint(
    hub: Hub,
    store: CheckpointStore,
    source: str,
    *,
    name: str | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
    tiktoken_cache: str | None = None,
) -> str:
    """Add GPT-2, or a fine-tune of it, from a folder in transformers' format or from the Hub; its name here.

    Args:
        hub, store, name, revision, progress: as for `pull_checkpoint`.
        source: a folder, or else a repository's name.
        tiktoken_cache: where GPT-2's vocabulary is looked for, where the source lacks it; see GPT2Tokenizer.fetch.

    Raises:
        HubError: it is no GPT-2, has pickled weights alone, or cannot be fetched.
        CheckpointError: a weight is no finite number, or the name is taken.
        TokenizerError: GPT-2's vocabulary is not to be had.
    """
    if (folder := Path(source)).is_dir():
        _check_weights([path.name for path in folder.iterdir()], source)
        return _import(store, folder, source, folder.resolve().name, name, "", tiktoken_cache)
    return _import_listing(hub, store, hub.list_files(_full_name(source), revision), name, progress, tiktoken_cache)


def bring_checkpoint(
    hub: Hub, store: CheckpointStore, repository: str, *, progress: Progress | None = None, tiktoken_cache: str | None
) -> str:
    """Pull a repository or import it, as its config.json says; its name here. Errors as of these two."""
    listing = hub.list_files(_full_name(repository))
    if _is_transformers(hub, listing):
        return _import_listing(hub, store, listing, None, progress, tiktoken_cache)
    return _pull(hub, store, listing, None, progress)


def _pull(hub: Hub, store: CheckpointStore, listing: Listing, name: str | None, progress: Progress | None) -> str:
    _check_weights(list(listing.files), listing.repository)
    if _is_transformers(hub, listing):
        raise HubError(
            f"{listing.repository} is in transformers' format; bring it in with python -m gpt.hub import "
            f"{listing.repository}"
        )
    if missing := [path for path in REQUIRED if path not in listing.files]:
        raise HubError(f"{listing.repository} is no checkpoint of this project: it has no {', '.join(missing)}")
    paths = [path for path in FILES if path in listing.files]
    _check_sizes(listing, paths)

    def fill(folder: Path) -> str:
        for path, local in hub.fetch(listing, paths, progress).items():
            if path == CARD_FILE:
                text = local.read_text(encoding="utf-8", errors="replace")
                (folder / path).write_text(plain_card(text), encoding="utf-8")
            else:
                shutil.copyfile(local, folder / path)
        return listing.repository.rpartition("/")[2]

    return store.add(fill, listing.repository, name)


def _import_listing(
    hub: Hub,
    store: CheckpointStore,
    listing: Listing,
    name: str | None,
    progress: Progress | None,
    tiktoken_cache: str | None,
) -> str:
    _check_weights(list(listing.files), listing.repository)
    paths = [path for path in (CONFIG_FILE, MERGES_FILE, TOKENIZER_FILE, WEIGHTS_FILE) if path in listing.files]
    _check_sizes(listing, paths)
    if not _is_transformers(hub, listing):
        raise HubError(
            f"{listing.repository} is not in transformers' format; if it is a checkpoint of this project, use "
            f"python -m gpt.hub pull {listing.repository}"
        )
    folder = hub.fetch(listing, paths, progress)[CONFIG_FILE].parent
    wish = listing.repository.rpartition("/")[2]
    return _import(store, folder, listing.repository, wish, name, listing.revision, tiktoken_cache)


def _import(
    store: CheckpointStore,
    folder: Path,
    called: str,
    wish: str,
    name: str | None,
    revision: str,
    tiktoken_cache: str | None,
) -> str:
    model = read_transformers(folder, called)
    tokenizer = read_vocabulary(folder, called, store.root, tiktoken_cache)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    record = TrainingRecord(command=f"python -m gpt.hub import {called}", created_at=created)
    origin = f"{called} of the Hugging Face Hub (commit {revision})" if revision else f"the folder {called}"
    card = (
        f"# {wish}\n\n{model.num_parameters():,} parameters, imported from {origin}, whose weights and logits it has.\n"
        "What it learnt from, and its licence, stand there.\n"
    )

    def fill(hidden: Path) -> str:
        save_checkpoint(hidden / "new", model, tokenizer, record, card=card)
        for path in (hidden / "new").iterdir():
            path.rename(hidden / path.name)
        (hidden / "new").rmdir()
        return wish

    return store.add(fill, called, name)


def _is_transformers(hub: Hub, listing: Listing) -> bool:
    """Whether config.json is one of transformers'."""
    if CONFIG_FILE not in listing.files:
        return False
    _check_sizes(listing, [CONFIG_FILE])
    try:
        config = json.loads(hub.fetch(listing, [CONFIG_FILE])[CONFIG_FILE].read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(config, dict) and ("model_type" in config or "architectures" in config)


def _check_weights(names: Sequence[str], called: str) -> None:
    """Raise HubError unless there are weights that can be loaded without running anything."""
    if WEIGHTS_FILE in names and CONFIG_FILE in names:
        return
    if any(name in PICKLED_WEIGHTS for name in names):
        raise HubError(
            f"{called} has its weights in pytorch_model.bin alone, a pickle, which can run any code and is never "
            f"opened; ask its owner for {WEIGHTS_FILE}"
        )
    if f"{WEIGHTS_FILE}.index.json" in names:
        raise HubError(f"{called} has its weights in several files; only one {WEIGHTS_FILE} is read")
    missing = [name for name in (WEIGHTS_FILE, CONFIG_FILE) if name not in names]
    raise HubError(f"{called} has no {' and no '.join(missing)}, so there is no model to load in it")


def _check_sizes(listing: Listing, paths: Sequence[str]) -> None:
    for path in paths:
        limit = MAX_WEIGHTS_BYTES if path == WEIGHTS_FILE else MAX_TEXT_BYTES
        if (size := listing.files[path].size) > limit:
            raise HubError(f"{path} of {listing.repository} has {size:,} bytes; {limit:,} are allowed")


def _full_name(repository: str) -> str:
    return PUBLISHED.get(repository, repository)
