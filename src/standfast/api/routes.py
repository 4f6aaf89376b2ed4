"""`Routes`: how a resource's operations are registered: handler, scope, and their part of the description of the API.

Invariant: an operation without a scope is public, and there is none but those that `Guard.public` names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from fastapi import Depends, FastAPI, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from standfast.api.answers import Problem, encode
from standfast.api.guard import Caller
from standfast.api.parts import Parts
from standfast.api.problems import MEDIA_TYPE
from standfast.api.token_file import Scope

JSON = "application/json"
_REF = "#/components/schemas/{name}"
_PROBLEM = {"$ref": _REF.format(name="Problem")}
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "Made by `standfast tokens create`. Needed once any token exists, and on every address that is not "
    "a loopback one. Scopes: `read`, `send`, `admin` (everything); for single companies, or all.",
}
CompanyPath = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9_-]{1,50}$",
        min_length=1,
        max_length=50,
        description="The company.",
        examples=["acme"],
    ),
]
Wait = Annotated[
    float,
    Query(
        ge=0, le=60, allow_inf_nan=False, description="For how many seconds to wait for that.", examples=[0]
    ),
]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of an operation; `kind` is None where it has no JSON."""

    description: str
    kind: type | None
    example: Any = None
    media_types: tuple[str, ...] = (JSON,)


@dataclass(frozen=True, slots=True)
class Operation:
    """What is said of an operation beside its parameters."""

    method: str
    path: str
    scope: Scope | None
    answers: Mapping[int, Answer]
    problems: tuple[int, ...]
    body: type | None
    example: Any
    body_is_optional: bool
    binary_body: str | None


class Json(Response):
    """A document, written once."""

    media_type = JSON

    def __init__(self, document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(encode(document), status, headers)


def caller_of(request: Request) -> Caller:
    """Who asks, as `Edge` has found out."""
    caller: Caller = request.scope["caller"]
    return caller


class Routes:
    """Registers operations with the application and describes them."""

    def __init__(self, app: FastAPI, parts: Parts) -> None:
        self.app = app
        self.parts = parts
        self.operations: list[Operation] = []

    def add(
        self,
        method: str,
        path: str,
        handler: Callable[..., Any],
        *,
        tag: str,
        scope: Scope | None,
        summary: str,
        answers: Mapping[int, Answer],
        problems: tuple[int, ...] = (),
        body: type | None = None,
        example: Any = None,
        body_is_optional: bool = False,
        binary_body: str | None = None,
        also_head: bool = False,
    ) -> None:
        """The handler's docstring is the operation's description."""
        needs = [Depends(_check(scope))] if scope else []
        if also_head:
            self.app.add_api_route(
                path,
                handler,
                methods=["HEAD"],
                include_in_schema=False,
                response_model=None,
                dependencies=needs,
            )
        self.app.add_api_route(
            path,
            handler,
            methods=[method],
            tags=[tag],
            summary=summary,
            response_model=None,
            response_class=Response,
            status_code=next(iter(answers)),
            operation_id=handler.__name__,
            dependencies=needs,
        )
        self.operations.append(
            Operation(method, path, scope, answers, problems, body, example, body_is_optional, binary_body)
        )

    def describe(self, schema: dict[str, Any]) -> dict[str, Any]:
        """FastAPI's description, with bodies, answers, problems and scopes put in."""
        kinds = {Problem, *(answer.kind for one in self.operations for answer in one.answers.values())}
        kinds |= {one.body for one in self.operations}
        ordered = sorted((kind for kind in kinds if kind is not None), key=lambda kind: kind.__name__)
        _, components = msgspec.json.schema_components(ordered, ref_template=_REF)
        schema["components"] = {"schemas": components, "securitySchemes": {"bearer": _BEARER}}
        for one in self.operations:
            operation = schema["paths"][one.path][one.method.lower()]
            operation["responses"] = _responses(one)
            if one.body is not None:
                operation["requestBody"] = {
                    "required": not one.body_is_optional,
                    "content": {JSON: {"schema": _ref(one.body), "example": one.example}},
                }
            if one.binary_body is not None:
                content = {one.binary_body: {"schema": {"type": "string", "format": "binary"}}}
                operation["requestBody"] = {"required": True, "content": content}
            if one.scope is not None:
                operation["security"] = [{"bearer": []}, {}]
                operation["description"] = (
                    f"{operation.get('description', '')}\n\nScope: `{one.scope}`.".strip()
                )
        return schema


def _check(scope: Scope) -> Callable[[Request], Any]:
    async def check(request: Request) -> None:
        caller_of(request).need(scope, request.path_params.get("company"))

    return check


def _responses(one: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, answer in one.answers.items():
        content: dict[str, Any] = {}
        for media_type in answer.media_types:
            is_json = media_type == JSON and answer.kind is not None
            shown: dict[str, Any] = {"schema": _ref(answer.kind) if is_json else {"type": "string"}}
            content[media_type] = (
                shown if answer.example is None or not is_json else {**shown, "example": answer.example}
            )
        found[str(status)] = {"description": answer.description, "content": content}
    usual = (421, 431, 500, 503) if one.scope is None else (401, 403, 421, 429, 431, 500, 503)
    with_body = (400, 408, 413, 415) if one.body is not None or one.binary_body is not None else (413,)
    for status in sorted({422, *usual, *with_body, *one.problems} - set(one.answers)):
        content = {MEDIA_TYPE: {"schema": _PROBLEM}}
        found[str(status)] = {"description": _PROBLEMS.get(status, "A problem."), "content": content}
    return found


def _ref(kind: type | None) -> dict[str, str]:
    assert kind is not None
    return {"$ref": _REF.format(name=kind.__name__)}


_PROBLEMS = {
    400: "The body is not JSON.",
    401: "A token is missing, unknown, revoked or expired.",
    403: "The token lacks the scope or the company, or a page of another site asks.",
    404: "There is no such company, session or message.",
    408: "The body did not come in time.",
    409: "Not as things stand: `next_step` says what to do.",
    413: "The body is too large.",
    415: "The body must be JSON.",
    421: "Without a token only requests to a loopback address are answered.",
    422: "Something in it is wrong: `detail` says what.",
    429: "Asked for too often.",
    431: "The headers are too large.",
    500: "A fault of Standfast's.",
    503: "Not now: PostgreSQL, the disk or the host does not take it.",
}
