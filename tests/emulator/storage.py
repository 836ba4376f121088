"""Cloud Storage's JSON API over buckets in memory, as google-cloud-storage calls it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.emulator.call import PROJECT_NUMBER, now
from tests.emulator.google_error import GoogleError

LIMIT = 1000  # objects on a page


@dataclass
class StoredObject:
    """An object: its bytes and what the service says of it."""

    data: bytes
    resource: dict[str, Any]


@dataclass
class Bucket:
    """A bucket and its objects by name."""

    resource: dict[str, Any]
    objects: dict[str, StoredObject] = field(default_factory=dict)


class Storage:
    """The buckets. `writes` counts the objects ever written, so that a test can say that nothing was uploaded."""

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.writes = 0
        self._generation = itertools.count(1)
        self._uploads: dict[str, tuple[str, dict[str, Any], dict[str, str], bytearray]] = {}

    def clear(self) -> None:
        """Forget every bucket."""
        self.buckets.clear()
        self._uploads.clear()

    def create_bucket(self, name: str, location: str = "US-CENTRAL1") -> None:
        """Make an empty bucket, if it is not there."""
        self.buckets.setdefault(name, Bucket(_bucket_resource(name, location)))

    def names(self, bucket: str) -> list[str]:
        """The names of a bucket's objects."""
        return sorted(self.buckets[bucket].objects)

    def put(self, bucket: str, name: str, data: bytes) -> None:
        """Write an object, as an upload does."""
        self._store(bucket, {"name": name}, data, {})

    def read(self, uri: str) -> bytes:
        """The bytes of gs://BUCKET/NAME."""
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        return self.buckets[bucket].objects[name].data

    def routes(self) -> list[Route]:
        paths = (
            ("POST", "/storage/v1/b", self._create),
            ("GET", "/storage/v1/b", self._list_buckets),
            ("GET", "/storage/v1/b/{bucket}", self._get_bucket),
            ("DELETE", "/storage/v1/b/{bucket}", self._delete_bucket),
            ("GET", "/storage/v1/b/{bucket}/o", self._list),
            ("GET", "/storage/v1/b/{bucket}/o/{name:path}", self._get),
            ("DELETE", "/storage/v1/b/{bucket}/o/{name:path}", self._delete),
            ("GET", "/download/storage/v1/b/{bucket}/o/{name:path}", self._download),
            ("POST", "/upload/storage/v1/b/{bucket}/o", self._upload),
            ("PUT", "/upload/storage/v1/b/{bucket}/o", self._continue),
        )
        return [_route(method, path, handle) for method, path, handle in paths]

    def _bucket(self, name: str) -> Bucket:
        if name not in self.buckets:
            raise GoogleError(404, "The specified bucket does not exist.")
        return self.buckets[name]

    def _object(self, bucket: str, name: str) -> StoredObject:
        objects = self._bucket(bucket).objects
        if name not in objects:
            raise GoogleError(404, f"No such object: {bucket}/{name}")
        return objects[name]

    async def _create(self, request: Request) -> Response:
        body = await request.json()
        if body["name"] in self.buckets:
            raise GoogleError(409, "Your previous request to create the named bucket succeeded and you already own it.")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", body["name"]):
            raise GoogleError(400, f"Invalid bucket name: '{body['name']}'")
        self.create_bucket(body["name"], body.get("location", "US").upper())
        return JSONResponse(self.buckets[body["name"]].resource)

    async def _list_buckets(self, request: Request) -> Response:
        return JSONResponse({"kind": "storage#buckets", "items": [item.resource for item in self.buckets.values()]})

    async def _get_bucket(self, request: Request) -> Response:
        return JSONResponse(self._bucket(request.path_params["bucket"]).resource)

    async def _delete_bucket(self, request: Request) -> Response:
        if self._bucket(request.path_params["bucket"]).objects:
            raise GoogleError(409, "The bucket you tried to delete is not empty.")
        del self.buckets[request.path_params["bucket"]]
        return Response(status_code=204)

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items, prefixes = [], set()
        for name, stored in sorted(self._bucket(request.path_params["bucket"]).objects.items()):
            if name.startswith(prefix) and name > query.get("pageToken", ""):
                inside, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
                if found:
                    prefixes.add(prefix + inside + delimiter)
                else:
                    items.append(stored.resource)
        limit = int(query.get("maxResults", LIMIT))
        reply: dict[str, Any] = {"kind": "storage#objects", "items": items[:limit], "prefixes": sorted(prefixes)}
        if len(items) > limit:
            reply["nextPageToken"] = items[limit - 1]["name"]
        return JSONResponse(reply)

    async def _get(self, request: Request) -> Response:
        if request.query_params.get("alt") == "media":
            return await self._download(request)
        return JSONResponse(self._object(**request.path_params).resource)

    async def _delete(self, request: Request) -> Response:
        self._object(**request.path_params)
        del self._bucket(request.path_params["bucket"]).objects[request.path_params["name"]]
        return Response(status_code=204)

    async def _download(self, request: Request) -> Response:
        stored = self._object(**request.path_params)
        resource, size = stored.resource, len(stored.data)
        headers = {
            "X-Goog-Hash": f"crc32c={resource['crc32c']},md5={resource['md5Hash']}",
            "X-Goog-Generation": resource["generation"],
        }
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if wanted is None or not size:
            return Response(stored.data, headers=headers, media_type="application/octet-stream")
        start, end = int(wanted[1]), min(int(wanted[2] or size), size - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        return Response(stored.data[start : end + 1], 206, headers, "application/octet-stream")

    async def _upload(self, request: Request) -> Response:
        """Take an object whole, or open a resumable upload."""
        bucket, query, data = request.path_params["bucket"], dict(request.query_params), await request.body()
        self._bucket(bucket)
        kind = query.get("uploadType")
        if kind == "multipart":
            metadata, content = _parts(request.headers["content-type"], data)
            return JSONResponse(self._store(bucket, json.loads(metadata), content, query))
        if kind == "media":
            return JSONResponse(self._store(bucket, {"name": query["name"]}, data, query))
        if kind != "resumable":
            raise GoogleError(400, f"Invalid uploadType: {kind}")
        fields = json.loads(data) if data else {}
        fields.setdefault("name", query.get("name"))
        upload = str(len(self._uploads) + 1)
        self._uploads[upload] = (bucket, fields, query, bytearray())
        location = f"{request.url.scheme}://{request.url.netloc}{request.url.path}"
        return Response(headers={"Location": f"{location}?uploadType=resumable&upload_id={upload}"})

    async def _continue(self, request: Request) -> Response:
        """Take the next chunk of a resumable upload; the last one stores the object."""
        upload = request.query_params["upload_id"]
        if upload not in self._uploads:
            raise GoogleError(404, "No such upload.")
        bucket, fields, query, received = self._uploads[upload]
        received += await request.body()
        total = request.headers.get("content-range", "*/*").rpartition("/")[2]
        if total != "*" and len(received) < int(total):
            end = {"Range": f"bytes=0-{len(received) - 1}"} if received else {}
            return Response(status_code=308, headers=end)
        del self._uploads[upload]
        return JSONResponse(self._store(bucket, fields, bytes(received), query))

    def _store(self, bucket: str, fields: dict[str, Any], data: bytes, query: dict[str, str]) -> dict[str, Any]:
        objects, name = self._bucket(bucket).objects, fields["name"]
        wanted = query.get("ifGenerationMatch")
        present = objects[name].resource["generation"] if name in objects else "0"
        if wanted is not None and wanted != present:
            raise GoogleError(412, "At least one of the pre-conditions you specified did not hold.")
        crc32c = base64.b64encode(google_crc32c.Checksum(data).digest()).decode()
        if fields.get("crc32c", crc32c) != crc32c:
            raise GoogleError(400, f"Provided CRC32C {fields['crc32c']!r} doesn't match calculated CRC32C {crc32c!r}.")
        moment, generation = now(), str(next(self._generation))
        resource = {
            "contentType": "application/octet-stream",
            **fields,
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{generation}",
            "bucket": bucket,
            "generation": generation,
            "metageneration": "1",
            "size": str(len(data)),
            "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
            "crc32c": crc32c,
            "storageClass": "STANDARD",
            "timeCreated": moment,
            "updated": moment,
        }
        objects[name] = StoredObject(data, resource)
        self.writes += 1
        return resource


def _route(method: str, path: str, handle: Any) -> Route:
    async def answer(request: Request) -> Response:
        try:
            response: Response = await handle(request)
        except GoogleError as error:
            return error.response()
        return response

    return Route(path, answer, methods=[method])


def _parts(content_type: str, data: bytes) -> list[bytes]:
    """The bodies of a multipart message, to the byte."""
    boundary = re.search(r'boundary="?([^";]+)"?', content_type)
    if boundary is None:
        raise GoogleError(400, "Missing multipart boundary.")
    _, *parts, _ = data.split(f"--{boundary[1]}".encode())
    return [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts]


def _bucket_resource(name: str, location: str) -> dict[str, Any]:
    moment = now()
    return {
        "kind": "storage#bucket",
        "id": name,
        "name": name,
        "projectNumber": PROJECT_NUMBER,
        "location": location,
        "locationType": "region",
        "storageClass": "STANDARD",
        "timeCreated": moment,
        "updated": moment,
    }
