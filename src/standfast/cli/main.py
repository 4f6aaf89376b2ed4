"""The `standfast` command: its groups of commands, and how whatever they raise ends the process.

Invariant: every failure prints what happened and what to do next, and ends with the exit code of its kind
(docs/exit-codes.md); a traceback is shown only with STANDFAST_LOG=debug.
"""

from __future__ import annotations

import contextvars
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from standfast import __version__
from standfast.cli.commands import FAILURE_CODE, LazyGroup
from standfast.cli.context import Terminated
from standfast.cli.output import ReaderGone, console, print_error
from standfast.errors import StandfastError, UsageError
from standfast.settings.places import COMMAND_LINE

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143


class Unexpected(StandfastError):
    """A failure that nobody foresaw: a fault of Standfast's."""

    exit_code = 70
    default_next_step = "Run it again with STANDFAST_LOG=debug and report what it prints."


app = typer.Typer(
    name="standfast",
    cls=LazyGroup,
    help="Keeps WhatsApp (Baileys) sessions standing when PostgreSQL falls.",
    epilog="Exit codes: docs/exit-codes.md. Settings: .env.example and 'standfast config'.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _standfast(
    ctx: typer.Context,
    state_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="State directory, before STANDFAST_STATE_DIR.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        console().print(f"standfast {__version__}")
        raise typer.Exit
    COMMAND_LINE.set({"STANDFAST_STATE_DIR": state_dir})
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(UsageError.exit_code)


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main(sys.argv[1:]))


def main(args: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    return contextvars.copy_context().run(_main, list(args))


def _main(args: list[str]) -> int:
    as_json = "--json" in args
    try:
        code = app(args=args, prog_name="standfast", standalone_mode=False)
        sys.stdout.flush()
    except (BrokenPipeError, ReaderGone):
        return _broken_pipe()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Terminated:
        return EXIT_TERMINATED
    except typer.Abort:
        return EXIT_INTERRUPTED
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else Unexpected.exit_code
    except Exception as error:  # noqa: BLE001 - the last place that can tell the operator
        return _failed(error, as_json=as_json)
    return code if isinstance(code, int) else 0


def _failed(error: Exception, *, as_json: bool) -> int:
    known = _known(error)
    if _is_debugging():
        import traceback

        from standfast.redaction import redact_text

        sys.stderr.write(redact_text("".join(traceback.format_exception(error))))
    print_error(known, as_json=as_json)
    return FAILURE_CODE.get() or known.exit_code


def _known(error: BaseException) -> StandfastError:
    """The error of ours that `error` is or carries. Of any other only the class is told: its text may hold
    what a driver was given, passwords among it."""
    if isinstance(error, StandfastError):
        return error
    if isinstance(error, TyperException):
        return UsageError(error.format_message(), next_step="See the command's '--help'.")
    if isinstance(error, BaseExceptionGroup):
        carried = [_known(inner) for inner in error.exceptions]
        return next((one for one in carried if not isinstance(one, Unexpected)), carried[0])
    return Unexpected(f"unexpected failure ({type(error).__name__})")


def _is_debugging() -> bool:
    return os.environ.get("STANDFAST_LOG") == "debug" or logging.getLogger().level == logging.DEBUG


def _broken_pipe() -> int:
    """The reader of our output left, as `head` does; Python must not complain again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_BROKEN_PIPE
