"""What was taken apart goes back: into a copy of the model file, bit for bit, or into plain arrays."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from cases import Case, case, cases, onnx_cases
from conftest import Exported
from safetensors.numpy import load_file, save_file

import wexport
from wexport.readers import open_model

Array = np.ndarray[Any, Any]
CASES = cases()
ONNX = [c for c in onnx_cases() if "D_broken" not in str(c.path)]
STOCK = case("keras2.0.8-tf1.4/m1_stock.h5")
ARCHIVE = case("keras3.15.1/m1_stock.keras")
PACKED = case("keras3.15.1/m5_int4.keras")
SHARDED = next(c for c in CASES if c.ending == ".weights.json")
# archives hold LoRA kernels merged, get_weights() does not
MERGED = r".*/m5_lora(_int8)?(\.keras|\.weights\.h5|\.weights\.json)"


def files(path: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def copied(bundle: wexport.Bundle, place: Path) -> Path:
    """A copy of a bundle, to edit."""
    return Path(shutil.copytree(bundle.path, place))


def edit(bundle: Path, change: Callable[[str, Array], Array] = lambda name, data: data[::-1]) -> dict[str, bytes]:
    """Change the data of every tensor, given as unsigned integers; gives the new bytes."""
    found = {}
    with wexport.open(bundle) as opened:
        for name in opened:
            place = opened.ranges[name]
            data = change(name, opened.raw(name)).tobytes()
            with place.file.path.open("r+b") as file:
                file.seek(place.offset)
                file.write(data)
            found[name] = data
    return found


def tensors(path: Path, architecture: Path | None, place: Path) -> dict[str, bytes]:
    """The tensors of a model file."""
    wexport.export(path, place, architecture=architecture)
    with wexport.open(place) as bundle:
        return {name: bundle.raw(name).tobytes() for name in bundle}


# -- unedited ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*CASES, *ONNX], ids=lambda c: c.id)
def test_unedited_it_is_the_source(model: Case, exported: Exported, tmp_path: Path) -> None:
    new = tmp_path / model.path.name
    found = wexport.restore(exported(model).path, new, into=model.path, architecture=model.architecture)
    assert found.edited == {}
    for name, data in files(tmp_path).items():
        assert data == (model.path.parent / name).read_bytes(), name
    assert new.exists()


@pytest.mark.parametrize("model", CASES, ids=lambda c: c.id)
def test_arrays_of_get_weights(model: Case, exported: Exported, tmp_path: Path) -> None:
    wexport.restore(exported(model).path, tmp_path / "w.npz")
    weights = exported(model).manifest["weights"]
    with np.load(tmp_path / "w.npz", allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    stored = {key: item for key, item in weights.items() if "copy_of" not in item}
    if any(item["index"] is None for item in stored.values()):
        assert list(arrays) == list(stored)
    elif not re.fullmatch(MERGED, model.id):
        golden = {f"w{i:03d}": w for i, w in enumerate(model.weights) if w.dtype.kind != "U"}  # no tensors
        assert list(arrays) == list(golden)
        facts = [(a.shape, a.dtype, a.tobytes()) for a in arrays.values()]
        assert facts == [(w.shape, w.dtype, w.tobytes()) for w in golden.values()]


def test_arrays_under_their_own_names(exported: Exported, tmp_path: Path) -> None:
    model = next(c for c in ONNX if c.path.stem.startswith("key."))
    wexport.restore(exported(model).path, tmp_path / "w.npz")
    opened = open_model(model.path)
    wanted = {w.array.key: w.array for layer in opened.layers for w in layer.weights}
    with np.load(tmp_path / "w.npz") as found:
        assert set(found.files) == set(wanted)
        assert all(found[key].tobytes() == bytes(array.bytes()) for key, array in wanted.items())
    opened.close()


def test_arrays_are_the_same_bytes_each_time(exported: Exported, tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        wexport.restore(exported(STOCK).path, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


# -- edited ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", CASES, ids=lambda c: c.id)
def test_edited_tensors_come_back(model: Case, exported: Exported, tmp_path: Path) -> None:
    bundle = copied(exported(model), tmp_path / "bundle")
    wanted = edit(bundle)
    new = tmp_path / "new" / model.path.name
    found = wexport.restore(bundle, new, into=model.path, architecture=model.architecture)
    before = exported(model)
    changed = [name for name, data in wanted.items() if data != before.raw(name).tobytes()]
    assert sorted(found.edited) == sorted(changed)
    again = tensors(new, model.architecture, tmp_path / "again")
    assert again == wanted


def nudged(bundle: wexport.Bundle, name: str, data: Array) -> Array:
    """The last bit of every float turned, but for zeros: a bias that is all zero may not be stored."""
    item = bundle.manifest["tensors"][name]
    floats = item["dtype"].startswith(("F", "BF")) and item["layer"] is not None
    return data ^ (data != 0).astype(data.dtype) if floats else data


@pytest.mark.parametrize("model", ONNX, ids=lambda c: c.id)
def test_edited_tensors_of_a_graph_come_back(model: Case, exported: Exported, tmp_path: Path) -> None:
    bundle = copied(exported(model), tmp_path / "bundle")
    wanted = edit(bundle, lambda name, data: nudged(exported(model), name, data))
    new = tmp_path / "new" / model.path.name
    found = wexport.restore(bundle, new, into=model.path)
    before = {name: exported(model).raw(name).tobytes() for name in wanted}
    assert sorted(found.edited) == sorted(name for name in wanted if wanted[name] != before[name])
    assert tensors(new, None, tmp_path / "again") == wanted
    onnx.checker.check_model(str(new)) if _is_checked(model.path) else None
    assert {p.name for p in new.parent.iterdir()} <= {p.name for p in model.path.parent.iterdir()}


def _is_checked(path: Path) -> bool:
    """Whether the checker takes the source; some exporters' files it does not."""
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, RuntimeError):
        return False
    return True


