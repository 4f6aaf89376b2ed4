"""The page that shows the description of the API to people: one HTML document without scripts.

Invariant: nothing of it comes from elsewhere, and all text in it is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222;
       background: #fff }
pre { background: #f4f4f4; padding: .6rem .8rem; overflow-x: auto; border-radius: 4px; font-size: 14px }
summary { cursor: pointer; padding: .35rem 0 } summary b { display: inline-block; width: 4.5rem }
table { border-collapse: collapse } td { padding: .15rem .8rem .15rem 0; vertical-align: top }
h2 { margin: 2rem 0 .3rem; border-bottom: 1px solid #ccc }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } pre { background: #262626 }
       a { color: #8ab4f8 } }
"""
_METHODS = ("get", "post", "put", "patch", "delete")


def page_of(schema: dict[str, Any]) -> str:
    """The page of an OpenAPI document."""
    title = escape(f"{schema['info']['title']} {schema['info']['version']}")
    return "".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>',
            f"<body><h1>{title}</h1><p>{_prose(schema['info']['description'])}</p>",
            '<p>For programs: <a href="/openapi.json">openapi.json</a>.</p>',
            *_operations(schema),
            "</body></html>",
        ]
    )


def _operations(schema: dict[str, Any]) -> Iterator[str]:
    tag = None
    for path, methods in schema["paths"].items():
        for method in _METHODS:
            operation = methods.get(method)
            if operation is None:
                continue
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                yield f"<h2>{escape(tag)}</h2>"
            yield from _operation(method, path, operation)


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    summary = escape(operation["summary"])
    yield f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> {summary}</summary>"
    yield f"<p>{_prose(operation.get('description', ''))}</p>"
    yield "<table>" + "".join(map(_parameter, operation.get("parameters", ()))) + "</table>"
    yield f"<pre>{escape(_curl(method, path, operation))}</pre>"
    for status, response in operation["responses"].items():
        yield f"<p>{status}: {escape(response['description'])}</p>"
        for content in response["content"].values():
            if "example" in content:
                yield f"<pre>{escape(json.dumps(content['example'], indent=2, ensure_ascii=False))}</pre>"
    yield "</details>"


def _parameter(parameter: dict[str, Any]) -> str:
    needed = ", needed" if parameter.get("required") else ""
    return (
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}{needed}</td>"
        f"<td>{_prose(parameter.get('description', ''))}</td></tr>"
    )


def _curl(method: str, path: str, operation: dict[str, Any]) -> str:
    told = path.replace("{company}", "acme").replace("{message_id}", "3EB0A1B2C3D4E5F6071829")
    parts = ["curl"] + (["-X", method.upper()] if method not in ("get", "post") else [])
    if operation.get("security"):
        parts.append('-H "Authorization: Bearer $TOKEN"')
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        example = json.dumps(content["application/json"]["example"], ensure_ascii=False)
        parts.append(f"-H 'Content-Type: application/json' -d '{example}'")
    elif content:
        parts.append("--data-binary @FILE")
    elif method == "post":
        parts.append("-X POST")
    return " ".join([*parts, f"http://127.0.0.1:3003{told}"])


def _prose(text: str) -> str:
    """Escaped, with `code` marked as such."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))
