"""Hub: repositories of the Hugging Face Hub, listed, read and written through its own library."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt.errors import HubError
from gpt.hub.faults import in_words

BLOCK_BYTES = 1 << 20
# Told the bytes that have arrived and those of all files; what it raises ends the download.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        path: its path there, which stays inside the repository.
        size: bytes.
        sha256: of its content; empty for a small file, which has `blob` instead.
        blob: git's name of its content, the SHA-1 of a header and the bytes.
    """

    path: str
    size: int
    sha256: str
    blob: str


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit.

    Attributes:
        repository: its name.
        kind: "model" or "dataset".
        revision: the commit, 40 hexadecimal digits.
        files: by path.
    """

    repository: str
    kind: str
    revision: str
    files: Mapping[str, RemoteFile]


class Hub:
    """The Hub, or another server that speaks its language.

    Args:
        endpoint: its address; None is the one that HF_ENDPOINT names when the library is imported, or huggingface.co.
        token: of an account; None is what HF_TOKEN or the library's own login has, if anything.
        cache: where downloads are kept; None is the library's own folder.
    """

    def __init__(self, endpoint: str | None = None, token: str | None = None, cache: Path | None = None) -> None:
        self._endpoint = endpoint
        self._token = token
        self._cache = cache

    def list_files(self, repository: str, revision: str | None = None, *, kind: str = "model") -> Listing:
        """The files of a repository, at the commit that `revision` (a branch, tag or commit) names now.

        Raises:
            HubError: there is no such repository or revision, or not for this account; or no answer.
        """
        from huggingface_hub.hf_api import RepoFile

        with in_words(f"the {kind} {repository} cannot be listed"):
            info = self._api().repo_info(repository, repo_type=kind, revision=revision)
            found = self._api().list_repo_tree(repository, recursive=True, repo_type=kind, revision=info.sha)
            entries = [entry for entry in found if isinstance(entry, RepoFile)]
        if not info.sha or len(info.sha) != 40:
            raise HubError(f"the {kind} {repository} has no commit yet; push something to it first")
        for entry in entries:
            _check_path(entry.path, repository)
        files = {
            entry.path: RemoteFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else "", entry.blob_id)
            for entry in entries
        }
        return Listing(repository, kind, info.sha, files)

    def fetch(self, listing: Listing, paths: Sequence[str], progress: Progress | None = None) -> dict[str, Path]:
        """Files of a listing by path, from the library's cache or downloaded, and verified.

        Raises:
            HubError: one is not there, cannot be fetched, or is not what the listing says.
        """
        if missing := [path for path in paths if path not in listing.files]:
            raise HubError(
                f"{listing.repository} has no {missing[0]}; it has {', '.join(sorted(listing.files)[:8]) or 'nothing'}"
            )
        total, received, found = sum(listing.files[path].size for path in paths), 0, {}
        for path in paths:

            def arrived(part: int, before: int = received) -> None:
                if progress is not None:
                    progress(before + part, total)

            arrived(0)
            found[path] = self._fetch(listing, listing.files[path], arrived)
            received += listing.files[path].size
            arrived(listing.files[path].size)
        return found

    def _fetch(self, listing: Listing, file: RemoteFile, arrived: Callable[[int], None]) -> Path:
        from huggingface_hub import hf_hub_download

        with in_words(f"{file.path} of {listing.repository} cannot be fetched"):
            try:
                local = Path(
                    hf_hub_download(
                        listing.repository,
                        file.path,
                        repo_type=listing.kind,
                        revision=listing.revision,
                        cache_dir=self._cache,
                        endpoint=self._endpoint,
                        token=self._token,
                        tqdm_class=_silent_bar(arrived),
                    )
                )
            except OSError as error:
                if error.errno is None or error.filename is None:  # the library's own, which in_words knows
                    raise
                raise HubError(
                    f"{file.path} of {listing.repository} cannot be kept ({error.strerror}); free some space, or name "
                    "another folder with HF_HOME"
                ) from error
        _verify(file, local, listing)
        return local

    def create(self, repository: str, *, private: bool) -> str:
        """Make sure that a model's repository is there; its full name, with its owner.

        Raises:
            HubError: it cannot be made, as by an account that may not.
        """
        with in_words(f"the model {repository} cannot be made"):
            # Told nothing, the Hub takes what the owner chose for new repositories.
            made = self._api().create_repo(repository, repo_type="model", private=private or None, exist_ok=True)
            return str(made.repo_id)

    def commit(self, repository: str, files: Mapping[str, Path | bytes], stale: Sequence[str], message: str) -> str:
        """Write files to a model's repository, all of them or none, in one commit; the commit's address.

        Args:
            repository: its full name.
            files: what to write, by path.
            stale: paths to delete in the same commit; those that are not there are passed over.
            message: the commit's.

        Raises:
            HubError: the Hub refused, or was not reached; the repository is as it was.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        with in_words(f"the model {repository} cannot be pushed"):
            api = self._api()
            operations: list[Any] = [
                CommitOperationAdd(path, content if isinstance(content, bytes) else str(content))
                for path, content in files.items()
            ]
            there = set(api.list_repo_files(repository)) if stale else set()
            operations += [CommitOperationDelete(path) for path in stale if path in there]
            try:
                return str(api.create_commit(repository, operations, commit_message=message).commit_url)
            except ValueError as error:  # the card's header, which the Hub looks at first
                raise HubError(f"the model {repository} cannot be pushed: {error}") from error

    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self._endpoint, token=self._token)


def _silent_bar(arrived: Callable[[int], None]) -> Any:
    """The library's progress bar, which shows nothing and tells the bytes of the file so far."""
    from huggingface_hub.utils import tqdm

    class Silent(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **(options | {"disable": True}))  # type: ignore[no-untyped-call]
            self._arrived = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            self._arrived += int(n or 0)
            arrived(self._arrived)
            return super().update(n)

    return Silent


def _check_path(path: str, repository: str) -> None:
    """Raise HubError for a path that would leave the folder that it is written to."""
    parts = path.replace("\\", "/").split("/")
    if path.startswith(("/", "\\")) or path[1:2] == ":" or ".." in parts or not path.isprintable():
        raise HubError(f"{repository} lists the path {path!r}, which leaves its folder; nothing of it is fetched")


def _verify(file: RemoteFile, local: Path, listing: Listing) -> None:
    """Raise HubError unless the local file has the size and the hash that the listing says."""
    size = local.stat().st_size
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with local.open("rb") as content:
        while block := content.read(BLOCK_BYTES):
            digest.update(block)
    if size != file.size or digest.hexdigest() != (file.sha256 or file.blob):
        local.resolve().unlink(missing_ok=True)  # else the cache would give it again
        local.unlink(missing_ok=True)
        raise HubError(
            f"{file.path} of {listing.repository} arrived damaged ({size:,} bytes instead of {file.size:,}, or another "
            "hash); try again"
        )
