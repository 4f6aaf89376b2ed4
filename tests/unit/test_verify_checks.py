"""What a look at auth state finds, and what it does not.

`auth_state_of_baileys.json` is a state that real Baileys wrote in a chat with contacts and a group; of its 812 pre-keys
three are left, and app state was added.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from standfast.authstate.buffer_json import as_bytes, buffer
from standfast.authstate.multifile import export_folder
from standfast.jobs.verify.check import State, check, missing_sides
from standfast.jobs.verify.finding import Finding, Places, finding_id, merged
from standfast.jobs.verify.kinds import KINDS
from standfast.jobs.verify.shapes import SHAPES
from standfast.jobs.verify.sources import digests, folders_of, read_folder

Document = dict[str, Any]
REAL: Document = json.loads((Path(__file__).parent / "auth_state_of_baileys.json").read_text())
GROUP = "120363179539882119674@g.us"
PEER = "145575033667778"


def real() -> Document:
    copied: Document = json.loads(json.dumps(REAL))
    return copied


def state_of(document: Document) -> State:
    keys = {
        key_type: {
            key_id: value if isinstance(value, bytes) else json.dumps(value).encode()
            for key_id, value in ids.items()
        }
        for key_type, ids in document["keys"].items()
    }
    creds = document["creds"]
    return State(None if creds is None else json.dumps(creds).encode(), keys)


def kinds(found: Places) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for (kind, _), ids in found.found.items():
        counted[kind] += len(ids)
    return dict(counted)


def test_a_healthy_state_has_no_finding() -> None:
    """Not even an info."""
    assert kinds(check(state_of(real()))) == {}


def test_older_forms_are_read_rightly() -> None:
    """Byte strings as lists of numbers and as plain objects are told of as infos, and nothing else."""
    document = real()
    pair = document["keys"]["pre-key"]["5"]
    pair["public"] = {"type": "Buffer", "data": list(as_bytes(pair["public"]))}
    identities = document["keys"]["identity-key"]
    for key_id, value in identities.items():
        identities[key_id] = {str(place): one for place, one in enumerate(as_bytes(value))}
    assert kinds(check(state_of(document))) == {"old-form": 1 + len(identities)}


def _set(key_type: str, key_id: str, value: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["keys"].setdefault(key_type, {})[key_id] = value

    return change


def _drop(key_type: str, key_id: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        del document["keys"][key_type][key_id]

    return change


def _creds(**fields: Any) -> Callable[[Document], None]:
    return lambda document: document["creds"].update(fields)


def _no_creds(document: Document) -> None:
    document["creds"] = None


def _session(*path: str, value: Any) -> Callable[[Document], None]:
    """One field of a session's one entry becomes `value`."""

    def change(document: Document) -> None:
        record = document["keys"]["session"][f"{PEER}_1.1"]
        at = next(iter(record["_sessions"].values()))
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = value

    return change


def _no_app_state_keys(document: Document) -> None:
    document["keys"]["app-state-sync-key"] = {}


def _other_public(document: Document) -> None:
    document["creds"]["noiseKey"]["public"] = buffer(b"\x09" * 32)


def _no_own_sender_key(document: Document) -> None:
    del document["keys"]["sender-key"][f"{GROUP}::149982910661522_1::1"]


OWN = f"{GROUP}::149982910661522_1::1"
THEIRS = f"{GROUP}::{PEER}_1::1"
DAMAGES = [
    (_no_creds, {"creds-missing"}),
    (_creds(signedIdentityKey=None), {"creds-damaged"}),
    (_creds(nextPreKeyId=None), {"creds-damaged"}),
    (_other_public, {"creds-pairs"}),
    (_creds(firstUnuploadedPreKeyId=900), {"creds-counters"}),
    (_creds(registrationId=70_000), {"creds-counters"}),
    (_creds(nextPreKeyId=6, firstUnuploadedPreKeyId=6), {"pre-key-ahead"}),
    (_creds(myAppStateKeyId="AAAAAAAA"), {"app-state-sync-key-missing"}),
    (
        _set("pre-key", "5", {"public": buffer(b"\x01" * 32), "private": buffer(b"\x02" * 32)}),
        {"pre-key-damaged"},
    ),
    (_set("pre-key", "five", REAL["keys"]["pre-key"]["5"]), {"pre-key-damaged"}),
    (_set("session", f"{PEER}_1.1", b'{"version":"v1","_sess'), {"session-damaged"}),
    (_set("session", f"{PEER}_1.1", {"version": "v1"}), {"session-damaged"}),
    (_session("indexInfo", value=None), {"session-damaged"}),
    (_session("currentRatchet", "rootKey", value="AAAA"), {"session-damaged"}),
    (_session("currentRatchet", "ephemeralKeyPair", "privKey", value="AAAA"), {"session-damaged"}),
    (_session("_chains", value=[]), {"session-damaged"}),
    (_set("sender-key", OWN, buffer(b"[{}]")), {"own-sender-key-damaged"}),
    (_set("sender-key", THEIRS, buffer(b"[{}]")), {"sender-key-damaged"}),
    (_set("sender-key", THEIRS, buffer(b"[{")), {"sender-key-damaged"}),
    (_set("sender-key-memory", GROUP, [1]), {"sender-key-memory-damaged"}),
    (_no_own_sender_key, {"sender-key-memory-stale"}),
    (_set("app-state-sync-key", "AAAAAB+a", {"keyData": None}), {"app-state-sync-key-damaged"}),
    (
        _set(
            "app-state-sync-version", "regular", {"version": 1, "hash": buffer(b"\x01"), "indexValueMap": {}}
        ),
        {"app-state-sync-version-damaged"},
    ),
    (_no_app_state_keys, {"app-state-sync-version-keyless", "app-state-sync-key-missing"}),
    (_drop("lid-mapping", f"{PEER}_reverse"), {"lid-mapping-half"}),
    (_drop("lid-mapping", "79990100017"), {"lid-mapping-half"}),
    (_set("lid-mapping", "79990100099", {"lid": 1}), {"lid-mapping-damaged"}),
    (_set("device-list", "79990100017", {"0": "x"}), {"device-list-damaged"}),
    (_set("identity-key", f"{PEER}_1.1", buffer(b"\x05")), {"identity-key-damaged"}),
    (_set("tctoken", f"{PEER}@lid", {"token": 5}), {"tctoken-damaged"}),
    (_set("tctoken", "__index", {"token": buffer(b"[")}), {"tctoken-index-damaged"}),
    (_drop("tctoken", "__index"), {"tctoken-unindexed"}),
    (_set("new-type", "1", {"any": "thing"}), {"unknown-type"}),
]


