"""Manifests: any content, however nasty its strings, is read alike by every reader, and is written back the same."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pytest
import yaml
from cases import Case, cases
from conftest import Exported
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from wexport.errors import BundleError
from wexport.manifest import SECTIONS, dump, encode, load, quote

NASTY = [
    "", " ", "a: b", "- x", "#", "'", '"', "\\", "\\n", "no", "null", "1e-05", "0x10", "~", "? x", "{", "[", "*a", "&a",
    "!!str", "%", "@", "`", "\x00", "\x01", "\t", "\n", "\r", "\x0b", "\x1b[31m", "\x1c", "\x7f", "\x80", "\x85",
    "\x9f", "\xa0", "\u2028", "\u2029", "\ufeff", "\ufffe", "\uffff", "\U0001f600", "\U0001ffff", "\u202e", "e\u0301",
    "x" * 2000, "\u00e9" * 700, "encoder/dense_1/kernel:0", "Zeile\nzwei: {}", "<<", "2001-01-01",
    "1_000", "0b1", ".inf", "1:30",
]  # fmt: skip
TEXT = st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
FLOATS = st.one_of(
    st.sampled_from(
        [1e-05, 1e22, 1e16, 5e-324, 1.7976931348623157e308, -0.0, math.inf, -math.inf, math.nan, 0.1, 1e-7, 100.0]
    ),
    st.floats(),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), FLOATS, TEXT)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)
_ANYTHING = st.dictionaries(TEXT, JSON, max_size=4)
_SECTIONS = {
    "calls": st.lists(JSON, max_size=4),
    "model": _ANYTHING,
    "equations": _ANYTHING,
}
_RECORDS = st.dictionaries(TEXT, _ANYTHING, max_size=3)
MANIFESTS = st.fixed_dictionaries({}, optional={name: _SECTIONS.get(name, _RECORDS) for name in SECTIONS})


def expected(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a reader finds: all sections, and strings where a float is not finite."""
    empty = {section: [] if section == "calls" else {} for section in SECTIONS}
    found = {
        section: [_plain(v) for v in content] if section == "calls" else {k: _plain(v) for k, v in content.items()}
        for section, content in manifest.items()
    }
    return {"wexport": 1, **empty, **found}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_cut(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if value != value else "inf" if value > 0 else "-inf"
    return value


def _cut(key: str) -> str:
    """A key inside of an entry; YAML has no form for a long one."""
    if len(quote(key).encode()) <= 1000:
        return key
    return f"{key[:100]}...{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def same(a: Any, b: Any) -> bool:
    """Equality that tells 1 from 1.0 and true, 0.0 from -0.0, and minds the order of keys."""
    return repr(a) == repr(b)


def by_line(text: str) -> dict[str, Any]:
    """A reader with nothing but a JSON parser: what any language can do."""
    found: dict[str, Any] = {}
    section, key = "", ""
    decoder = json.JSONDecoder()
    for line in text.split("\n"):
        if line.startswith("  - "):
            found.setdefault(section, []).append(json.loads(line[4:]))
        elif line.startswith("  ? "):
            key = json.loads(line[4:])
        elif line.startswith("  : "):
            found.setdefault(section, {})[key] = json.loads(line[4:])
        elif line.startswith("  "):
            key, end = decoder.raw_decode(line[2:])
            found.setdefault(section, {})[key] = json.loads(line[2 + end + 2 :])
        elif line:
            section, _, rest = line.partition(":")
            if rest:
                found[section] = json.loads(rest)
    return found


def by_yaml_1_2(text: str) -> dict[str, Any]:
    reader = YAML(typ="safe", pure=True)
    reader.version = (1, 2)
    found: dict[str, Any] = reader.load(text)
    return found


@given(MANIFESTS)
def test_what_is_written_is_read(manifest: dict[str, Any]) -> None:
    data = dump(manifest)
    assert same(load(data, "manifest"), expected(manifest))
    assert dump(load(data, "manifest")) == data


@given(MANIFESTS)
def test_a_page_of_code_reads_it_alike(manifest: dict[str, Any]) -> None:
    assert same(by_line(dump(manifest).decode()), expected(manifest))


@given(MANIFESTS)
def test_yaml_1_1_reads_it_alike(manifest: dict[str, Any]) -> None:
    assert same(yaml.safe_load(dump(manifest).decode()), expected(manifest))


@settings(max_examples=50)
@given(MANIFESTS)
def test_yaml_1_2_reads_it_alike(manifest: dict[str, Any]) -> None:
    assert same(by_yaml_1_2(dump(manifest).decode()), expected(manifest))


@pytest.mark.parametrize("text", NASTY, ids=lambda t: ascii(t)[:20])
def test_each_nasty_string(text: str) -> None:
    manifest = {"layers": {text: {"name": text, "list": [text]}}, "calls": [text]}
    data = dump(manifest).decode()
    for read in (yaml.safe_load, by_yaml_1_2, by_line, lambda t: load(t.encode(), "manifest")):
        assert same(read(data), expected(manifest))


@given(MANIFESTS)
def test_each_entry_is_one_line(manifest: dict[str, Any]) -> None:
    lines = dump(manifest).decode().split("\n")
    long = sum(line.startswith("  ? ") for line in lines)
    entries = sum(len(content) for content in manifest.values())
    assert len(lines) == 1 + len(SECTIONS) + entries + long + 1
    assert lines[0] == "wexport: 1"
    assert lines[-1] == ""
    for line in lines:
        assert all(c.isprintable() or c in "\xa0\u202e" or ord(c) > 0x9F for c in line), ascii(line)


@given(MANIFESTS)
def test_a_file_edited_by_hand_is_read_as_yaml(manifest: dict[str, Any]) -> None:
    text = "# a note\n" + dump(manifest).decode().replace("\n", "\n\n")
    assert same(load(text.encode(), "manifest"), expected(manifest))


def test_floats_have_a_dot() -> None:
    assert [encode(x) for x in (1e-05, 1e22, 1.0, -0.0)] == ["1.0e-05", "1.0e+22", "1.0", "-0.0"]
    assert [encode(x) for x in (math.inf, -math.inf, math.nan)] == ['"inf"', '"-inf"', '"nan"']


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError, match="set is no JSON"):
        encode({1})


