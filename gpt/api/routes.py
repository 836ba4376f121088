"""The routes: an OpenAI-compatible interface over the live backend, at /v1, and /metrics beside it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from gpt.api.answers import ChatAnswers, CompletionAnswers
from gpt.api.choice import Choice
from gpt.api.conversation import prompt, unknown_character
from gpt.api.gate import Gate
from gpt.api.guard import Guard
from gpt.api.metrics import CONTENT_TYPE, Metrics
from gpt.api.refusal import Refusal, refusal
from gpt.api.schema import CHAT_TOKENS, COMPLETION_TOKENS, MAX_CHOICES, Body, ChatBody, CompletionBody
from gpt.api.service import Service, Task
from gpt.backends.swappable import SwappableBackend
from gpt.errors import GPTError, UnknownCharacterError
from gpt.play import END_OF_SPEECH

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": words,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    for status, words in (
        (400, "a value is wrong"),
        (401, "the API key is missing or wrong"),
        (403, "a page or a name that may not use this server"),
        (404, "there is no such model or route"),
        (413, "the body is too large"),
        (415, "the body is no JSON"),
        (429, "too many requests; Retry-After says when to try again"),
        (503, "the model is being changed, or the server stops"),
    )
}
ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def add_api(
    app: FastAPI,
    backend: SwappableBackend,
    model_name: Callable[[], str],
    *,
    api_key: str = "",
    hosts: Collection[str] = (),
    max_running: int = 16,
    max_waiting: int = 64,
) -> None:
    """Add /v1 and /metrics to the application.

    Args:
        app: the page's, before the page is mounted.
        backend: the live one.
        model_name: gives the live checkpoint's name.
        api_key: guards both where it is not empty.
        hosts: the names by which this machine may be asked for; none means by any.
        max_running, max_waiting: requests.
    """
    metrics = Metrics()
    service = Service(backend, metrics, Gate(metrics, max_running, max_waiting))
    guard = Guard(_create(service, model_name), metrics, api_key, hosts)
    app.mount("/v1", guard)

    @app.get("/metrics", response_model=None)
    async def show(request: Request) -> Response:
        try:
            guard.check(request.scope)
        except Refusal as error:
            return error.answer()
        return Response(metrics.text(), media_type=CONTENT_TYPE)


def _create(service: Service, model_name: Callable[[], str]) -> FastAPI:
    # FastAPI's own pages about its routes take their scripts from other hosts.
    api = FastAPI(
        title="GPT by hand",
        version="1",
        description="OpenAI's completion interfaces over the live checkpoint.",
        docs_url=None,
        redoc_url=None,
        servers=[{"url": "/v1"}],
    )

    def check_model(body: Body) -> str:
        live = model_name()
        if body.model not in (None, live):
            raise Refusal(
                404, f"there is no model {body.model[:99]!r}; the live one is {live!r}", "model", "model_not_found"
            )
        return live

    def describe() -> dict[str, Any]:
        return {"id": model_name(), "object": "model", "created": 0, "owned_by": "gpt"}

    @api.get("/models", responses=ERRORS)
    def models() -> dict[str, Any]:
        """The live checkpoint; others can be used when they are put to use."""
        return {"object": "list", "data": [describe()]}

    @api.get("/models/{model:path}", responses=ERRORS)
    def model(model: str) -> dict[str, Any]:
        """One model."""
        if model != model_name():
            raise Refusal(404, f"there is no model {model[:99]!r}", "model", "model_not_found")
        return describe()

    @api.post("/completions", responses=ERRORS, response_model=None)
    async def completions(body: CompletionBody, request: Request) -> Response:
        """Continue a text, or several, n times each."""
        live, n = check_model(body), body.n or 1
        if body.best_of not in (None, n):
            raise Refusal(400, f"best_of is {body.best_of}; leave it out, or give n, which is {n}", "best_of")
        tokens = COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
        choices = [
            Choice(
                body.request(
                    number, **given, max_new_tokens=tokens or 1, stop=body.stop_strings(), logprobs=body.logprobs
                ),
                bool(body.echo),
                tokens > 0,
            )
            for given in body.prompts()
            for number in range(n)
        ]
        return await service.answer(_task(body, choices, CompletionAnswers(live), body.logprobs is not None), request)

    @api.post("/chat/completions", responses=ERRORS, response_model=None)
    async def chat(body: ChatBody, request: Request) -> Response:
        """Answer as the other character of a dialogue."""
        live = check_model(body)
        if body.top_logprobs is not None and not body.logprobs:
            raise Refusal(400, "top_logprobs is given without logprobs; send logprobs: true too", "top_logprobs")
        choices = [
            Choice(
                body.request(
                    number,
                    prompt=prompt(body.messages),
                    max_new_tokens=body.max_completion_tokens or body.max_tokens or CHAT_TOKENS,
                    stop=(*body.stop_strings(), END_OF_SPEECH),
                    logprobs=(body.top_logprobs or 0) if body.logprobs else None,
                )
            )
            for number in range(body.n or 1)
        ]
        try:
            return await service.answer(_task(body, choices, ChatAnswers(live), bool(body.logprobs)), request)
        except UnknownCharacterError as error:
            raise unknown_character(body.messages, error) from error

    _add_errors(api)
    return api


def _task(body: Body, choices: list[Choice], answers: CompletionAnswers | ChatAnswers, logprobs: bool) -> Task:
    if len(choices) > MAX_CHOICES:
        raise Refusal(400, f"n times the prompts is {len(choices)}; at most {MAX_CHOICES} texts are made at once", "n")
    if body.stream_options is not None and not body.stream:
        raise Refusal(400, "stream_options is given without stream; send stream: true too", "stream_options")
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    return Task(choices, answers, body.n or 1, logprobs, bool(body.stream), include_usage)


def _add_errors(api: FastAPI) -> None:
    """Give every error as an error object, here and in the description."""

    async def refuse(_: Request, error: Exception) -> Response:
        return refusal(error).answer()

    for kind in (Refusal, GPTError, Exception):
        api.add_exception_handler(kind, refuse)

    @api.exception_handler(RequestValidationError)
    async def refuse_what_is_no_json(request: Request, _: RequestValidationError) -> Response:
        # A wrong value in a body has been refused by then.
        chats = request.url.path.endswith("/chat/completions")
        example = '{"messages": [{"role": "user", "content": "Who calls?"}]}' if chats else '{"prompt": "ROMEO:"}'
        return Refusal(400, f"the body is no JSON; send an object such as {example}").answer()

    @api.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> Response:
        answer = Refusal(
            error.status_code,
            f"there is no {request.method} {request.url.path[:99]} here; there are GET /v1/models, "
            "POST /v1/completions and POST /v1/chat/completions",
        ).answer()
        answer.headers.update(error.headers or {})
        return answer

    description = api.openapi

    def openapi() -> dict[str, Any]:
        schema = description()
        schema["components"]["schemas"]["Error"] = ERROR_SCHEMA
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)  # it is 400 here
        return schema

    api.openapi = openapi  # type: ignore[method-assign]