def test_a_copy_beside_the_source_has_files_of_its_own(exported: Exported, tmp_path: Path) -> None:
    model = next(c for c in ONNX if "A5_external" in str(c.path))
    folder = Path(shutil.copytree(model.path.parent, tmp_path / "models"))
    before = files(folder)
    bundle = copied(exported(model), tmp_path / "bundle")
    wanted = edit(bundle, lambda name, data: nudged(exported(model), name, data))
    wexport.restore(bundle, folder / "new.onnx", into=folder / model.path.name)
    after = files(folder)
    assert {name: after[name] for name in before} == before
    beside = sorted(set(after) - set(before) - {"new.onnx"})
    assert beside
    assert all(name.startswith("new.") for name in beside)
    assert tensors(folder / "new.onnx", None, tmp_path / "again") == wanted


def test_what_was_edited_is_counted(exported: Exported, tmp_path: Path) -> None:
    bundle = copied(exported(STOCK), tmp_path / "bundle")
    data = load_file(bundle / "model.safetensors")
    data["lstm_1.forget.bias"][[3, 5]] += 1
    data["dense_1.from.aux_input"] *= 2
    save_file(data, bundle / "model.safetensors")  # without wexport's metadata, in an order of its own
    found = wexport.restore(bundle, tmp_path / "new.h5", into=STOCK.path)
    assert found.edited == {"lstm_1.forget.bias": 2, "dense_1.from.aux_input": 64}
    with h5py.File(tmp_path / "new.h5") as new, h5py.File(STOCK.path) as old:
        assert dict(new.attrs) == dict(old.attrs)
        one, two = (f["model_weights/lstm_1/lstm_1/bias:0"][()] for f in (old, new))
        assert np.flatnonzero(one != two).tolist() == [128 + 3, 128 + 5]
        old_kernel, kernel = (f["model_weights/dense_1/dense_1/kernel:0"][()] for f in (old, new))
        np.testing.assert_array_equal(kernel, np.concatenate([old_kernel[:128], old_kernel[128:] * 2]))