@pytest.mark.parametrize("model", cases(), ids=lambda c: c.id)
def test_real_manifests_are_read_alike(model: Case, exported: Exported) -> None:
    bundle = exported(model)
    text = bundle.text.decode()
    readers = [by_line, lambda t: yaml.load(t, yaml.CSafeLoader)]
    if model.stem in {"m4_name_unicode", "m5_lookups", "op_conv2d"}:  # readers in pure Python are slow
        readers += [yaml.safe_load, by_yaml_1_2]
    for read in readers:
        assert same(read(text), bundle.manifest)
    assert dump(bundle.manifest) == bundle.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'has no "wexport: 1"'),
        ("hello", 'has no "wexport: 1"'),
        ("layers: {}\n", 'has no "wexport: 1"'),
        ("wexport: yes\n", 'has no "wexport: 1"'),
        ("wexport: 2\n", "format version 2, this program knows up to 1; upgrade"),
        ("[1]", "not a manifest"),
        ("wexport: 1\nlayers: []\n", "'layers' is not a dict"),
        ("wexport: 1\ncalls: {}\n", "'calls' is not a list"),
        ('wexport: 1\nlayers:\n  "a": 3\n', "the entry 'a' of 'layers' is not a mapping"),
        ("wexport: 1\nlayers: {\n", "cannot be read as YAML"),
        ("wexport: 1\nlayers: !!python/object/apply:os.system [echo]\n", "cannot be read as YAML"),
        ("wexport: 1\nlayers:\n  \"a\": " + "[" * 100_000 + "]" * 100_000 + "\n", "nest(ed|ing)"),
        ("wexport: 1\nlayers:\n  \"a\": " + "[" * 101 + "]" * 101 + "\n  b: c\n", "nested more than 100 deep"),
        ("wexport: 1\nlayers:\n  a: &x [1]\n  b: [*x, *x]\n", "it has aliases"),
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_said(text: str, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        load(text.encode(), "manifest.yaml")
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf_8() -> None:
    with pytest.raises(BundleError, match="not UTF-8"):
        load(b"wexport: 1\n\xff", "manifest.yaml")
