"""Commands about messages: send, react, read, download, messages, groups.

Thin: everything is decided in the service.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from standfast.cli.context import run_async
from standfast.cli.output import JsonOption, print_json, size
from standfast.errors import UsageError
from standfast.messaging.file_types import kind_of
from standfast.service.client import SEND_WAIT_S, Client, connect
from standfast.service.records import Sent
from standfast.sessions.events import Message

Kind = Literal["image", "video", "audio", "voice", "document", "sticker"]
CompanyArgument = Annotated[str, typer.Argument(help="Company id: 1 to 50 letters, digits, '-' or '_'.")]
ToArgument = Annotated[str, typer.Argument(help="Phone number (+7…) or JID, also of a group.")]
WaitOption = Annotated[
    float, typer.Option("--wait", min=0, max=60, help="Seconds to wait until WhatsApp has it; 0: not at all.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("send")(send)
    app.command("react")(react)
    app.command("read")(read)
    app.command("download")(download)
    app.command("messages")(messages)
    app.command("groups")(groups)


def send(
    company: CompanyArgument,
    to: ToArgument,
    text: Annotated[str | None, typer.Argument(help="The message, or a file's caption.")] = None,
    file: Annotated[Path | None, typer.Option(metavar="PATH", help="A file to send.")] = None,
    url: Annotated[str | None, typer.Option(help="A file to fetch and send.")] = None,
    kind: Annotated[
        Kind | None, typer.Option("--as", help="What to send a file as; default: what it is, or a document.")
    ] = None,
    reply_to: Annotated[str | None, typer.Option(metavar="ID", help="The message that it answers.")] = None,
    wait_s: WaitOption = SEND_WAIT_S,
    as_json: JsonOption = False,
) -> None:
    """Send a message: a text, or a file."""
    content = _content(text, file, url, kind)
    if reply_to is not None:
        content["reply_to"] = reply_to
    _send(company, to, content, wait_s, as_json=as_json)


def react(
    company: CompanyArgument,
    to: ToArgument,
    message_id: Annotated[str, typer.Argument(help="The message that it is a reaction to.")],
    emoji: Annotated[str, typer.Argument(help="An emoji; '' takes a reaction back.")],
    wait_s: WaitOption = SEND_WAIT_S,
    as_json: JsonOption = False,
) -> None:
    """React to a message with an emoji."""
    content = {"type": "reaction", "to": message_id, "emoji": emoji}
    _send(company, to, content, wait_s, as_json=as_json)


def read(
    company: CompanyArgument,
    chat: ToArgument,
    message_id: Annotated[
        list[str] | None,
        typer.Argument(help="Messages to mark; without any, all that came since the last time."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Mark messages of a chat as read."""
    ids = run_async(_asked(lambda client: client.read(company, chat, message_id or None)))
    if as_json:
        print_json({"message_ids": ids})
    else:
        typer.echo(f"{len(ids)} marked as read")


def download(
    company: CompanyArgument,
    chat: ToArgument,
    message_id: Annotated[str, typer.Argument(help="The received message.")],
    file: Annotated[Path, typer.Argument(help="The file to write; it must be new.")],
    as_json: JsonOption = False,
) -> None:
    """Download a received message's file."""
    path = file.absolute()
    done = run_async(_asked(lambda client: client.download(company, chat, message_id, path)))
    if as_json:
        print_json(msgspec.to_builtins(done))
    else:
        typer.echo(f"{done.file}: {done.mime_type}, {size(done.size_bytes)}")


def messages(
    company: CompanyArgument,
    chat: Annotated[str | None, typer.Option(help="Only this chat: a phone number or JID.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many of each direction.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the latest messages, received and sent, oldest first."""
    received, sent = run_async(_asked(lambda client: _both(client, company, chat, limit)))
    if as_json:
        print_json({"received": msgspec.to_builtins(received), "sent": msgspec.to_builtins(sent)})
        return
    rows = [(float(one.timestamp_s), _received_row(one)) for one in received]
    rows += [(one.at, _sent_row(one)) for one in sent]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("at", "", "who", "what", "text", "id"):
        table.add_column(name)
    for at, cells in sorted(rows, key=lambda row: row[0]):
        table.add_row(time.strftime("%m-%d %H:%M:%S", time.localtime(at)), *map(Text, cells))
    Console().print(table if rows else "no message is kept here")


def groups(company: CompanyArgument, as_json: JsonOption = False) -> None:
    """List the groups that a company is in."""
    rows = run_async(_asked(lambda client: client.groups(company)))
    if as_json:
        print_json(msgspec.to_builtins(rows))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("group", "name", "members"):
        table.add_column(name)
    for row in rows:
        table.add_row(row.jid, Text(row.name), str(row.size))
    Console().print(table if rows else "the company is in no group")


def _content(text: str | None, file: Path | None, url: str | None, kind: Kind | None) -> dict[str, Any]:
    if file is None and url is None:
        if text is None or kind is not None:
            raise UsageError("give a text, --file or --url", next_step="See 'standfast send --help'.")
        return {"type": "text", "text": text}
    if file is not None and url is not None:
        raise UsageError("--file and --url exclude each other", next_step="Give one of them.")
    source = {"url": url} if file is None else {"file": str(file.absolute())}
    content = {"type": kind or (_kind_of(file) if file is not None else "document"), **source}
    return content if text is None else {**content, "caption": text}


def _kind_of(file: Path) -> str:
    """What a file is shown as where nobody said it; the service has the last word."""
    try:
        with file.open("rb") as opened:
            return kind_of(opened.read(512))
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error


def _send(company: str, to: str, content: dict[str, Any], wait_s: float, *, as_json: bool) -> None:
    sent = run_async(_asked(lambda client: client.send(company, to, content, wait_s=wait_s)))
    if as_json:
        print_json(msgspec.to_builtins(sent))
    else:
        typer.echo(f"{sent.state}, id {sent.message_id}")


async def _both(
    client: Client, company: str, chat: str | None, limit: int
) -> tuple[list[Message], list[Sent]]:
    received = await client.received(company, chat, limit=limit)
    return received, await client.sent(company, to=chat, limit=limit)


def _received_row(one: Message) -> tuple[str, ...]:
    return ("in", one.sender_alt or one.sender, one.type, one.text or "", one.id)


def _sent_row(one: Sent) -> tuple[str, ...]:
    content = one.content
    text = str(content.get("text") or content.get("emoji") or content.get("caption") or "")
    return (one.state, one.jid, str(content["type"]), text, one.message_id)


async def _asked(ask: Any) -> Any:
    async with connect() as client:
        return await ask(client)
