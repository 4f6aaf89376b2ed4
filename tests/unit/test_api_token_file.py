"""The file of bearer tokens: what lies in it, who may change it, and what becomes of it when it is damaged."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from standfast.api.token_file import TokenFile
from standfast.errors import Conflict, NotFound, StateDirectoryError, UsageError


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path)


def test_a_token_is_found_by_its_text_and_lies_nowhere(file: TokenFile) -> None:
    """What is on disk is of no use to who reads it, and only its owner can."""
    text, token = file.create("bot", ["send", "read"], ["acme"])
    assert file.find(text) == token
    assert file.find(text[:-1]) is None
    assert token.scopes == ("read", "send")
    assert text not in file.path.read_text()
    assert text[3:] not in file.path.read_text()
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert len(text) == 46


def test_a_given_text_is_the_token_each_time(file: TokenFile) -> None:
    """A container sets its token at every start; another text of that name takes the former one's place."""
    for text in ("a" * 32, "a" * 32, "b" * 64):
        assert file.create("admin", ["admin"], given=text)[1] == file.find(text)
    assert file.find("a" * 32) is None
    assert len(file.tokens()) == 1
    for weak in ("b" * 31, "b" * 40 + " ", "ä" * 40):
        with pytest.raises(UsageError, match="32 or more"):
            file.create("weak", ["admin"], given=weak)


def test_scopes_and_companies_limit_a_token(file: TokenFile) -> None:
    """admin may do everything; a company that is not named is not covered."""
    reader = file.create("reader", ["read"], ["acme"])[1]
    boss = file.create("boss", ["admin"])[1]
    assert (reader.allows("read"), reader.allows("send"), boss.allows("send")) == (True, False, True)
    assert (reader.covers("acme"), reader.covers("bolt"), boss.covers("bolt")) == (True, False, True)


def test_a_running_service_notices_changes(file: TokenFile) -> None:
    """A token made, and one revoked, by another process count at the next look."""
    other = TokenFile(file.path.parent)
    assert not file.exists()
    text, _ = other.create("bot", ["read"])
    assert file.find(text) is not None
    other.revoke("bot")
    assert file.find(text) is None
    assert file.exists()


def test_removing_the_file_opens_nothing(file: TokenFile) -> None:
    """Who has seen tokens goes on asking for one."""
    text, _ = file.create("bot", ["read"])
    assert file.exists()
    file.path.unlink()
    assert file.exists()
    assert file.find(text) is None


def test_a_damaged_file_is_an_error(file: TokenFile) -> None:
    """It is neither "no tokens", nor written over by the next token."""
    file.create("bot", ["read"])
    file.path.write_text('{"version": 1, "tokens": [')
    for ask in (file.tokens, lambda: file.find("x"), file.exists, lambda: file.create("b", ["read"])):
        with pytest.raises(StateDirectoryError):
            ask()
    assert file.path.read_text().endswith("[")


def test_a_token_expires(file: TokenFile) -> None:
    """It is still known, so that its owner can be told why it is refused."""
    _, token = file.create("bot", ["read"], lifetime_s=60)
    now = time.time()
    assert (token.expired(now), token.expired(now + 61)) == (False, True)
    assert token.as_shown(now)["expired"] is False
    assert "sha256" not in token.as_shown(now)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x" * 51, "\n"])
def test_odd_names_are_refused(file: TokenFile, name: str) -> None:
    """And nothing is written."""
    with pytest.raises(UsageError):
        file.create(name, ["read"])
    assert not file.path.exists()


def test_what_cannot_be_is_refused(file: TokenFile) -> None:
    """An unknown scope, none at all, a company id that is none, a name twice, one that is not there."""
    file.create("bot", ["read"])
    before = file.path.read_bytes()
    for scopes in (["root"], []):
        with pytest.raises(UsageError):
            file.create("other", scopes)
    with pytest.raises(UsageError):
        file.create("other", ["read"], ["../etc"])
    with pytest.raises(Conflict):
        file.create("bot", ["read"])
    with pytest.raises(NotFound):
        file.revoke("nobody")
    assert file.path.read_bytes() == before


def test_changes_at_the_same_time_lose_nothing(file: TokenFile) -> None:
    """Each of twenty tokens made at once is there."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: TokenFile(file.path.parent).create(f"bot{n}", ["read"]), range(20)))
    assert len(json.loads(file.path.read_text())["tokens"]) == 20
