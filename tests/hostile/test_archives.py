"""Archives that lie: bombs, paths that lead elsewhere, members that are not there."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from broken import refuse
from cases import case

import wexport

SMALL = case("keras3.15.1/m5_int8_dense.keras")


def members() -> dict[str, bytes]:
    with zipfile.ZipFile(SMALL.path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(path: Path, content: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as out:
        for name, data in content.items():
            out.writestr(name, data)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_a_good_one_is_read(method: int, tmp_path: Path) -> None:
    path = archive(tmp_path / "model.keras", members(), method)
    wexport.export(path, tmp_path / "one")
    wexport.export(SMALL.path, tmp_path / "two")
    assert _data(tmp_path / "one") == _data(tmp_path / "two")


def _data(folder: Path) -> bytes:
    data = (folder / "model.safetensors").read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


def test_paths_that_lead_elsewhere_are_not_followed(tmp_path: Path) -> None:
    extra = {"../evil.txt": b"x", "/etc/evil": b"x", "assets/../../evil.txt": b"x", "a/\x00b": b"x"}
    path = archive(tmp_path / "model.keras", {**members(), **extra})
    wexport.export(path, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.keras", "out"]
    assert not (tmp_path.parent / "evil.txt").exists()


@pytest.mark.parametrize("missing", ["config.json", "model.weights.h5"])
def test_a_member_that_is_missing(missing: str, tmp_path: Path) -> None:
    content = {k: v for k, v in members().items() if k != missing}
    refuse(archive(tmp_path / "model.keras", content), "expected config.json and model.weights.h5, found")


def test_pickled_weights(tmp_path: Path) -> None:
    content = {**members(), "model.weights.npz": b"\x80\x04."}
    del content["model.weights.h5"]
    refuse(archive(tmp_path / "model.keras", content), "pickled .*save the model again")


def test_a_member_that_is_there_twice(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.keras", members())
    with zipfile.ZipFile(path, "a") as out, pytest.warns(UserWarning, match="Duplicate"):
        out.writestr("config.json", b"{}")
    refuse(path, "holds 'config.json' twice")


def test_an_encrypted_archive(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.keras", members())
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02")
    data[place + 8] |= 1
    path.write_bytes(data)
    refuse(path, "is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_members(method: int, tmp_path: Path) -> None:
    """Whatever the unpackers make of other bytes is a refusal that names the member."""
    whole = archive(tmp_path / "model.keras", members(), method).read_bytes()
    for name in ("config.json", "model.weights.h5"):
        with zipfile.ZipFile(io.BytesIO(whole)) as opened:
            info = opened.getinfo(name)
        start = info.header_offset + 30 + len(name)
        for place in range(start + 9, start + info.compress_size, max(1, info.compress_size // 9)):
            data = bytearray(whole)
            data[place] ^= 0x55
            (tmp_path / "model.keras").write_bytes(data)
            refuse(tmp_path / "model.keras", f"'{name}' is damaged: .*; copy the file anew")


CONFIGS = {
    "no json": b"hello",
    "no object": b"[1, 2, 3]",
    "deep": b'{"a":' * 100_000,
    "deep list": b"[" * 1_000_000,
    "no layers": b'{"class_name": "Sequential", "config": {}}',
    "not utf-8": b'{"class_name": "\xff"}',
    "layers of numbers": b'{"class_name": "Sequential", "config": {"layers": [1, 2]}}',
    "a layer that takes itself": b'{"class_name": "Functional", "config": {"layers": [{"class_name": "Dense", "config":'
    b'{}, "name": "a", "inbound_nodes": [[["a", 0, 0, {}]]]}], "input_layers": [], "output_layers": [["a", 0, 0]]}}',
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_config_that_is_none(config: bytes, tmp_path: Path) -> None:
    refuse(archive(tmp_path / "model.keras", {**members(), "config.json": config}))


def test_a_config_of_thousands_of_nested_models(tmp_path: Path) -> None:
    inner = '{"class_name": "Dense", "config": {"name": "d", "units": 1}}'
    for i in range(400):
        inner = '{"class_name": "Sequential", "config": {"name": "s%d", "layers": [%s]}}' % (i, inner)  # noqa: UP031
    refuse(archive(tmp_path / "model.keras", {**members(), "config.json": inner.encode()}))


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "metadata.json", "assets/layers/x/vocabulary.txt"])
def test_bombs(name: str, tmp_path: Path) -> None:
    """Some kilobytes that unpack to gigabytes: by far more than the memory that the process may take."""
    content = members()
    content.pop(name, None)
    path = archive(tmp_path / "model.keras", content)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as out, out.open(name, "w", force_zip64=True) as member:
        member.write(b'{"a": "')
        for _ in range(300):
            member.write(b" " * (1 << 20))
    assert path.stat().st_size < 1 << 20
    assert limited(path, tmp_path / "out", memory=700 << 20) in (0, 2), "read or refused, in little memory"


def test_a_bomb_that_understates_its_size(tmp_path: Path) -> None:
    content = members()
    del content["config.json"]
    path = archive(tmp_path / "model.keras", content)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as out:
        out.writestr("config.json", b" " * (64 << 20))
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    data[place + 24 : place + 28] = struct.pack("<I", 100)
    path.write_bytes(data)
    assert limited(path, tmp_path / "out", memory=500 << 20) == 2


@pytest.mark.parametrize("size", [0xFFFFFFF0, 1 << 31, 1 << 20])
def test_a_member_that_claims_to_be_large(size: int, tmp_path: Path) -> None:
    path = archive(tmp_path / "model.keras", members())
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02")
    while data[place + 46 : place + 46 + 16] != b"model.weights.h5":
        place = data.index(b"PK\x01\x02", place + 4)
    data[place + 20 : place + 28] = struct.pack("<II", size, size)
    path.write_bytes(data)
    refuse(path)


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)  # here: no code may run between fork and exec
import wexport
try:
    wexport.export(*sys.argv[2:])
except wexport.WexportError:
    sys.exit(2)
"""


