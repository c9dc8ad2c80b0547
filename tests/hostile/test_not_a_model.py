"""Files that are no models, and files of which a part is missing."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from broken import model_file, refuse, refused
from cases import Case, case

import wexport

PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de")
NOT_MODELS = {
    "empty": b"",
    "one byte": b"\x89",
    "text": b"import keras\n",
    "png": PNG,
    "hdf5 signature": b"\x89HDF\r\n\x1a\n",
    "hdf5 signature and noise": b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 40,
    "zip signature": b"PK\x03\x04",
    "gzip": gzip.compress(b"model", mtime=0),
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "json": b'{"class_name": "Sequential"}',
    "json map": b'{"weight_map": 3}',
    "json map of nothing": b'{"weight_map": {}}',
    "zeros": bytes(100_000),
    "safetensors": b"\x02\0\0\0\0\0\0\0{}",
    "protobuf": b"\x08\x07\x12\x07pytorch",
}


@pytest.mark.parametrize("content", NOT_MODELS.values(), ids=NOT_MODELS)
@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_other_files(content: bytes, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{ending}"
    path.write_bytes(content)
    refuse(path, f"model.{ending}: ")


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    refuse(tmp_path / "none.h5", "none.h5: does not exist")


def test_a_directory(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    refuse(tmp_path / "folder", "is a directory; expected a model file")


def test_a_saved_model(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")
    refuse(tmp_path / "saved", "SavedModel; load it and save it as a .keras or .h5 file")


def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    refuse(tmp_path / "pipe.h5", "is not a regular file")


def test_a_zip_of_other_things(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("data.pkl", b"\x80\x04.")
    refuse(tmp_path / "model.keras", "no Keras model: expected config.json and model.weights.h5, found data.pkl")


def test_arrays_of_numpy(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", a=np.ones(3))
    refuse(tmp_path / "weights.npz", "no Keras model")


def test_an_architecture_that_is_none(tmp_path: Path) -> None:
    weights = case("keras2.2.4-tf1.13/m2_recurrent_ra1.weights_only.h5")
    for content, match in (
        (b"", "class_name"),
        (b"[1, 2]", "class_name"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not text"),
        (b"- a\n- !!python/object/apply:os.system ['true']\n", "cannot be read as YAML"),
        (b'{"class_name": "Sequential", "config": 3}', None),
        (b'{"class_name": "Sequential", "config": [1, null, "x"]}', None),
        (b'{"class_name": "Model", "config": {"layers": [1], "input_layers": [], "output_layers": []}}', None),
        (b'{"class_name": "Model", "config": ' + b"[" * 100_000, "nested too deeply"),
        (b"class_name: " + b"[" * 100_000, "cannot be read as YAML"),
    ):
        path = tmp_path / "architecture"
        path.write_bytes(content)
        refuse_with(weights, path, match, tmp_path)


def refuse_with(weights: Case, architecture: Path, match: str | None, folder: Path) -> None:
    with refused(match):
        wexport.export(weights.path, folder / "out", architecture=architecture)
    assert not (folder / "out").exists()


def test_the_architecture_of_another_model(tmp_path: Path) -> None:
    weights = case("keras2.2.4-tf1.13/m2_recurrent_ra1.weights_only.h5")
    other = case("keras2.2.4-tf1.13/m1_stock.weights_only.h5").architecture
    assert other is not None
    refuse_with(weights, other, "holds no weights for lstm_1", tmp_path)


def test_an_architecture_for_a_whole_model(tmp_path: Path) -> None:
    architecture = case("keras2.2.4-tf1.13/m1_stock.weights_only.h5").architecture
    assert architecture is not None
    refuse_with(case("keras2.0.8-tf1.4/m1_stock.h5"), architecture, "holds its own architecture", tmp_path)


# -- truncated ---------------------------------------------------------------------------------------------------------

CUT = [
    "keras1.2.2-theano-th/op_conv2d.h5",
    "keras2.2.4-tf1.13/m2_stateful.weights_only.h5",
    "keras3.0.5/m5_gqa.keras",
    "keras3.15.1/m5_rescale.weights.h5",
    "keras3.15.1/m5_int8_dense.h5",
    "tf.keras-tf2.15/m5_catenc.keras",
]


@pytest.mark.parametrize("name", CUT)
def test_truncated_files(name: str, tmp_path: Path) -> None:
    model = case(name)
    data = model.path.read_bytes()
    path = tmp_path / model.path.name
    for length in sorted({0, 1, 8, 100, len(data) - 1, *(len(data) * i // 40 for i in range(40))}):
        path.write_bytes(data[:length])
        refuse(path, path.name, model.architecture)


def test_a_shard_that_is_missing_or_cut(tmp_path: Path) -> None:
    model = case("keras3.15.1/m5_sharded.weights.json")
    parts = sorted(model.path.parent.glob("m5_sharded_0*"))
    for part in parts:
        (tmp_path / part.name).write_bytes(part.read_bytes())
    path = tmp_path / model.path.name
    path.write_bytes(model.path.read_bytes())
    (tmp_path / parts[1].name).write_bytes(parts[1].read_bytes()[:-100])
    refuse(path, parts[1].name, model.architecture)
    (tmp_path / parts[1].name).unlink()
    refuse(path, "which is missing beside it", model.architecture)
    (tmp_path / parts[1].name).symlink_to(parts[1])
    refuse(path, "is a link", model.architecture)


@pytest.mark.parametrize("name", ["../evil.h5", "/etc/passwd", "..", "a/b.h5", "", "a\\b.h5", 3, None])
def test_a_shard_elsewhere(name: object, tmp_path: Path) -> None:
    path = tmp_path / "model.weights.json"
    path.write_text(json.dumps({"weight_map": {"/layers/dense": [name]}}))
    refuse(path, "names a part")


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    """It becomes an error, where a memory-mapped file would end the process."""
    with model_file(tmp_path / "model.h5"):
        pass
    plan = wexport.plan(tmp_path / "model.h5")
    os.truncate(tmp_path / "model.h5", 600)
    with refused("model.h5: ends at byte"):
        plan.tensors[0].array.bytes()
    plan.close()
