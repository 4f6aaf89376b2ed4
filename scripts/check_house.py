"""House rules that no other tool checks. Exits 1 and names every breach.

Invariant: it looks at the files that git would commit, tracked or new, and changes nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_LINES = 400
UNCOUNTED = {
    "LICENSE",
    "health.schema.json",
    "package-lock.json",
    "runbook.md",
}  # the last is made of counted pages
GIT_TIMEOUT_S = 30
# Each pattern is written so that it does not match its own source line.
REGISTRY_HOST = re.compile(r"registry[.]npmjs|pypi[.]org|pythonhosted[.]org|npm[.]pkg[.]github")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|work|tmp/x|home/[a-z]\w*|Users/[A-Za-z]\w*)/(?=\w|[.]\w)")
URL = re.compile(r"https?://")
REQUIREMENT = re.compile(r"^[A-Za-z0-9][^\s]*==", re.MULTILINE)

Breaches = Iterator[str]


def main() -> int:
    texts = dict(readable(committable()))
    breaches = [breach for check in CHECKS for breach in check(texts)]
    for breach in breaches:
        print(breach)
    return 1 if breaches else 0


def committable() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
        text=True,
        timeout=GIT_TIMEOUT_S,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := Path(name)).is_file()]


def readable(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    for path in paths:
        content = path.read_bytes()
        if b"\0" not in content:
            yield path, content.decode("utf-8", "replace")


def too_long(texts: dict[Path, str]) -> Breaches:
    for path, text in texts.items():
        count = text.count("\n")
        if count > MAX_LINES and path.name not in UNCOUNTED and path.suffix != ".lock":
            yield f"{path}: {count} lines; {MAX_LINES} are the limit: look for the second noun"


def names_a_machine(texts: dict[Path, str]) -> Breaches:
    for path, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            if REGISTRY_HOST.search(line):
                yield f"{path}:{number}: names a package registry's host"
            if MACHINE_PATH.search(line):
                yield f"{path}:{number}: names a path of one machine"


def lock_is_loose(texts: dict[Path, str]) -> Breaches:
    for path, text in texts.items():
        if path.suffix == ".lock":
            if URL.search(text):
                yield f"{path}: names an address; write it with 'make lock'"
            for entry in re.split(r"\n(?=\S)", text.strip()):
                if REQUIREMENT.match(entry) and "--hash=sha256:" not in entry:
                    yield f"{path}: {entry.split()[0]} has no hash"
        if path.name == "package-lock.json":
            if '"resolved"' in text:
                yield f"{path}: names addresses; write it with npm's omit-lockfile-registry-resolved=true"
            yield from unhashed_npm_packages(path, text)


def unhashed_npm_packages(path: Path, text: str) -> Breaches:
    for name, body in re.findall(r'"(node_modules/[^"]+)": \{(.*?)\n    \}', text, re.DOTALL):
        if '"integrity"' not in body:
            yield f"{path}: {name} has no integrity hash"


def exit_code_is_undocumented(texts: dict[Path, str]) -> Breaches:
    from standfast.errors import BY_CODE

    page = Path("docs/exit-codes.md")
    text = texts.get(page, "")
    for cls in BY_CODE.values():
        if f"| {cls.exit_code} | `{cls.code}` |" not in text:
            yield f"{page}: exit code {cls.exit_code} ({cls.code}) is not in the table"


CHECKS: tuple[Callable[[dict[Path, str]], Breaches], ...] = (
    too_long,
    names_a_machine,
    lock_is_loose,
    exit_code_is_undocumented,
)

if __name__ == "__main__":
    sys.exit(main())