def limited(path: Path, out: Path, memory: int) -> int:
    """The exit code of an export in a process that may not take more memory than this, nor 20 seconds."""
    found = subprocess.run(
        [sys.executable, "-c", LIMITED, str(memory), str(path), str(out)],
        timeout=20,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OPENBLAS_NUM_THREADS": "1"},
    )
    assert b"MemoryError" not in found.stderr, found.stderr
    if found.returncode:
        assert not out.exists()
    return found.returncode


def test_metadata_that_is_odd(tmp_path: Path) -> None:
    for i, metadata in enumerate((b"{}", b"[]", b'{"keras_version": 3}', b'{"keras_version": "x.y"}')):
        path = archive(tmp_path / f"{i}.keras", {**members(), "metadata.json": metadata})
        wexport.plan(path).close()
    refuse(archive(tmp_path / "model.keras", {**members(), "metadata.json": b"{"}), "metadata.json: is not valid JSON")


def test_a_config_for_other_weights(tmp_path: Path) -> None:
    config = json.loads(members()["config.json"])
    for layer in config["config"]["layers"]:
        if "units" in layer["config"]:
            layer["config"]["units"] += 1
    path = archive(tmp_path / "model.keras", {**members(), "config.json": json.dumps(config).encode()})
    plan = wexport.plan(path)
    plan.close()
    assert plan.warnings, "shapes that do not fit are said; the arrays are kept whole"
    with pytest.raises(wexport.PlanError):
        wexport.plan(path, strict=True)


def test_half_a_character_in_a_name(tmp_path: Path) -> None:
    """JSON can spell one half of a surrogate pair; no UTF-8 file can hold it."""
    content = members()
    name = json.loads(content["config.json"])["config"]["layers"][-1]["config"]["name"]
    config = content["config.json"].replace(f'"{name}"'.encode(), b'"\\ud800"')
    path = archive(tmp_path / "model.keras", {**content, "config.json": config})
    refuse(path, "holds half a character")
