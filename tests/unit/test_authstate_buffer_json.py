"""Bytes in JSON, in every form that stores have written."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.authstate.buffer_json import as_bytes, buffer, canonical, canonical_json, parse, stored_forms
from standfast.errors import AuthStateCorrupt

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.binary(min_size=1, max_size=80))
def test_every_form_becomes_the_canonical_one(data: bytes) -> None:
    *objects, text = stored_forms(data)
    for form in objects:
        assert canonical(form) == {"type": "Buffer", "data": base64.b64encode(data).decode()}
        assert canonical({"deep": [form]}) == {"deep": [buffer(data)]}
        assert as_bytes(form) == data
    assert as_bytes(text) == data
    assert canonical(text) == text, "a bare string is a string: only who knows the field may read it as bytes"


@pytest.mark.parametrize("text", ["-_8", "-_8=", "+/8", "+/8=", "+/\n8="])
def test_base64_in_other_dialects(text: str) -> None:
    assert canonical({"type": "Buffer", "data": text}) == buffer(b"\xfb\xff")


@pytest.mark.parametrize(
    "form", [{"type": "Buffer", "data": ""}, {"type": "Buffer", "data": []}, {"type": "Buffer", "data": {}}]
)
def test_an_empty_buffer(form: object) -> None:
    assert canonical(form) == buffer(b"")


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"0": 256},
        {"0": -1},
        {"1": 5},
        {"0": 1, "2": 3},
        {"0": True},
        {"0": 1.0},
        {"00": 1},
        {"type": "Buffer", "data": "AA==", "more": 1},
        {"type": "buffer", "data": [1]},
        {"7@s.whatsapp.net": True},
    ],
)
def test_what_is_no_byte_string_stays(value: object) -> None:
    assert canonical(value) == value


@pytest.mark.parametrize("data", ["A", "%%%%", [256], [1.5], ["a"], 5, None, {"a": 1}])
def test_a_damaged_buffer_is_an_error(data: object) -> None:
    with pytest.raises(AuthStateCorrupt):
        canonical({"type": "Buffer", "data": data})


@given(json_values)
def test_canonical_form_is_reached_once(value: object) -> None:
    """Applying it twice changes nothing more, and text that is canonical already keeps its very bytes."""
    try:
        once = canonical(value)
    except AuthStateCorrupt:
        return
    assert canonical(once) == once
    raw = json.dumps(once, indent=3).encode()
    assert canonical_json(raw) == raw


def test_large_integers_stay_exact() -> None:
    raw = b'{"n":123456789012345678901234567890,"b":{"type":"Buffer","data":[1]}}'
    assert json.loads(canonical_json(raw))["n"] == 123456789012345678901234567890


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"a":1', b"NaN", b"\xff\xfe", b'{"a":"made-up-secret', b"[" * 100_000]
)
def test_a_torn_text_is_an_error_that_quotes_nothing(raw: bytes) -> None:
    with pytest.raises(AuthStateCorrupt) as caught:
        parse(raw)
    assert "made-up-secret" not in str(caught.value)
    assert caught.value.__cause__ is None
