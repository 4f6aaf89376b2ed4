"""The multi-file layout against the one who defined it: Baileys' own useMultiFileAuthState."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from standfast.authstate.buffer_json import buffer
from standfast.authstate.creds import parse_creds
from standfast.authstate.file_names import INDEX
from standfast.authstate.multifile import export_folder, import_folder
from standfast.node import bridge_directory, node_binary

NODE_TIMEOUT_S = 30
IDS = {
    "pre-key": ["1", "812"],
    "session": ["79990000001.0", "105_1.33"],
    "identity-key": ["105_1.0"],
    "sender-key": ["120363000000000001@g.us::79990000001::5", "79990000001-1600000000@g.us::105_1::0"],
    "sender-key-memory": ["79990000001-1600000000@g.us"],
    "app-state-sync-key": ["AAAAAM+/", "//8="],
    "app-state-sync-version": ["regular_low"],
    "lid-mapping": ["79990000001", "105_reverse"],
    "device-list": ["79990000001"],
    "tctoken": ["79990000001@s.whatsapp.net", "105@lid", "__index"],
}

# Values of each type as Baileys holds them in memory, made from the type and id alone.
COMMON = """
import { initAuthCreds, proto, useMultiFileAuthState } from 'baileys'
const ids = JSON.parse(process.argv[2])
const bytes = (text) => new Uint8Array(Buffer.from(text))
const make = (type, id) => ({
  'pre-key': { public: bytes(id), private: bytes(type + id) },
  'session': bytes(type + id), 'identity-key': bytes(type + id), 'sender-key': Buffer.from(type + id),
  'sender-key-memory': { '79990000002:3@s.whatsapp.net': true },
  'app-state-sync-key': proto.Message.AppStateSyncKeyData.fromObject({ keyData: bytes(id), timestamp: 5 }),
  'app-state-sync-version': { version: 3, hash: Buffer.from(id), indexValueMap: { 'a/b=': { valueMac: bytes(id) } } },
  'lid-mapping': 'x' + id, 'device-list': ['0', '5'], 'tctoken': { token: Buffer.from(id), timestamp: '7' },
})[type]
const plain = (value) => JSON.stringify(value, (_, v) =>
  v?.type === 'Buffer' ? { hex: Buffer.from(v.data).toString('hex') }
  : v instanceof Uint8Array ? { hex: Buffer.from(v).toString('hex') } : v)
const { state, saveCreds } = await useMultiFileAuthState(process.argv[1])
"""
WRITE = """
await saveCreds()
const data = {}
for (const [type, list] of Object.entries(ids)) {
  data[type] = Object.fromEntries(list.map((id) => [id, make(type, id)]))
}
await state.keys.set(data)
console.log(JSON.stringify({ identity: Buffer.from(state.creds.signedIdentityKey.public).toString('base64') }))
"""
VERIFY = """
const wrong = []
for (const [type, list] of Object.entries(ids)) {
  const found = await state.keys.get(type, list)
  for (const id of list) if (plain(found[id]) !== plain(make(type, id))) wrong.push([type, id])
}
const key = (await state.keys.get('identity-key', ['105_1.0']))['105_1.0']
console.log(JSON.stringify({ wrong, isBuffer: key instanceof Uint8Array,
  identity: Buffer.from(state.creds.signedIdentityKey.public).toString('base64') }))
"""
CHANGE = """
await state.keys.set({
  'session': { '79990000001.0': bytes('changed'), '105_1.33': null },
  'sender-key': { '1-2@g.us::105_1::4': bytes('added') },
  'app-state-sync-key': { '++/A': proto.Message.AppStateSyncKeyData.fromObject({ keyData: bytes('k') }) },
})
state.creds.nextPreKeyId = 99
await saveCreds()
console.log('{}')
"""


async def baileys(script: str, folder: Path) -> dict[str, Any]:
    """Run `script` on `folder` in Node with the bridge's own Baileys; what it printed."""
    process = await asyncio.create_subprocess_exec(
        node_binary(None),
        "--input-type=module",
        "-e",
        COMMON + script,
        str(folder),
        json.dumps(IDS),
        cwd=bridge_directory(None),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(NODE_TIMEOUT_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    result: dict[str, Any] = json.loads(out)
    return result


@pytest.fixture
async def folder_of_baileys(tmp_path: Path) -> tuple[Path, str]:
    """A folder that Baileys wrote, and its identity."""
    folder = tmp_path / "baileys"
    return folder, (await baileys(WRITE, folder))["identity"]


async def test_a_folder_of_baileys_is_imported_whole(folder_of_baileys: tuple[Path, str]) -> None:
    """No index: every id that Baileys mints returns exactly, every value in canonical form."""
    folder, identity = folder_of_baileys
    found = import_folder(folder)
    assert {key_type: sorted(ids) for key_type, ids in found.keys.items()} == {
        key_type: sorted(ids) for key_type, ids in IDS.items()
    }
    assert json.loads(found.keys["identity-key"]["105_1.0"]) == buffer(b"identity-key105_1.0")
    assert buffer(parse_creds(found.creds).identity_public)["data"] == identity
    assert not parse_creds(found.creds).is_registered
    assert found.added == sum(map(len, IDS.values()))


async def test_an_export_is_a_folder_that_baileys_reads_and_writes(
    folder_of_baileys: tuple[Path, str], tmp_path: Path
) -> None:
    """Out through Standfast: Baileys finds every value; what it then changes, adds and deletes comes back in."""
    folder, identity = folder_of_baileys
    found = import_folder(folder)
    exported = tmp_path / "exported"
    export_folder(exported, found.creds, found.keys)
    assert await baileys(VERIFY, exported) == {"wrong": [], "isBuffer": True, "identity": identity}
    await baileys(CHANGE, exported)
    assert (exported / INDEX).is_file()
    again = import_folder(exported)
    assert (again.changed, again.added, again.deleted) == (1, 2, 1)
    assert json.loads(again.keys["session"]["79990000001.0"]) == buffer(b"changed")
    assert "105_1.33" not in again.keys["session"]
    assert "1-2@g.us::105_1::4" in again.keys["sender-key"]
    assert "++/A" in again.keys["app-state-sync-key"]
    assert parse_creds(again.creds).next_pre_key_id == 99
