"""Which command is in which module, and the group that imports only the module of the command that was named.

Invariant: whatever the command line names, no other command's module is imported; `--help` and completion need none.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from standfast.cli.context import configure_early


class Listed(NamedTuple):
    """A command or a group of commands. `module` has `register(app)`; `help` is the first sentence of its help.
    `failure_code` is what every failure of it ends with, where its exit codes have a meaning of their own."""

    name: str
    module: str
    help: str
    failure_code: int | None = None


# The order is that of `standfast --help`.
COMMANDS = (
    Listed("up", "service", "Run the service: database, gateway, Node host and every wanted session."),
    Listed("status", "service", "Show the running service, its database and its sessions."),
    Listed(
        "health",
        "health",
        "Show how the service, its database and its sessions are, and what to do.",
        failure_code=3,
    ),
    Listed("sessions", "sessions", "List every session with its state."),
    Listed("start", "sessions", "Start a paired company's session."),
    Listed("stop", "sessions", "End a session; it is not started again by itself."),
    Listed("restart", "sessions", "End a session and start it anew."),
    Listed(
        "logout", "sessions", "Unlink the company's device at WhatsApp; it must be paired anew afterwards."
    ),
    Listed(
        "handover",
        "handover",
        "Give sessions to another living node, one by one, as before an upgrade.",
    ),
    Listed(
        "pair",
        "pairing",
        "Pair a company: shows the QR (or, with --phone, the pairing code) and waits until it is connected.",
    ),
    Listed("send", "messages", "Send a message: a text, or a file."),
    Listed("react", "messages", "React to a message with an emoji."),
    Listed("read", "messages", "Mark messages of a chat as read."),
    Listed("download", "messages", "Download a received message's file."),
    Listed("messages", "messages", "Show the latest messages, received and sent, oldest first."),
    Listed("groups", "messages", "List the groups that a company is in."),
    Listed("mcp", "mcp", "Serve an MCP client over stdin and stdout; the client starts it, see docs/mcp.md."),
    Listed(
        "migrate",
        "database",
        "Bring the database to this version's schema; it only adds, and adopts tables that a Node bot filled.",
    ),
    Listed("stats", "database", "Count what PostgreSQL holds: records, keys by type and age, sizes."),
    Listed(
        "export",
        "transfer",
        "Write a company's auth state as a folder that Baileys' useMultiFileAuthState reads.",
    ),
    Listed("import", "transfer", "Store a folder's auth state in PostgreSQL as a company's."),
    Listed("cleanup", "cleanup", "Remove keys that may go by their type's rule; 'undo' puts them back."),
    Listed("backup", "backup", "Backups of the database: run, list, show, prove, copy elsewhere, put back."),
    Listed("restore", "restore", "Put companies back to what they were at a second, out of the change log."),
    Listed(
        "emergency",
        "emergency",
        "Stand on files while PostgreSQL is gone, and go back: to-files, to-postgres, status.",
    ),
    Listed(
        "changelog",
        "changelog",
        "The log of every change, for 'standfast restore --at': list, verify, fetch, compact.",
    ),
    Listed("schedule", "schedule", "Jobs and their times: next and last runs; 'run' runs one now."),
    Listed(
        "doctor",
        "doctor",
        "Check machine, Node.js, PostgreSQL, files and network; change nothing, and name each mend.",
    ),
    Listed(
        "verify",
        "verify",
        "Check that creds and keys are whole: in PostgreSQL, in the replica and in files; change nothing.",
    ),
    Listed(
        "repair",
        "repair",
        "Mend what 'standfast verify' finds, as far as keys tolerate it; what goes is kept.",
    ),
    Listed(
        "drill",
        "drill",
        "Rehearse an outage of PostgreSQL; 'list' and 'show' tell of drills that were made.",
    ),
    Listed(
        "runbook",
        "runbook",
        "Show what to do when PostgreSQL is in trouble: which scenario fits now, or one of them in full.",
    ),
    Listed(
        "alerts", "alerts", "Show what operators were told of, and what goes on; 'test' tries the channels."
    ),
    Listed("config", "config", "Show every setting with its source; secrets are masked."),
    Listed(
        "simulator",
        "simulator",
        "Run the WhatsApp simulator until Ctrl-C; real Baileys clients pair with it and log in.",
    ),
    Listed(
        "quarantine",
        "quarantine",
        "Writes that were overtaken by another owner of their company: list, show, apply, discard.",
    ),
    Listed(
        "webhooks",
        "webhooks",
        "Programs that are told of events by HTTP: add, list, show, pause, replay …",
    ),
    Listed("consumers", "webhooks", "Programs that go on with messages where they were: list, remove."),
    Listed("tokens", "tokens", "Bearer tokens of the HTTP API: create, list, revoke."),
)
FAILURE_CODE: ContextVar[int | None] = ContextVar("FAILURE_CODE", default=None)
"""What a failure of the command that runs ends with, instead of the code of its kind."""
_FAILURE_CODES = {listed.name: listed.failure_code for listed in COMMANDS}
_MODULES = {listed.name: listed.module for listed in COMMANDS}


class _Option(TyperOption):
    """typer imports pydantic to convert a value. One that was not given needs no conversion."""

    def process_value(self, ctx: Any, value: Any) -> Any:
        if value is not None or self.required or self.multiple or self.nargs != 1:
            return super().process_value(ctx, value)
        return None if self.callback is None else self.callback(ctx, self, None)


class LazyGroup(TyperGroup):
    """Holds each command as its name and help until it is run or completed."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for listed in COMMANDS:
            self.commands[listed.name] = TyperCommand(
                listed.name, help=listed.help, rich_markup_mode=None, add_help_option=False
            )
        self._waiting = dict(_MODULES)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `TyperGroup`. By now it has the options for completion."""
        _spare_conversion(self, ctx)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See `TyperGroup`."""
        FAILURE_CODE.set(_FAILURE_CODES.get(args[0]))
        if args[0] in self._waiting:
            self._load(self._waiting[args[0]], ctx)
        return super().resolve_command(ctx, args)

    def _load(self, module: str, ctx: Any) -> None:
        for name, command in commands_of(module).items():
            self.commands[name] = command
            _spare_conversion(command, ctx)
            self._waiting.pop(name, None)
        if "structlog" in sys.modules:
            # Before the settings are known, so that no library's first record goes to stdout.
            configure_early()


def _spare_conversion(command: Any, ctx: Any) -> None:
    for param in command.get_params(ctx):
        if type(param) is TyperOption:
            param.__class__ = _Option


def commands_of(module: str) -> dict[str, Any]:
    """The commands that a module of this package has, by name."""
    app = typer.Typer(rich_markup_mode=None, callback=_nothing)
    import_module(f"standfast.cli.{module}").register(app)
    group = typer.main.get_group(app)
    return dict(group.commands)


def _nothing() -> None:
    """A group with a callback stays one, also with a single command."""
