"""The reports of a drill: the same in Markdown, JSON and HTML, and nothing in them that must not leave the machine."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from standfast.drill import telling
from standfast.drill.axis import Axis
from standfast.drill.markdown import markdown
from standfast.drill.page import page
from standfast.drill.picture import picture
from standfast.drill.record import Criterion, DrillRecord, Moment
from standfast.drill.reports import write_reports
from standfast.errors import StateDirectoryError
from tests.drills import made_up

_EMPTY = frozenset({"meta", "line", "rect", "path", "circle"})
HOSTILE = "<script>alert(1)</script> | \"'> `x` ``` </title>\n# [a](http://x)\x07"


class _Elements(HTMLParser):
    """Counts elements, and fails where one is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _EMPTY:
            return
        assert self._open.pop() == tag

    def end(self) -> list[str]:
        self.close()
        return self._open


def _elements(text: str) -> _Elements:
    parser = _Elements()
    parser.feed(text)
    assert parser.end() == []
    return parser


def _everywhere(text: str) -> DrillRecord:
    """A record in which every free text is `text`."""

    def put(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: put(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [put(item) for item in value]
        return text if isinstance(value, str) and name not in ("id", "kind", "status") else value

    return msgspec.convert(put(msgspec.to_builtins(made_up())), DrillRecord)


def test_all_three_say_the_same(tmp_path: Path) -> None:
    """Verdict and every criterion with target, actual, legacy and status; JSON is the record itself."""
    record = made_up()
    paths = {path.suffix: path for path in write_reports(record, tmp_path / "out")}
    assert {path.stat().st_mode & 0o777 for path in paths.values()} == {0o600}
    assert msgspec.json.decode(paths[".json"].read_bytes(), type=DrillRecord) == record
    for suffix in (".md", ".html"):
        text = paths[suffix].read_text().replace("&lt;", "<")
        assert "Passed: all 15 criteria hold" in text
        for row in (*record.acceptance, *record.performance):
            for cell in (row.name, row.target, row.actual, row.legacy):
                assert cell in text, (suffix, cell)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """No script, no address, nothing that a browser would fetch."""
    text = page(made_up())
    found = _elements(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.seen)
    assert not {name for name, _ in found.attributes} & {"src", "href", "onload", "onclick", "action"}
    assert not re.search(r"https?://|url\(|@import", text)


def test_no_text_of_a_record_becomes_markup() -> None:
    """Whatever a criterion, phase, moment, setting or node is called."""
    plain, hostile = page(_everywhere("text")), page(telling.shown(_everywhere(HOSTILE)))
    assert set(_elements(hostile).seen) == set(_elements(plain).seen)
    assert "<script" not in hostile
    lines = markdown(telling.shown(_everywhere(HOSTILE))).splitlines()
    for line in (one for one in lines if one.startswith("|")):
        assert len(re.findall(r"(?<!\\)\|", line)) in (3, 4, 5, 6, 7), line
    assert not [one for one in lines if re.search(r"(?<!\\)<script|(?<!\\)\]\(", one) and one.startswith("|")]
    assert [one for one in lines if one.startswith("```")] == ["```text", "```"]
    assert [one for one in lines if one.startswith("#")] == [
        one for one in markdown(made_up()).splitlines() if one.startswith("#")
    ]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("message to +7 999 000-00-01", "999"),
        ("from 79990000001@s.whatsapp.net", "7999"),
        ("postgresql://standfast:hunter2@db/standfast", "hunter2"),
        ("log in /srv/operator/private/service.log", "operator"),
        ("~/private/state/vault.db", "private"),
    ],
)
def test_what_must_stay_on_the_machine_is_in_no_report(tmp_path: Path, text: str, secret: str) -> None:
    """Phone numbers, passwords and paths, wherever they stand in a record."""
    for path in write_reports(_everywhere(text), tmp_path):
        assert secret not in path.read_text()


def test_what_failed_stands_first() -> None:
    """A row that fails, a phase that broke off and a drill that tried nothing are failures by their own words."""
    record = made_up()
    late = msgspec.structs.replace(record.performance[0], status="fail", actual="3.2 s", why="a lock")
    failed = made_up(performance=[late, *record.performance[1:]])
    assert telling.verdict(failed) == "Failed: 1 of 15 criteria do not hold"
    assert telling.failures(failed) == ["cache population: 3.2 s, not < 1 s (a lock)"]
    broken = made_up(phases=[msgspec.structs.replace(record.phases[0], status="fail", why="no Node")])
    assert telling.verdict(broken) == "Failed: phase 0 (Preconditions) failed"
    skipped = Criterion(name="x", target="y", actual="", status="skipped", phase=1, why="left out")
    assert telling.verdict(made_up(acceptance=[skipped], performance=[])) == (
        "Failed: nothing was tried; 1 not tried"
    )
    for one in (failed, broken):
        assert not one.passed
        assert page(one).index(telling.failures(one)[0].split(":")[0]) < page(one).index("<svg")


def test_the_picture_is_well_formed_and_has_words_beside_it() -> None:
    """Also of a record with no phase, no moment, or moments outside of the drill."""
    strange = [Moment(at_s=-5, kind="sent", text="early"), Moment(at_s=1e6, kind="outage", text="late")]
    empty = made_up(phases=[], moments=[], duration_s=0.0)
    for record in (made_up(), made_up(moments=strange), empty):
        root = ET.fromstring(picture(record))
        assert root.get("role") == "img"
        described = next(one.text for one in root if one.tag == "desc")
        assert telling.verdict(record) in str(described)
    assert "refused" in picture(made_up())
    assert picture(made_up()).count('class="sent"') == 6


def test_sessions_and_sides_are_told_apart() -> None:
    """A session is open but for a restart and after a refusal; a message is of the side that sent it; what is no
    session's state is a dot."""
    moments = [
        Moment(at_s=5, kind="state", text="paired", subject="acme"),
        Moment(at_s=20, kind="state", text="noticed: PostgreSQL is away"),
        Moment(at_s=30, until_s=32, kind="restart", text="killed and started again"),
        Moment(at_s=40, kind="state", text="refused: past the grace period", subject="acme"),
        Moment(at_s=50, kind="state", text="connected again by itself", subject="acme"),
        Moment(at_s=60, kind="sent", text="1", subject="acme to contact"),
        Moment(at_s=61, kind="received", text="1", subject="contact"),
    ]
    drawn = picture(made_up(moments=moments))
    assert (drawn.count('class="open"'), drawn.count('class="closed"'), drawn.count('class="gap"')) == (
        2,
        2,
        1,
    )
    assert drawn.count('class="dot"') == 1
    lanes = re.findall(r'class="lane"[^>]*>([^<]*)<', drawn)
    assert lanes == ["service", "session acme", "messages, acme", "messages, contact"]


def test_time_grows_to_the_right_and_no_phase_is_too_narrow() -> None:
    """Seconds never swap places; a phase of 4 s beside one of 6 min has room for its name."""
    axis = Axis(made_up(), 100.0, 900.0)
    places = [axis.x(at_s) for at_s in range(-10, 700, 3)]
    assert all(before <= after + 1e-6 for before, after in pairwise(places))
    assert (places[0], places[-1]) == pytest.approx((100.0, 1000.0))
    assert min(column.width for column in axis.columns) > 100
    assert axis.x(13.0) < axis.x(100.0) < axis.x(193.0)


def test_a_directory_that_takes_nothing_is_an_error(tmp_path: Path) -> None:
    """It names the directory and says what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirectoryError, match="cannot be written"):
        write_reports(made_up(), tmp_path / "file")
