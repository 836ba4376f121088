"""A hub on this machine: as much of the Hugging Face Hub's language as its own client speaks to list, read and write.

Repositories live in memory. Weights travel as large files do, by the LFS protocol, other files inside the commit.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tests.event_loop import drop_connections

TOKEN = "hf_loopback"
OWNER = "someone"
LARGE = (".safetensors", ".bin", ".parquet", ".txt", ".jsonl")
Files = dict[str, bytes]


@dataclass
class Repository:
    """A repository: its commits, the newest last, each with all of its files."""

    private: bool = False
    gated: bool = False
    commits: list[tuple[str, str, Files]] = field(default_factory=list)

    def commit(self, files: Files, message: str = "files") -> str:
        """Add a commit; its name."""
        text = json.dumps([message, len(self.commits), sorted((p, _sha256(c)) for p, c in files.items())])
        self.commits.append((hashlib.sha1(text.encode()).hexdigest(), message, dict(files)))
        return self.commits[-1][0]

    def at(self, revision: str) -> tuple[str, Files] | None:
        """The commit of this name, or the newest for `main`, with its files."""
        for name, _, files in reversed(self.commits):
            if revision in ("main", name):
                return name, files
        return None


class LoopbackHub:
    """The hub's repositories, and what its client asked of it.

    Attributes:
        repositories: by kind ("models", "datasets") and full name.
        asked: "METHOD path" of every request, in order.
        damaged: paths whose content is sent with its first byte changed.
        cut: paths of which the first answer breaks off in the middle.
        pieces_s: seconds between the pieces of what is downloaded.
        lists: more entries of every listing, as a hostile server would write them.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.large: Files = {}
        self.asked: list[str] = []
        self.damaged: set[str] = set()
        self.cut: set[str] = set()
        self.pieces_s = 0.0
        self.lists: list[dict[str, Any]] = []
        self.endpoint = ""

    def add(self, name: str, files: Files, kind: str = "models", **options: bool) -> Repository:
        """A repository with one commit of these files."""
        repository = Repository(options.get("private", False), options.get("gated", False))
        repository.commit(files)
        self.repositories[kind, name] = repository
        return repository

    def clear(self) -> None:
        """Empty it, and forget the faults."""
        everything: tuple[Any, ...] = (self.repositories, self.large, self.asked, self.damaged, self.cut, self.lists)
        for collection in everything:
            collection.clear()
        self.pieces_s = 0.0

    def files(self, name: str, kind: str = "models") -> Files:
        """What the newest commit of a repository has."""
        return self.repositories[kind, name].commits[-1][2]

    @contextlib.contextmanager
    def served(self) -> Iterator[LoopbackHub]:
        """Serve it in a thread, at `endpoint`."""
        server = _Server(uvicorn.Config(self._app(), port=0, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, name="hub", daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the hub did not start"
                time.sleep(0.02)
            self.endpoint = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            yield self
        finally:
            server.should_exit = True
            thread.join(timeout=10)

    def _app(self) -> FastAPI:
        app = FastAPI(openapi_url=None)

        @app.api_route("/{path:path}", methods=["GET", "HEAD", "POST", "PUT"])
        async def answer(path: str, request: Request) -> Response:
            self.asked.append(f"{request.method} /{path}")
            return self._answer(path, request, await request.body())

        return app

    def _answer(self, path: str, request: Request, body: bytes) -> Response:
        authorised = request.headers.get("authorization") == f"Bearer {TOKEN}"
        if path == "api/validate-yaml":
            return JSONResponse({"errors": [], "warnings": []})
        if path.startswith("lfs/"):
            self.large[path.removeprefix("lfs/")] = body
            return Response()
        if request.method == "POST" and not authorised:
            return JSONResponse({"error": "Invalid username or password."}, status_code=401)
        if path == "api/repos/create":
            return self._create(json.loads(body))
        if re.fullmatch(r"(.+)\.git/info/lfs/objects/batch", path):
            return self._offer(json.loads(body)["objects"])
        found = self._find(path)
        if found is None:
            return _error(404, "RepoNotFound", "Repository not found")
        repository, name, rest = found
        if (repository.private or repository.gated) and not authorised:
            return _error(403 if repository.gated else 404, "GatedRepo" if repository.gated else "RepoNotFound", "no")
        action, _, rest = rest.partition("/")
        if action == "preupload":
            modes = [{"path": f["path"], "uploadMode": _mode(f["path"])} for f in json.loads(body)["files"]]
            return JSONResponse({"files": [mode | {"shouldIgnore": False} for mode in modes]})
        if action == "commit":
            return self._commit(repository, name, [json.loads(line) for line in body.splitlines()])
        revision, _, file = rest.partition("/")
        at = repository.at(revision or "main")
        if at is None:
            return _error(404, "RevisionNotFound", "Invalid rev id")
        commit, files = at
        if action in ("", "revision"):
            return JSONResponse({"id": name, "sha": commit, "siblings": [], "tags": [], "private": False})
        if action == "tree":
            return JSONResponse([*(_entry(path, content) for path, content in files.items()), *self.lists])
        if file not in files:
            return _error(404, "EntryNotFound", "Entry not found")
        return self._content(request, commit, file, files[file])

    def _find(self, path: str) -> tuple[Repository, str, str] | None:
        """The repository that a path is about, its name, and what follows."""
        path = path.removeprefix("api/")
        for (kind, name), repository in self.repositories.items():
            for prefix in (f"{kind}/{name}", name if kind == "models" else f"{kind}/{name}"):
                if path == prefix or path.startswith(f"{prefix}/"):
                    return repository, name, path.removeprefix(prefix).lstrip("/")
        return None

    def _create(self, wish: dict[str, Any]) -> Response:
        name = f"{wish.get('organization') or OWNER}/{wish['name']}"
        address = {"url": f"{self.endpoint}/{name}"}
        if ("models", name) in self.repositories:
            return JSONResponse(address | {"error": "You already created this model repo"}, status_code=409)
        if not name.startswith(f"{OWNER}/"):
            return _error(403, "", "You don't have the rights to create a model under this namespace")
        private = wish.get("private") is True or wish.get("visibility") == "private"
        self.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
        return JSONResponse(address)

    def _offer(self, objects: list[dict[str, Any]]) -> Response:
        for item in objects:
            if item["oid"] not in self.large:
                item["actions"] = {"upload": {"href": f"{self.endpoint}/lfs/{item['oid']}"}}
        return JSONResponse({"transfer": "basic", "objects": objects})

    def _commit(self, repository: Repository, name: str, lines: list[dict[str, Any]]) -> Response:
        files, message = dict(repository.commits[-1][2]), ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(files, message)
        address = f"{self.endpoint}/{name}/commit/{commit}"
        return JSONResponse({"success": True, "commitOid": commit, "commitUrl": address})

    def _content(self, request: Request, commit: str, path: str, content: bytes) -> Response:
        etag = _sha256(content) if _mode(path) == "lfs" else _blob(content)
        if path in self.damaged:
            content = bytes([content[0] ^ 1]) + content[1:]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        status, start = 200, 0
        if asked := re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", "")):
            start, status = int(asked[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        headers["Content-Length"] = str(len(content) - start)
        if request.method == "HEAD":
            return Response(headers=headers)
        end = len(content)
        if path in self.cut:
            self.cut.discard(path)
            end = start + (len(content) - start) // 2
        return StreamingResponse(self._pieces(content[start:end]), status_code=status, headers=headers)

    def _pieces(self, content: bytes) -> Iterator[bytes]:
        size = max(1, len(content) // 8) if self.pieces_s else len(content) or 1
        for start in range(0, len(content), size):
            time.sleep(self.pieces_s)
            yield content[start : start + size]


class _Server(uvicorn.Server):
    """Lets go of the connections that clients keep open."""

    async def shutdown(self, sockets: Any = None) -> None:
        await super().shutdown(sockets)
        await drop_connections()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
    if _mode(path) == "lfs":
        entry["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 130}
    return entry


def _mode(path: str) -> str:
    return "lfs" if path.endswith(LARGE) else "regular"


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse(
        {"error": message}, status_code=status, headers={"X-Error-Code": code, "X-Error-Message": message}
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
