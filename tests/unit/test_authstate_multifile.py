"""Auth state as a folder, out and in again without loss."""

from __future__ import annotations

import json
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standfast.authstate.buffer_json import buffer, canonical
from standfast.authstate.file_names import CREDS, INDEX, file_name, key_of_name, masked
from standfast.authstate.key_types import KEY_TYPES, type_of_name
from standfast.authstate.multifile import export_folder, import_folder
from standfast.errors import AuthStateCorrupt, UsageError
from tests.support import made_up_creds

# Ids in every form that Baileys mints.
IDS = [
    ("pre-key", "812"),
    ("session", "79990000001.0"),
    ("session", "105_1.33"),
    ("identity-key", "105_1.0"),
    ("sender-key", "120363000000000001@g.us::79990000001::5"),
    ("sender-key", "79990000001-1600000000@g.us::105_1::0"),
    ("sender-key", "status@broadcast::105_1::12"),
    ("sender-key-memory", "79990000001-1600000000@g.us"),
    ("app-state-sync-key", "AAAAAM+/"),
    ("app-state-sync-key", "//8="),
    ("app-state-sync-version", "critical_unblock_low"),
    ("lid-mapping", "79990000001"),
    ("lid-mapping", "105_reverse"),
    ("device-list", "79990000001"),
    ("tctoken", "79990000001@s.whatsapp.net"),
    ("tctoken", "105:7@lid"),
    ("tctoken", "__index"),
]
KEYS: dict[str, dict[str, bytes]] = {}
for _type, _id in IDS:
    KEYS.setdefault(_type, {})[_id] = json.dumps({"id": _id, "bytes": buffer(_id.encode())}).encode()

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
type_names = st.sampled_from([*KEY_TYPES, "new-type", "sender", "standfast", ".", "", "creds"]) | texts
key_ids = st.sampled_from([key_id for _, key_id in IDS] + ["a:b", "a-b", "a/b", "a__b", "x" * 300]) | texts
values = st.one_of(
    st.binary(max_size=9).map(buffer),
    st.integers(),
    st.text(),
    st.dictionaries(st.text(), st.booleans(), max_size=3),
)


def parsed(keys: Mapping[str, Mapping[str, bytes]]) -> dict[str, dict[str, object]]:
    return {
        key_type: {key_id: canonical(json.loads(raw)) for key_id, raw in ids.items()}
        for key_type, ids in keys.items()
        if ids
    }


@pytest.mark.parametrize(("key_type", "key_id"), IDS)
def test_the_forms_that_baileys_mints_need_no_index(key_type: str, key_id: str) -> None:
    name = file_name(key_type, key_id)
    assert name is not None
    assert key_of_name(name) == (key_type, key_id)


def test_the_longest_type_wins() -> None:
    assert type_of_name("sender-key-memory-1@g.us") == "sender-key-memory"
    assert type_of_name("app-state-sync-version-regular") == "app-state-sync-version"
    assert type_of_name("session") is None
    assert type_of_name("new-type-1") is None
    assert type_of_name("new-type-1", ["new", "new-type"]) == "new-type"


def test_phone_numbers_are_masked_in_messages() -> None:
    assert masked("session-79990000001.0.json") == "session-…0001.0.json"


def test_a_folder_returns_what_was_put_in(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    assert export_folder(folder, made_up_creds(), KEYS) == len(IDS) + 2
    found = import_folder(folder)
    assert json.loads(found.creds) == json.loads(made_up_creds())
    assert parsed(found.keys) == parsed(KEYS)
    assert (found.changed, found.added, found.deleted, found.key_count) == (0, 0, 0, len(IDS))


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(type_names, st.dictionaries(key_ids, values, max_size=4), max_size=4))
def test_any_keys_return_exactly(keys: dict[str, dict[str, object]]) -> None:
    """Whatever types and ids: collisions of names, names no file can have, unknown types."""
    raw = {
        key_type: {key_id: json.dumps(value).encode() for key_id, value in ids.items()}
        for key_type, ids in keys.items()
    }
    with tempfile.TemporaryDirectory() as parent:
        export_folder(Path(parent) / "x", made_up_creds(), raw)
        assert parsed(import_folder(Path(parent) / "x").keys) == parsed(raw)