@pytest.mark.parametrize(
    ("damage", "expected"),
    DAMAGES,
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else "",
)
def test_each_damage_is_found_by_its_finding_alone(
    damage: Callable[[Document], None], expected: set[str]
) -> None:
    """Nothing else is said of it, and no id is shown in full."""
    document = real()
    damage(document)
    found = check(state_of(document))
    assert kinds(found).keys() == expected
    shown = json.dumps([str(one) for one in found.findings("acme", "postgresql")])
    assert PEER not in shown
    assert "79990100017" not in shown


def test_a_number_that_changed_hands_is_no_finding() -> None:
    """Baileys keeps the former mapping beside the new one: both sides are there."""
    document = real()
    document["keys"]["lid-mapping"] |= {"79990100017": "111222333444", "111222333444_reverse": "79990100017"}
    assert kinds(check(state_of(document))) == {}


def test_the_missing_side_follows_from_the_other() -> None:
    """Each way, and nothing is made up where both are there."""
    mappings = REAL["keys"]["lid-mapping"]
    for lost, other in (
        (f"{PEER}_reverse", mappings[f"{PEER}_reverse"]),
        ("79990100017", mappings["79990100017"]),
    ):
        document = real()
        del document["keys"]["lid-mapping"][lost]
        assert missing_sides(state_of(document), document["keys"]["lid-mapping"]) == {lost: other}
    assert missing_sides(state_of(real()), mappings) == {}


def test_a_finding_has_one_id_wherever_it_is_found() -> None:
    """What two sources have is one finding that names both; another company's is another."""
    document = real()
    document["keys"]["session"][f"{PEER}_1.1"] = 1
    found = check(state_of(document))
    both: list[Finding] = [*found.findings("acme", "postgresql"), *found.findings("acme", "replica")]
    (one,) = merged(both)
    assert one.where == ["postgresql", "replica"]
    assert (
        one.id
        == finding_id("acme", "session-damaged", "session")
        != finding_id("bolt", "session-damaged", "session")
    )


def test_a_digest_is_of_what_the_json_says() -> None:
    """Order and blanks do not count, as PostgreSQL changes them; a byte of a key does."""
    state = state_of(real())
    spaced = {
        t: {i: json.dumps(json.loads(v), indent=2, sort_keys=True).encode() for i, v in ids.items()}
        for t, ids in state.keys.items()
    }
    assert digests(State(state.creds, spaced)) == digests(state)
    spaced["device-list"]["79990100017"] = b'["0","9"]'
    changed = digests(State(state.creds, spaced))
    assert {name for name, digest in changed.items() if digest != digests(state)[name]} == {"device-list"}


def test_a_folder_of_files_is_read_as_far_as_it_can_be(tmp_path: Path) -> None:
    """One damaged file is named, and the rest is looked at all the same; so is a folder without its index."""
    state = state_of(real())
    assert state.creds is not None
    export_folder(tmp_path / "acme", state.creds, state.keys)
    ((company, folder),) = folders_of(tmp_path)
    assert company == "acme"
    assert kinds(check(read_folder(folder)[0])) == {}
    (folder / "standfast-index.json").write_text("{")
    (folder / f"session-{PEER}_1.1.json").write_text("{")
    (folder / "pre-key-5.json").write_bytes(b"\x00" * 100)
    read, found = read_folder(folder)
    assert kinds(found) == {"file-unreadable": 1}
    assert kinds(check(read)) == {"session-damaged": 1, "pre-key-damaged": 1}


def test_every_kind_says_what_to_do() -> None:
    """What is above info has a cost or a next step, and each type's damage has a kind of its own."""
    assert all(kind.costs for kind in KINDS.values() if kind.level != "info")
    assert {f"{key_type}-damaged" for key_type in SHAPES} <= KINDS.keys()
    never = ("creds", "identity-key", "app-state-sync-key", "device-list")
    assert all(kind.remedy == "none" for name, kind in KINDS.items() if name.startswith(never))


def test_every_kind_is_documented() -> None:
    """docs/verify.md has a row for each, with its level."""
    text = (Path(__file__).parents[2] / "docs" / "verify.md").read_text()
    assert all(f"| `{name}` | {kind.level} |" in text for name, kind in KINDS.items())