FORMS = {
    "gzip": {"chunks": (3, 50), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "chunked": {"chunks": (7, 9)},
    "one_chunk": {"chunks": True},
    "contiguous": {},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("version", ["earliest", "v108"])
def test_every_form_of_hdf5(form: str, version: str, exported: Exported, tmp_path: Path) -> None:
    def copy(path: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            group = target.require_group(path)
        elif item.ndim == 2:
            limits = {**FORMS[form]}
            if isinstance(limits.get("chunks"), tuple):
                limits["chunks"] = tuple(map(min, limits["chunks"], item.shape))
            group = target.create_dataset(path, data=item[()], **limits)
        else:
            compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            compact.set_layout(h5py.h5d.COMPACT)
            space, kind = h5py.h5s.create_simple(item.shape), h5py.h5t.py_create(item.dtype)
            made = h5py.h5d.create(target.id, path.encode(), kind, space, dcpl=compact)
            group = h5py.Dataset(made)
            group[...] = item[()]
        for key, value in item.attrs.items():
            group.attrs[key] = value

    source = tmp_path / "source.h5"
    with (
        h5py.File(STOCK.path) as old,
        h5py.File(source, "w", libver=version if version == "earliest" else (version, version)) as target,
    ):
        for key, value in old.attrs.items():
            target.attrs[key] = value
        del old
        with h5py.File(STOCK.path) as again:
            again["model_weights"].visititems(lambda path, item: copy(f"model_weights/{path}", item))
            for key, value in again["model_weights"].attrs.items():
                target["model_weights"].attrs[key] = value
    wexport.export(source, tmp_path / "bundle")
    wexport.restore(tmp_path / "bundle", tmp_path / "same.h5", into=source)
    assert (tmp_path / "same.h5").read_bytes() == source.read_bytes()
    wanted = edit(tmp_path / "bundle")
    found = wexport.restore(tmp_path / "bundle", tmp_path / "new.h5", into=source)
    assert len(found.edited) == 18  # all but one number
    assert tensors(tmp_path / "new.h5", None, tmp_path / "again") == wanted
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_an_archive_that_was_packed_again(exported: Exported, tmp_path: Path) -> None:
    source = tmp_path / "packed.keras"
    with zipfile.ZipFile(ARCHIVE.path) as old, zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in old.namelist():
            packed.writestr(name, old.read(name))
        packed.writestr("assets/notes.txt", "kept")
        packed.comment = b"also kept"
    wexport.export(source, tmp_path / "bundle")
    wanted = edit(tmp_path / "bundle")
    wexport.restore(tmp_path / "bundle", tmp_path / "new.keras", into=source)
    assert tensors(tmp_path / "new.keras", None, tmp_path / "again") == wanted
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(tmp_path / "new.keras") as new:
        assert new.comment == b"also kept"
        assert new.testzip() is None
        kept = [(i.filename, i.date_time, i.compress_type, i.external_attr) for i in old.infolist()]
        assert [(i.filename, i.date_time, i.compress_type, i.external_attr) for i in new.infolist()] == kept
        assert all(new.read(n) == old.read(n) for n in old.namelist() if n != "model.weights.h5")


def spoil_checksum(data: bytearray, local: int, central: int, body: int) -> None:
    data[central + 16] ^= 1
    data[local + 14] ^= 1


def spoil_method(data: bytearray, local: int, central: int, body: int) -> None:
    data[central + 10 : central + 12] = data[local + 8 : local + 10] = b"\x61\0"


def spoil_data(data: bytearray, local: int, central: int, body: int) -> None:
    data[body] = 0xFF


def spoil_place(data: bytearray, local: int, central: int, body: int) -> None:
    data[local : local + 4] = b"gone"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(spoil_checksum, "is damaged: Bad CRC"), (spoil_method, "cannot be unpacked"), (spoil_data, "is damaged: Error"),
     (spoil_place, "is damaged: Bad magic")],
)  # fmt: skip
def test_another_member_that_is_damaged(
    spoil: Callable[[bytearray, int, int, int], None], message: str, exported: Exported, tmp_path: Path
) -> None:
    """Nothing reads it before the archive is packed again; then it is named, and no part of a copy stays behind."""
    source, bundle = tmp_path / "model.keras", copied(exported(ARCHIVE), tmp_path / "bundle")
    shutil.copyfile(ARCHIVE.path, source)
    with zipfile.ZipFile(source, "a", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("assets/other.bin", b"0123456789" * 99)
        local = packed.getinfo("assets/other.bin").header_offset
    data = bytearray(source.read_bytes())
    spoil(data, local, data.rindex(b"PK\x01\x02"), local + 30 + len("assets/other.bin"))
    source.write_bytes(data)
    edit(bundle)
    before = files(tmp_path)
    with pytest.raises(wexport.SourceError, match=f"model.keras: 'assets/other.bin' {message}"):
        wexport.restore(bundle, tmp_path / "new.keras", into=source)
    assert files(tmp_path) == before


def test_an_unpacked_archive(tmp_path: Path) -> None:
    source = tmp_path / "model"
    with zipfile.ZipFile(ARCHIVE.path) as packed:
        packed.extractall(source)
    wexport.export(source, tmp_path / "bundle")
    wanted = edit(tmp_path / "bundle")
    wexport.restore(tmp_path / "bundle", tmp_path / "new", into=source)
    assert tensors(tmp_path / "new", None, tmp_path / "again") == wanted
    assert sorted(files(tmp_path / "new")) == sorted(files(source))
    assert files(tmp_path / "new")["config.json"] == files(source)["config.json"]


def unpacked(place: Path) -> Path:
    with zipfile.ZipFile(ARCHIVE.path) as packed:
        packed.extractall(place)
    return place


def test_an_unpacked_archive_that_is_read_only(exported: Exported, tmp_path: Path) -> None:
    """The copy has modes of its own, so that it can be written, and links become what they lead to."""
    source, bundle = unpacked(tmp_path / "model"), copied(exported(ARCHIVE), tmp_path / "bundle")
    (source / "empty").mkdir()
    (source / "config.json").rename(tmp_path / "far.json")
    (source / "config.json").symlink_to("../far.json")
    for path in (source / "metadata.json", source / "model.weights.h5"):
        path.chmod(0o444)
    for path in (source / "empty", source):
        path.chmod(0o555)
    wanted = edit(bundle)
    wexport.restore(bundle, tmp_path / "new", into=source)
    assert tensors(tmp_path / "new", None, tmp_path / "again") == wanted
    paths = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    assert sorted(p.name for p in paths[1:]) == ["config.json", "empty", "metadata.json", "model.weights.h5"]
    assert all(p.stat().st_mode & 0o200 and not p.is_symlink() for p in paths)
    source.chmod(0o755)


@pytest.mark.parametrize(
    ("make", "message"),
    [(os.mkfifo, "is not a regular file"), (lambda p: p.symlink_to("lost"), "cannot be read: No such file"),
     (lambda p: p.symlink_to("."), "is a link to a folder"), (lambda p: p.symlink_to(p), "cannot be read: Too many")],
    ids=["fifo", "dangling", "folder", "loop"],
)  # fmt: skip
def test_an_unpacked_archive_with_what_is_no_file(
    make: Callable[[Path], Any], message: str, exported: Exported, tmp_path: Path
) -> None:
    source, bundle = unpacked(tmp_path / "model"), copied(exported(ARCHIVE), tmp_path / "bundle")
    (source / "assets").mkdir()
    make(source / "assets" / "odd")
    before = files(tmp_path)
    with pytest.raises(wexport.SourceError, match=f"/model/assets/odd: {message}"):
        wexport.restore(bundle, tmp_path / "new", into=source)
    assert files(tmp_path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "model"]


def test_shards_stand_beside_their_map(exported: Exported, tmp_path: Path) -> None:
    bundle = exported(SHARDED).path
    wexport.restore(bundle, tmp_path / "new" / "other.weights.json", into=SHARDED.path)
    lists = json.loads(SHARDED.path.read_text())["weight_map"].values()
    parts = {name for found in lists for name in ([found] if isinstance(found, str) else found)}
    assert set(files(tmp_path / "new")) == {"other.weights.json", *parts}
    with pytest.raises(wexport.OutputError, match="exists already"):  # the parts of the first one
        wexport.restore(bundle, tmp_path / "new" / "third.weights.json", into=SHARDED.path)
    assert set(files(tmp_path / "new")) == {"other.weights.json", *parts}


# -- the framework -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match the expected structure:UserWarning")
@pytest.mark.parametrize("stem", ["m2_recurrent_ra1.keras", "m0_activations.h5"])  # of a version that later ones read
def test_the_framework_reads_what_was_restored(stem: str, exported: Exported, tmp_path: Path) -> None:
    keras = live_keras()
    model = case(f"keras3.0.5/{stem}")
    bundle = copied(exported(model), tmp_path / "bundle")
    edit(bundle, lambda name, data: (data.view(np.float32) * np.float32(0.5)).view(data.dtype))
    wexport.restore(exported(model).path, tmp_path / f"same.{stem}", into=model.path)
    wexport.restore(bundle, tmp_path / f"half.{stem}", into=model.path)
    inputs, wanted = model.arrays("in"), model.arrays("out")[0]
    same, half = (keras.saving.load_model(tmp_path / f"{n}.{stem}", compile=False) for n in ("same", "half"))
    found = same.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    np.testing.assert_allclose(keras.tree.flatten(found)[0], wanted, rtol=1e-5, atol=1e-6)
    for one, two in zip(same.weights, half.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(two.value), np.asarray(one.value) * np.float32(0.5))


def live_keras() -> Any:
    """Keras itself."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    return keras


# -- refused -----------------------------------------------------------------------------------------------------------


def test_an_edit_of_a_shape_is_refused(exported: Exported, tmp_path: Path) -> None:
    bundle = copied(exported(STOCK), tmp_path / "bundle")
    data = load_file(bundle / "model.safetensors")
    data["dense_3.bias"] = np.zeros(2, np.float32)
    save_file(data, bundle / "model.safetensors")
    with pytest.raises(wexport.BundleError, match=r"'dense_3\.bias' is F32 \[2\], the manifest says F32 \[1\]"):
        wexport.restore(bundle, tmp_path / "new.h5", into=STOCK.path)
    manifest = bundle / "manifest.yaml"
    line = '"dense_3.bias": {"dtype": "F32", "shape": [1]'
    manifest.write_text(manifest.read_text().replace(line, line.replace("[1]", "[2]")))
    with pytest.raises(wexport.BundleError, match=r"dense_3\.bias: is F32 \[2\] \(out\), its place in .* F32 \[1\]"):
        wexport.restore(bundle, tmp_path / "new.h5", into=STOCK.path)
    assert not (tmp_path / "new.h5").exists()


def test_an_edit_of_a_type_is_refused(exported: Exported, tmp_path: Path) -> None:
    bundle = copied(exported(STOCK), tmp_path / "bundle")
    data = load_file(bundle / "model.safetensors")
    data["dense_3.bias"] = data["dense_3.bias"].astype(np.float16)
    save_file(data, bundle / "model.safetensors")
    with pytest.raises(wexport.BundleError, match=r"'dense_3\.bias' is F16"):
        wexport.restore(bundle, tmp_path / "new.npz")


def test_a_number_that_four_bits_cannot_hold_is_refused(exported: Exported, tmp_path: Path) -> None:
    bundle = copied(exported(PACKED), tmp_path / "bundle")
    name = next(n for n, t in exported(PACKED).manifest["tensors"].items() if t.get("stored_as") == "int4")
    edit(bundle, lambda n, data: np.full_like(data, 8) if n == name else data)
    with pytest.raises(wexport.UsageError, match=f"{name}: has a number that does not fit int4"):
        wexport.restore(bundle, tmp_path / "new.keras", into=PACKED.path)
    assert sorted(files(tmp_path)) == sorted(f"bundle/{n}" for n in files(bundle))


def test_another_model_is_refused(exported: Exported, tmp_path: Path) -> None:
    other = case("keras2.0.8-tf1.4/m0_activations.h5")
    with pytest.raises(wexport.BundleError, match=r"does not fit .*m0_activations\.h5: .*made from, m1_stock\.h5"):
        wexport.restore(exported(STOCK).path, tmp_path / "new.h5", into=other.path)
    assert files(tmp_path) == {}


def test_the_source_is_never_replaced(exported: Exported, tmp_path: Path) -> None:
    source = Path(shutil.copy(STOCK.path, tmp_path / "model.h5"))
    before = source.read_bytes()
    for force, message in ((False, "exists already"), (True, "which --force would delete")):
        with pytest.raises(wexport.OutputError, match=message):
            wexport.restore(exported(STOCK).path, source, into=source, force=force)
    assert source.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.h5"]


def test_no_part_of_the_bundle_is_replaced(exported: Exported, tmp_path: Path) -> None:
    bundle = copied(exported(STOCK), tmp_path / "bundle")
    before = files(bundle)
    for name in ("manifest.yaml", "model.safetensors"):
        with pytest.raises(wexport.OutputError, match="which --force would delete"):
            wexport.restore(bundle, bundle / name, into=STOCK.path, force=True)
    with pytest.raises(wexport.OutputError, match="is a folder"):
        wexport.restore(bundle, bundle, into=STOCK.path, force=True)
    assert files(bundle) == before


def test_no_folder_is_replaced_by_a_file_nor_copied_into_itself(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(wexport.OutputError, match="is a folder"):
        wexport.restore(exported(STOCK).path, tmp_path / "mine", into=STOCK.path, force=True)
    with zipfile.ZipFile(ARCHIVE.path) as packed:
        packed.extractall(tmp_path / "model")
    wexport.export(tmp_path / "model", tmp_path / "bundle")
    before = files(tmp_path)
    with pytest.raises(wexport.OutputError, match="lies inside of"):
        wexport.restore(tmp_path / "bundle", tmp_path / "model" / "new", into=tmp_path / "model")
    assert files(tmp_path) == before
    assert (tmp_path / "mine").is_dir()


def test_force_replaces_no_other_models_data(exported: Exported, tmp_path: Path) -> None:
    model = next(c for c in ONNX if "A5_external" in str(c.path))
    bundle = exported(model).path
    wexport.restore(bundle, tmp_path / "a.onnx", into=model.path)
    before = files(tmp_path)
    with pytest.raises(wexport.OutputError, match=r"is not b\.onnx's"):
        wexport.restore(bundle, tmp_path / "b.onnx", into=model.path, force=True)
    assert files(tmp_path) == before
    wexport.restore(bundle, tmp_path / "a.onnx", into=model.path, force=True)
    assert files(tmp_path) == before


def test_force_replaces_a_file(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "new.h5").write_text("old")
    with pytest.raises(wexport.OutputError, match="exists already"):
        wexport.restore(exported(STOCK).path, tmp_path / "new.h5", into=STOCK.path)
    wexport.restore(exported(STOCK).path, tmp_path / "new.h5", into=STOCK.path, force=True)
    assert (tmp_path / "new.h5").read_bytes() == STOCK.path.read_bytes()


def test_without_a_model_the_name_must_be_that_of_arrays(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(wexport.UsageError, match=r"--into MODEL"):
        wexport.restore(exported(STOCK).path, tmp_path / "new.h5")
    assert files(tmp_path) == {}


def test_what_is_left_of_a_last_byte_is_no_element(tmp_path: Path) -> None:
    """Three numbers of four bits take two bytes; whatever stands in the last half stays there."""
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.UINT4, [3], b"\x21\xf3", raw=True)
    nodes = [onnx.helper.make_node("DequantizeLinear", ["w", "s"], ["y"])]
    scale = onnx.numpy_helper.from_array(np.float32(0.5), "s")
    end = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3])
    graph = onnx.helper.make_graph(nodes, "g", [], [end], [weight, scale])
    source = tmp_path / "model.onnx"
    source.write_bytes(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)]).SerializeToString()
    )
    wexport.export(source, tmp_path / "bundle")
    assert wexport.verify(tmp_path / "bundle", source).differences == ()
    assert wexport.restore(tmp_path / "bundle", tmp_path / "new.onnx", into=source).edited == {}
    assert (tmp_path / "new.onnx").read_bytes() == source.read_bytes()