def test_everything_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    export_folder(folder, made_up_creds(), KEYS)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_old_encodings_leave_in_the_form_that_baileys_reads(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    legacy = {
        "session": {"1.0": b'{"type":"Buffer","data":[1,2]}'},
        "identity-key": {"1.0": b'{"0":5,"1":6}'},
    }
    export_folder(folder, made_up_creds(), legacy)
    assert json.loads((folder / "session-1.0.json").read_bytes()) == buffer(b"\x01\x02")
    assert json.loads((folder / "identity-key-1.0.json").read_bytes()) == buffer(b"\x05\x06")


def test_what_plain_baileys_changed_meanwhile_is_taken(tmp_path: Path) -> None:
    """Changed, added and deleted files count as they are now; the rest keep their exact ids."""
    folder = tmp_path / "acme"
    export_folder(folder, made_up_creds(), KEYS)
    (folder / "session-79990000001.0.json").write_text('{"type":"Buffer","data":"AA=="}')
    (folder / "sender-key-1-2@g.us--105_1--0.json").write_text("{}")
    (folder / "pre-key-812.json").unlink()
    (folder / ".DS_Store").write_text("x")
    found = import_folder(folder)
    assert found.keys["session"]["79990000001.0"] == b'{"type":"Buffer","data":"AA=="}'
    assert found.keys["sender-key"]["1-2@g.us::105_1::0"] == b"{}"
    assert "pre-key" not in found.keys
    assert (found.changed, found.added, found.deleted) == (1, 1, 1)


def test_types_that_the_index_knows_are_known_to_new_files(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    export_folder(folder, made_up_creds(), {"new-type": {"1": b"1"}})
    (folder / "new-type-2.json").write_text("2")
    assert import_folder(folder).keys["new-type"] == {"1": b"1", "2": b"2"}


@pytest.mark.parametrize("content", ["", "{", '{"type":"Buffer","data":5}'])
def test_a_torn_key_file_is_named(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "acme"
    export_folder(folder, made_up_creds(), KEYS)
    (folder / "session-79990000001.0.json").write_text(content)
    with pytest.raises(AuthStateCorrupt, match=r"session-…0001\.0\.json"):
        import_folder(folder)


@pytest.mark.parametrize("content", [None, "", "{}", made_up_creds().decode()[:-9]])
def test_torn_or_missing_creds_are_an_error_never_an_absence(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "acme"
    export_folder(folder, made_up_creds(), KEYS)
    (folder / CREDS).unlink()
    if content is not None:
        (folder / CREDS).write_text(content)
    with pytest.raises(AuthStateCorrupt, match="creds"):
        import_folder(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format":"standfast-multifile","version":2,"files":{}}']
)
def test_a_damaged_index_is_an_error(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "acme"
    export_folder(folder, made_up_creds(), KEYS)
    (folder / INDEX).write_text(content)
    with pytest.raises(AuthStateCorrupt, match="standfast-index"):
        import_folder(folder)


@pytest.mark.parametrize("name", ["package.json", "notes.txt", "unknown-type-1.json", "sub"])
def test_a_foreign_file_is_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "acme"
    export_folder(folder, made_up_creds(), {})
    (folder / name).write_text("{}") if name != "sub" else (folder / name).mkdir()
    with pytest.raises(UsageError, match=name):
        import_folder(folder)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        import_folder(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError):
        import_folder(tmp_path / "file")


def test_a_directory_that_is_not_ours_is_never_written(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        export_folder(tmp_path, made_up_creds(), KEYS, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["photo.jpg"]
    with pytest.raises(UsageError, match="is not a folder"):
        export_folder(tmp_path / "absent" / "acme", made_up_creds(), KEYS)


def test_an_earlier_export_is_replaced_only_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    export_folder(folder, made_up_creds(), KEYS)
    with pytest.raises(UsageError, match="already"):
        export_folder(folder, made_up_creds(), {})
    assert import_folder(folder).key_count == len(IDS)
    export_folder(folder, made_up_creds(), {"session": {"1.0": b"1"}}, overwrite=True)
    assert parsed(import_folder(folder).keys) == {"session": {"1.0": 1}}
    assert [entry.name for entry in tmp_path.iterdir()] == ["acme"]


@pytest.mark.parametrize(("creds", "keys"), [(b"{}", KEYS), (made_up_creds(), {"session": {"1.0": b"torn"}})])
def test_a_failed_export_leaves_nothing(
    tmp_path: Path, creds: bytes, keys: Mapping[str, Mapping[str, bytes]]
) -> None:
    with pytest.raises(AuthStateCorrupt):
        export_folder(tmp_path / "acme", creds, keys)
    assert list(tmp_path.iterdir()) == []


def test_what_only_standfast_uses_stays_behind(tmp_path: Path) -> None:
    """The host's inbox holds plaintext of messages on their way; it belongs in no folder."""
    keys = {"session": {"1.0": b'{"a":1}'}, "standfast-inbox": {"untaken": b'{"text":"made up"}'}}
    export_folder(tmp_path / "out", made_up_creds(), keys)
    assert "made up" not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert set(import_folder(tmp_path / "out").keys) == {"session"}
