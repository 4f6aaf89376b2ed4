"""How blocks of documents are read and compared: what counts as equal, and what is refused."""

from __future__ import annotations

import pytest

from tests.documents import Bound, Malformed, Step, blocks_of, matched, run_step

PAGE = """
Words.

<!-- setup: outage -->
```console
$ standfast health
PostgreSQL is away
(exit code 2)
$ ls
```

```text
a drawing
```

```sh
# not run: it is another machine
sudo poweroff
```
"""


def test_a_block_has_its_state_and_its_commands() -> None:
    """Commands, what they print and how they end, in order; drawings and what says that it is not run are left."""
    (block,) = blocks_of(PAGE)
    assert block.setup == "outage"
    assert block.steps == (
        Step(6, "standfast health", "PostgreSQL is away", 2),
        Step(9, "ls", "", 0),
    )


@pytest.mark.parametrize(
    "text",
    [
        "```console\n$ ls\n```",
        "<!-- setup: outage -->\nWords between.\n\n```console\n$ ls\n```",
        "<!-- setup: outage -->\n```console\n$ ls\n```\n\n```console\n$ ls\n```",
        "```sh\nstandfast cleanup\n```",
        "```\nls\n```",
        "<!-- setup: outage -->\n```console\nno command\n```",
        "<!-- setup: outage -->\n```console\n$ ls",
    ],
)
def test_what_nobody_would_run_is_refused(text: str) -> None:
    """A block without a state, of another language, without a command or without an end is no block of a document."""
    with pytest.raises(Malformed):
        blocks_of(text)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("12 keys in 0.3 s", "1,612 keys   in\n  41 ms"),
        (
            "from 20261122T101530Z, as of 2026-11-22 10:15:30",
            "from 20261123T000000Z, as of 2026-11-23 01:02:03",
        ),
        ("away for 2 h 05 m: 12 kB", "away for 4 s: 1.5 MB"),
        ("first ... last", "first last"),
        ("first ... last", "first of many, and last"),
        ("...\nend", "begin\nend"),
        ("id ...", "id 3EB0"),
        ("dir/...", "dir/20261122"),
    ],
)
def test_what_differs_from_run_to_run_is_equal(expected: str, printed: str) -> None:
    """Times, sizes, larger numbers, line breaks, and what is left out."""
    assert matched(expected, printed) == {}


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("0 lost", "3 lost"),
        ("2 of 2 stand", "1 of 2 stand"),
        ("2 of 2 stand", "12 of 12 stand"),
        ("acme: replay", "acme: rolled back"),
        ("all", "all and more"),
        ("all and more", "all"),
        ("first ... last", "first"),
        ("", "something"),
    ],
)
def test_what_an_operator_would_notice_is_not(expected: str, printed: str) -> None:
    """A small count, a word, something more or less."""
    assert matched(expected, printed) is None


async def test_a_name_is_found_in_one_command_and_used_in_the_next() -> None:
    """`<run>` is what stood there; a path of this machine is what the document calls it."""
    bound = Bound({"/var/lib/standfast": "/somewhere/else"})
    ran: list[str] = []

    async def shell(command: str) -> tuple[int, str]:
        ran.append(command)
        return 0, "run 20261122T101530Z in /somewhere/else/trash"

    await run_step(
        Step(1, "list /var/lib/standfast", "run <run> in /var/lib/standfast/trash", 0), bound, shell
    )
    await run_step(Step(2, "undo <run>", "run <run> in ...", 0), bound, shell)
    assert ran == ["list /somewhere/else", "undo 20261122T101530Z"]


async def test_another_end_or_output_fails_with_both_texts() -> None:
    """Whoever reads the failure sees the place, the command, what was meant and what came."""

    async def shell(_command: str) -> tuple[int, str]:
        return 3, "PostgreSQL is back"

    with pytest.raises(AssertionError) as failed:
        await run_step(Step(7, "standfast health", "PostgreSQL is away", 0), Bound(), shell, "page.md")
    for part in ("page.md:7", "ended with 3, not 0", "-PostgreSQL is away", "+PostgreSQL is back"):
        assert part in str(failed.value)
