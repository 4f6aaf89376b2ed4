"""The command blocks of a document, run as they stand, and what they print compared with what the document says.

A block is fenced as `console`: a line `$ command`, and below it what that prints. The comment before it,
`<!-- setup: NAME -->`, says in which state the installation has to be. In what is expected

- `...` stands for any text, and `<name>` for one word, which later commands may use;
- `(exit code N)`, last, is how the command ends; without it that is 0.

Compared are words: how lines break and columns are padded is the terminal's matter. Times, durations, sizes and numbers
of two digits or more differ from run to run and count as equal; "0 lost" and "2 of 2" are compared to the letter.
Invariant: a fence that is neither such a block, nor text, nor a shell block that says "# not run:" why, is refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^( *)```(\w*)$")
_SETUP = re.compile(r"^\s*<!-- setup: ([a-z-]+) -->$")
_EXIT = re.compile(r"^\(exit code (\d+)\)$")
_NOT_RUN = "# not run: "
_VARIABLE = re.compile(r"<([a-z]+)>")
_ANY = "..."
# What differs from run to run, the longest form first.
_CHANGING = (
    (
        re.compile(
            r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?( ?UTC|Z|[+-]\d\d:\d\d)?|\b\d{8}T\d{6}Z(-\d+)?\b"
        ),
        "TIME",
    ),
    (re.compile(r"\b[\d.,]+ (B|kB|MB|GB)(?!\w)"), "SIZE"),
    (re.compile(r"\b\d+ h \d\d m\b|\b\d+ m \d\d s\b|\b\d[\d.,]* (ms|s|min|m|h|d)(?!\w)"), "DURATION"),
    (re.compile(r"\b\d[\d,.]*\d\b"), "NUMBER"),
)


@dataclass(frozen=True)
class Step:
    """One command and what it has to print."""

    line: int
    command: str
    expected: str
    code: int


@dataclass(frozen=True)
class Block:
    """The commands of one fence, and the state in which they run."""

    line: int
    setup: str
    steps: tuple[Step, ...]


class Malformed(AssertionError):
    """A document that cannot be run as it stands."""


@dataclass
class Bound:
    """What the document writes for what is otherwise on this machine: `shown` by `actual`."""

    actual: dict[str, str] = field(default_factory=dict)

    def command(self, text: str) -> str:
        """The command as it is run here."""
        for shown, actual in self.actual.items():
            text = text.replace(shown, actual)
        return text

    def output(self, text: str) -> str:
        """What was printed here as the document would write it."""
        for shown, actual in sorted(self.actual.items(), key=lambda pair: -len(pair[1])):
            text = text if shown.startswith("<") else text.replace(actual, shown)
        return text


def blocks_of(text: str, name: str = "document") -> list[Block]:
    """Every block that is to be run, in its order. Raises `Malformed`."""
    found: list[Block] = []
    before = ""
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            before = line if line.strip() else before
            continue
        body = list(_body(lines, fence[1], f"{name}:{number}"))
        setup = _SETUP.match(before)
        before = ""
        block = _block(fence[2], setup[1] if setup else None, number, body, f"{name}:{number}")
        found += [block] if block else []
    return found


def _body(lines: Iterator[tuple[int, str]], indent: str, where: str) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        if line.rstrip() == f"{indent}```":
            return
        yield number, line.removeprefix(indent).rstrip()
    raise Malformed(f"{where}: the fence is never closed")


def _block(
    language: str, setup: str | None, number: int, body: list[tuple[int, str]], where: str
) -> Block | None:
    if language == "text" or (language == "sh" and body and body[0][1].startswith(_NOT_RUN)):
        return None
    if language != "console":
        raise Malformed(
            f"{where}: a fence of {language or 'no language'}: neither console, text, nor '{_NOT_RUN}'"
        )
    if setup is None:
        raise Malformed(f"{where}: no '<!-- setup: NAME -->' stands before this block")
    return Block(number, setup, tuple(_steps(body, where)))


def _steps(body: list[tuple[int, str]], where: str) -> Iterator[Step]:
    starts = [index for index, (_, line) in enumerate(body) if line.startswith("$ ")]
    if not starts or starts[0] != 0:
        raise Malformed(f"{where}: the block does not begin with '$ command'")
    for index, start in enumerate(starts):
        end = starts[index + 1] if index + 1 < len(starts) else len(body)
        expected = [line for _, line in body[start + 1 : end]]
        code = _EXIT.match(expected[-1]) if expected else None
        kept = expected[:-1] if code else expected
        yield Step(body[start][0], body[start][1][2:], "\n".join(kept), int(code[1]) if code else 0)


Shell = Callable[[str], Awaitable[tuple[int, str]]]


async def run_step(step: Step, bound: Bound, shell: Shell, name: str = "document") -> None:
    """Run one command and compare; what `<name>` stood for is bound. Raises `AssertionError` with both texts."""
    code, printed = await shell(bound.command(step.command))
    printed = bound.output(printed)
    found = matched(step.expected, printed, bound.actual)
    if found is None or code != step.code:
        raise AssertionError(
            f"{name}:{step.line}: $ {step.command}\n"
            + (f"ended with {code}, not {step.code}\n" if code != step.code else "")
            + ("" if found is not None else difference(step.expected, printed))
            + f"\n--- it printed\n{printed}"
        )
    bound.actual.update(found)


def matched(expected: str, printed: str, known: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """What each `<name>` of `expected` stands for in `printed`; None where that is something else."""
    for shown, actual in (known or {}).items():
        expected = expected.replace(shown, actual) if _VARIABLE.fullmatch(shown) else expected
    pattern = "".join(_word_pattern(word) for word in _marked(expected).split())
    found = re.fullmatch(pattern, "".join(f" {word}" for word in printed.split()))
    return None if found is None else {f"<{name}>": value for name, value in found.groupdict().items()}


def _marked(expected: str) -> str:
    """With each part that changes as one word."""
    for index, (pattern, _) in enumerate(_CHANGING):
        expected = pattern.sub(f"\0{index}\0", expected)
    return expected


def _word_pattern(word: str) -> str:
    if word == _ANY:
        return r"(?: \S+)*?"
    parts = re.split(r"(\.\.\.|<[a-z]+>|\0\d\0)", word)
    return " " + "".join(_part_pattern(part) for part in parts)


def _part_pattern(part: str) -> str:
    if part == _ANY:
        return r"\S*"
    if variable := _VARIABLE.fullmatch(part):
        return rf"(?P<{variable[1]}>\S+?)"
    if part.startswith("\0"):
        return f"(?:{_CHANGING[int(part[1])][0].pattern})"
    return re.escape(part)


def _alike(text: str) -> str:
    for pattern, name in _CHANGING:
        text = pattern.sub(name, text)
    return text


def difference(expected: str, printed: str) -> str:
    """What was expected against what was printed, word for word alike as they were compared, by line."""
    return "\n".join(
        difflib.unified_diff(
            [" ".join(_alike(line).split()) for line in expected.splitlines()],
            [" ".join(_alike(line).split()) for line in printed.splitlines()],
            "the document",
            "the command",
            lineterm="",
        )
    )


def load(path: Path) -> list[Block]:
    """The blocks of a file."""
    return blocks_of(path.read_text(encoding="utf-8"), path.name)
