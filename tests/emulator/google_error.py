"""GoogleError: a refusal in the form that Google's services give it."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

# HTTP status -> the name of the gRPC code that goes with it.
STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class GoogleError(Exception):
    """A request is refused.

    Args:
        code: HTTP status.
        message: for the caller.
        status: the gRPC code's name where it is not the usual one of `code`.
    """

    def __init__(self, code: int, message: str, status: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUS.get(code, "UNKNOWN")

    def body(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message, "status": self.status}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), status_code=self.code)


def not_found(name: str) -> GoogleError:
    return GoogleError(404, f"The resource {name} is not found.")
