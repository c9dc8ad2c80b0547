"""`run` gives the framework's outputs from a bundle and a `.npz` file; what does not fit is refused beforehand."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, case, cases, onnx_cases
from conftest import Exported

import wexport
from wexport import evaluate as evaluating
from wexport.errors import BundleError, OutputError, UsageError
from wexport.layers.step import Items
from wexport.npz import Archive, write_npz
from wexport.ports import checked, stated_types
from wexport.verbs.run import Result, numbers, results, save

Array = np.ndarray[Any, Any]
STOCK = case("keras2.0.8-tf1.4/m1_stock.h5")
TOKENS = case("keras3.15.1/m2_recurrent_ra1.keras")


def stock(batch: int = 2) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        "lstm_input": rng.normal(size=(batch, 30, 6)).astype(np.float32),
        "aux_input": rng.normal(size=(batch, 1)).astype(np.float32),
    }


# -- outputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [STOCK, TOKENS, case("keras3.15.1/m5_lookups.keras")], ids=lambda c: c.id)
def test_outputs_are_those_of_the_framework(model: Case, exported: Exported, tmp_path: Path) -> None:
    bundle = exported(model)
    np.savez_compressed(tmp_path / "in.npz", **dict(zip(bundle.manifest["inputs"], model.arrays("in"), strict=True)))
    found = wexport.run(bundle.path, tmp_path / "in.npz")
    assert list(found) == list(bundle.manifest["outputs"])
    for one, wanted in zip(found.values(), model.arrays("out"), strict=True):
        assert one.dtype == wanted.dtype or wanted.dtype.kind == "i"
        np.testing.assert_allclose(one, wanted, rtol=0, atol=1e-5 * max(1.0, np.abs(wanted).max()))


def test_sixteen_bits_come_in_a_type_that_holds_them(exported: Exported) -> None:
    half, brain = (exported(case(f"keras3.15.1/m5_{name}")) for name in ("mixed_float16.weights.h5", "bfloat16.keras"))
    for bundle, held in ((half, np.float16), (brain, np.float32)):
        inputs = {n: np.ones([m or 2 for m in p["shape"]], np.float32) for n, p in bundle.manifest["inputs"].items()}
        found = results(bundle, inputs, "*")
        types = {one.type: one.array.dtype for one in found}
        assert types.items() & {("float16", np.dtype(held)), ("bfloat16", np.dtype(held))}


def test_layers(exported: Exported) -> None:
    bundle = exported(STOCK)
    assert list(wexport.run(bundle.path, stock(), layers="lstm_*")) == ["dense_3", "lstm_1"]
    names = list(wexport.run(bundle.path, stock(), layers=["dense_[12]", "lstm_1", "dense_3"]))
    assert names == ["dense_3", "lstm_1", "dense_1", "dense_2"]
    with pytest.raises(UsageError, match="'lstm_2' means no layer that the model calls; did you mean lstm_1"):
        wexport.run(bundle.path, stock(), layers="lstm_2")


def edited(bundle: Path, out: Path, *changes: tuple[str, str]) -> Path:
    """A bundle with words of its manifest changed."""
    out.mkdir()
    text = (bundle / "manifest.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (out / "manifest.yaml").write_text(text)
    (out / "model.safetensors").write_bytes((bundle / "model.safetensors").read_bytes())
    return out


def test_a_value_called_like_an_output_that_it_is_not(exported: Exported, tmp_path: Path) -> None:
    """The output `dense_1` is dense_3's value here."""
    bundle = edited(
        exported(STOCK).path, tmp_path / "b", ('"dense_3": {"value": "dense_3"}', '"dense_1": {"value": "dense_3"}')
    )
    found = wexport.run(bundle, stock(), layers=["dense_1", "dense_3"])
    assert {name: a.shape for name, a in found.items()} == {
        "dense_1": (2, 1),
        "value.dense_1": (2, 64),
        "dense_3": (2, 1),
    }
    assert np.array_equal(found["dense_1"], found["dense_3"])


def test_a_sequence_is_several_arrays(exported: Exported) -> None:
    model = next(c for c in onnx_cases("A2_rnn") if c.path.name == "lstmcell_loop.dynamo_noopt.onnx")
    bundle = exported(model)
    kinds = {name: layer["kind"] for name, layer in bundle.manifest["layers"].items()}
    layer = next(name for name, kind in kinds.items() if kind == "split_to_sequence")
    with np.load(model.golden) as golden:
        inputs = {name: golden[f"in_{name}"] for name in bundle.manifest["inputs"]}
    found = [one for one in results(bundle, inputs, layer) if one.layer == layer]
    assert [one.name for one in found] == [f"{layer}.{i}" for i in range(len(found))]
    assert len(found) > 1


# -- what is refused before anything is computed -----------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"aux_input": None}, r"lacks the input 'aux_input' float32 \(\?, 1\); the model takes lstm"),
    "unknown": ({"aux_imput": np.ones(1)}, r"has 'aux_imput', which is no input; did you mean aux_input"),
    "rank": ({"aux_input": np.ones(2)}, r"'aux_input' is float64 \(2,\), expected float32 \(\?, 1\)"),
    "length": ({"lstm_input": np.ones((2, 30, 5))}, r"'lstm_input' is float64 \(2, 30, 5\), expected float32 \(\?, 3"),
    "text": ({"aux_input": np.array([["1"], ["2"]])}, r"'aux_input' is <U1 \(2, 1\), expected float32"),
    "objects": ({"aux_input": np.array([[None], [None]])}, r"'aux_input' is object \(2, 1\), expected float32"),
    "complex": ({"aux_input": np.ones((2, 1), complex)}, r"'aux_input' is complex128"),
}  # fmt: skip


@pytest.fixture
def uncomputed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computing a layer fails the test."""

    def run(*args: Any) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(evaluating._Machine, "run", run)


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.usefixtures("uncomputed")
def test_inputs_that_do_not_fit(change: dict[str, Any], message: str, exported: Exported) -> None:
    inputs = {name: a for name, a in {**stock(), **change}.items() if a is not None}
    with pytest.raises(UsageError, match=message) as caught:
        wexport.run(exported(STOCK).path, inputs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tokens", [[1.5] * 7, [float("nan")] * 7, [2**40] * 7, [1e30] * 7], ids=str)
@pytest.mark.usefixtures("uncomputed")
def test_numbers_that_are_no_integers(tokens: list[float], exported: Exported) -> None:
    with pytest.raises(UsageError, match=r"'tokens' holds \S+, which is no int32"):
        wexport.run(exported(TOKENS).path, {"tokens": [tokens]})


@pytest.mark.parametrize(
    ("dtype", "found", "fits"),
    [
        ("uint64", np.int64(-1), False), ("int64", np.uint64(1 << 63), False), ("int64", np.uint64(7), True),
        ("uint8", np.int32(256), False), ("uint8", 255.0, True), ("bool", 2, False), ("bool", 1.0, True),
        ("int8", True, True), ("float16", 1e9, True), ("float32", np.int64(3), True), (None, 2, True),
    ],
)  # fmt: skip
def test_numbers_in_other_types(dtype: str | None, found: Any, fits: bool) -> None:
    manifest = {"inputs": {"x": {"shape": [], "dtype": dtype}}, "outputs": {}, "calls": []}
    if not fits:
        with pytest.raises(UsageError, match=f"^inputs: 'x' holds {found}, which is no {dtype}$"):
            checked(manifest, {"x": found})
        return
    one = checked(manifest, {"x": found})["x"]
    assert one.dtype == ("float64" if "float" in (dtype or "") else dtype or one.dtype)
    assert one == (np.inf if dtype == "float16" else found)


def test_types_that_numpy_lacks_are_read(exported: Exported) -> None:
    import ml_dtypes

    inputs = stock()
    halves = {name: a.astype(ml_dtypes.bfloat16) for name, a in inputs.items()}
    path = exported(STOCK).path
    wide = {name: a.astype(np.float32) for name, a in halves.items()}
    assert np.array_equal(wexport.run(path, halves)["dense_3"], wexport.run(path, wide)["dense_3"])


def test_integral_floats_are_integers(exported: Exported) -> None:
    path = exported(TOKENS).path
    whole, floats = (wexport.run(path, {"tokens": np.ones((2, 7), t)}) for t in (np.int64, np.float32))
    for name, found in whole.items():
        assert np.array_equal(found, floats[name])


def test_floats_are_rounded_to_the_stated_type(exported: Exported) -> None:
    inputs = stock()
    wide = {name: a.astype(np.float64) * (1 + 1e-12) for name, a in inputs.items()}
    path = exported(STOCK).path
    assert np.array_equal(wexport.run(path, wide)["dense_3"], wexport.run(path, inputs)["dense_3"])


@pytest.mark.usefixtures("uncomputed")
def test_named_lengths_agree(exported: Exported, tmp_path: Path) -> None:
    names = (
        ('"lstm_input": {"shape": [null', '"lstm_input": {"shape": ["n"'),
        ('{"shape": [null, 1], ', '{"shape": ["n", 1], '),
    )
    bundle = edited(exported(STOCK).path, tmp_path / "b", *names)
    with pytest.raises(UsageError, match=r"'aux_input' is float32 \(3, 1\), where n is 3, but 'lstm_input' makes it 2"):
        wexport.run(bundle, {**stock(), "aux_input": stock(3)["aux_input"]})


def test_an_input_that_nothing_reads_may_be_absent(exported: Exported, tmp_path: Path) -> None:
    more = ('"aux_input": {', '"unread": {"shape": [null, 2], "dtype": "float32"}\n  "aux_input": {')
    bundle = edited(exported(STOCK).path, tmp_path / "b", more)
    wanted = wexport.run(exported(STOCK).path, stock())["dense_3"]
    assert np.array_equal(wexport.run(bundle, stock())["dense_3"], wanted)
    assert np.array_equal(wexport.run(bundle, {**stock(), "unread": np.ones((2, 2))})["dense_3"], wanted)
    with pytest.raises(UsageError, match=r"'unread' is float64 \(2,\)"):
        wexport.run(bundle, {**stock(), "unread": np.ones(2)})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("keras3.15.1/m5_custom_layer.keras", r"cannot be computed: blk \(Block\) is no layer that wexport knows"),
        ("keras3.15.1/m5_textvec.h5", r"tv has a vocabulary that the source does not hold"),
        ("keras3.15.1/m5_subclass.keras", r"no outputs are known: the source does not tell its graph"),
    ],
)
@pytest.mark.usefixtures("uncomputed")
def test_what_cannot_be_computed_is_named_first(name: str, message: str, exported: Exported) -> None:
    with pytest.raises(UsageError, match=message):
        wexport.run(exported(case(name)).path, {})


def test_an_error_inside_of_a_layer_names_it(exported: Exported) -> None:
    """A batch of two beside one of three: nothing in the manifest forbids it."""
    with pytest.raises(
        UsageError, match=r"merge_1: computing this concat failed for x \[\(2, 128\), \(3, 1\)\]: "
    ) as caught:
        wexport.run(exported(STOCK).path, {**stock(), "aux_input": stock(3)["aux_input"]})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_is_no_fault_of_a_layer_passes(
    error: type[BaseException], exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(step: Any) -> None:
        raise error

    monkeypatch.setattr(evaluating.KINDS["lstm"], "computes", fail)
    with pytest.raises(error):
        wexport.run(exported(STOCK).path, stock())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"args": {"x": "lstm_input"}', '"args": ["lstm_input"]', "manifest is damaged: calls > 0 > args: "),
        ('{"layer": "lstm_1", "args"', '{"layer": "lstm_9", "args"', "lstm_9 is called, but is no layer"),
        ('"args": {"x": "lstm_input"}', '"args": {"x": "lost"}', "nothing gives the value 'lost'"),
        ('"dense_3": {"value": "dense_3"}', '"dense_3": {"value": "lost"}', "nothing gives its output dense_3"),
        ('"kind": "lstm"', '"kind": "conv"', "lstm_1: computing this conv failed"),
        ('"return_sequences": false, ', "", "lstm_1: computing this lstm failed"),
    ],
)
def test_damaged_manifests(old: str, new: str, message: str, exported: Exported, tmp_path: Path) -> None:
    bundle = edited(exported(STOCK).path, tmp_path / "b", (old, new))
    with pytest.raises((UsageError, BundleError), match=message):
        wexport.run(bundle, stock())


# -- archives ----------------------------------------------------------------------------------------------------------


def member(shape: Any = (2, 1), descr: str = "<f4", data: bytes = b"\0" * 8, version: int = 1) -> bytes:
    head = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(head).to_bytes(2, "little") + head + data


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as out:
        for name, data in members:
            out.writestr(name, data)
    return file.getvalue()


def saved(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **arrays) if "objects" in arrays else np.savez(file, **arrays)
    return file.getvalue()


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


GOOD = saved(**stock())
BOMB = archive(("aux_input.npy", member((1 << 31, 1), data=b"\0" * 100)), method=zipfile.ZIP_DEFLATED)


def huge_member() -> bytes:
    """A member whose directory entry promises 4 GB."""
    data = bytearray(archive(("aux_input.npy", member())))
    for mark, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = data.rindex(mark) + place
        data[at : at + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    return bytes(data)


DAMAGED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is no .npz file"),
    "text": (b"hello", "is no .npz file"),
    "an array alone": (member(), "is no .npz file"),
    "truncated": (GOOD[:-100], "is no .npz file"),
    "a flipped byte of data": (flipped(GOOD, 300), "'lstm_input' cannot be read: Bad CRC-32"),
    "a huge shape": (archive(("aux_input.npy", member((1 << 40, 1)))), r"says float32 \(1099511627776, 1\), but"),
    "a huger shape": (archive(("aux_input.npy", member((1 << 62, 1 << 62)))), "but has 8 bytes"),
    "a negative shape": (archive(("aux_input.npy", member((-2, -1)))), "but has 8 bytes"),
    "a shape of text": (archive(("aux_input.npy", member("ab"))), "the header of 'aux_input' cannot be read"),
    "a bomb": (BOMB, "but has 100 bytes"),
    "a huge member": (huge_member(), "says 4,294,967,280 bytes, more than the file can hold"),
    "objects": (saved(objects=np.array([{}])), "'objects' holds objects"),
    "records": (archive(("aux_input.npy", member(descr=[("a", "<f4")]))), "'aux_input' holds objects"),
    "another version": (archive(("aux_input.npy", member(version=9))), "version"),
    "no magic": (archive(("aux_input.npy", b"hello, this is no array")), "the header of 'aux_input' cannot be read"),
    "a nested header": (archive(("aux_input.npy", member("(" * 9000))), "cannot be read"),
    "no array": (archive(("readme.txt", b"hello")), "holds 'readme.txt', which is no array"),
    "another method": (archive(("aux_input.npy", member()), method=zipfile.ZIP_LZMA), "never writes"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), DAMAGED.values(), ids=DAMAGED)
@pytest.mark.usefixtures("uncomputed")
def test_damaged_archives(data: bytes, message: str, exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=message) as caught:
        wexport.run(exported(STOCK).path, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_shapes_are_checked_before_data_are_read(exported: Exported, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(Archive, "array", lambda *args: pytest.fail("read"))
    np.savez(tmp_path / "in.npz", lstm_input=np.ones((2, 30, 5)), aux_input=np.ones((2, 1)))
    with pytest.raises(UsageError, match="lstm_input"):
        wexport.run(exported(STOCK).path, tmp_path / "in.npz")


def test_every_flipped_byte_is_one_line_or_harmless(tmp_path: Path) -> None:
    """Archives that differ in a byte are read as they were, or refused; nothing else escapes."""
    data = saved(x=np.arange(6, dtype=np.int16).reshape(2, 3))
    path, seen = tmp_path / "in.npz", set()
    for at in range(len(data)):
        path.write_bytes(flipped(data, at))
        try:
            with Archive(path) as found:
                seen.add(all(np.array_equal(found.array(n), [[0, 1, 2], [3, 4, 5]]) for n in found))
        except UsageError as error:
            seen.add("refused" if "\n" not in str(error) else str(error))
    assert seen == {True, "refused"}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f4", "?", "U3", "S2", ">i4", "f2"])
def test_reading_is_numpys(order: Any, dtype: str, tmp_path: Path) -> None:
    array = np.asarray(np.arange(24).reshape(2, 3, 4) % 2, dtype, order=order)
    np.savez_compressed(tmp_path / "a.npz", x=array, empty=array[:0], scalar=array[0, 0, 0])
    with Archive(tmp_path / "a.npz") as found, np.load(tmp_path / "a.npz") as wanted:
        for name in found:
            assert found.array(name).dtype == wanted[name].dtype
            assert np.array_equal(found.array(name), wanted[name])


# -- what is written ---------------------------------------------------------------------------------------------------


def test_the_file_is_numpys_and_always_the_same(tmp_path: Path) -> None:
    arrays = {
        "a/b": np.arange(6.0).reshape(2, 3).T, "text": np.array(["x", "größer"]), "empty": np.zeros((0, 3), np.int8),
        "scalar": np.asarray(True),
    }  # fmt: skip
    found = [Result(name, None, "", array) for name, array in arrays.items()]
    for name in ("a.npz", "b.npz"):
        save(found, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as read:
        assert read.files == list(arrays)
        for name, array in arrays.items():
            assert read[name].dtype == array.dtype
            assert np.array_equal(read[name], array)
    with zipfile.ZipFile(tmp_path / "a.npz") as members:
        assert {info.date_time for info in members.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_chunks_are_one_array(tmp_path: Path) -> None:
    array = np.arange(10, dtype=np.float32).reshape(5, 2)
    with (tmp_path / "a.npz").open("wb") as file:
        write_npz(file, [("x", array.dtype, array.shape, [array[:3], array[3:]])])
    assert np.array_equal(np.load(tmp_path / "a.npz")["x"], array)


def test_the_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    good, bad = Result("x", None, "", np.asarray(1.0)), Result("y", None, "", np.asarray({}))
    with pytest.raises((TypeError, ValueError)):
        save([good, bad], tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.npz").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        save([good], tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_text() == "mine"
    save([good], tmp_path / "a.npz", force=True)
    assert np.load(tmp_path / "a.npz")["x"] == 1.0
    with pytest.raises(OutputError, match="is a folder"):
        save([good], tmp_path, force=True)
    with pytest.raises(OutputError, match="cannot be written"):
        save([good], tmp_path / "a.npz" / "b.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.array([1.0, 3.0], np.float16), (1.0, 3.0, 2.0)),
        (np.array([True, False]), (0.0, 1.0, 0.5)),
        (np.zeros(0), (None, None, None)),
        (np.array(["a"]), (None, None, None)),
        (np.array([1.0, np.inf]), (1.0, np.inf, np.inf)),
    ],
)
def test_numbers(array: Array, wanted: Any) -> None:
    assert tuple(numbers(array).values()) == wanted


# -- every model -------------------------------------------------------------------------------------------------------


def test_progress_counts_calls(exported: Exported) -> None:
    bundle = exported(STOCK)
    steps: list[int] = []
    results(bundle, stock(), progress=steps.append)
    assert sum(steps) == len(bundle.manifest["calls"])


def given(model: Case, manifest: Mapping[str, Any]) -> dict[str, Array]:
    """A model's golden inputs by their names, or else in its order."""
    with np.load(model.golden, allow_pickle=False) as found:
        named = {name: found[f"in_{name}"] for name in manifest["inputs"] if f"in_{name}" in found}
        keys = sorted((k for k in found.files if re.fullmatch(r"in_\d+", k)), key=lambda k: int(k[3:]))
        return named or {name: found[k] for name, k in zip(manifest["inputs"], keys, strict=False)}


@pytest.mark.parametrize(
    "model", [c for c in [*cases(), *onnx_cases()][::4] if c.golden.exists()], ids=lambda c: c.id
)  # fmt: skip
def test_what_it_gives_is_what_the_evaluator_gives(model: Case, exported: Exported) -> None:
    """Whose outputs are the framework's (`tests/meaning`): all of them, and all values, in the stated types."""
    bundle = exported(model)
    manifest = bundle.manifest
    if evaluating.unsupported(manifest):
        with pytest.raises(UsageError, match="cannot be computed"):
            wexport.run(bundle.path, {})
        return
    inputs = given(model, manifest)
    found = wexport.run(bundle.path, inputs, layers="*")
    values = evaluating.evaluate(manifest, lambda n: bundle[n], checked(manifest, inputs))
    wanted = {name: item["value"] for name, item in manifest["outputs"].items()}
    assert list(found)[: len(wanted)] == list(wanted)
    named = [o["value"] for c in manifest["calls"] for o in c["out"] if o["value"] is not None]
    wanted |= {v if wanted.get(v, v) == v else f"value.{v}": v for v in named}
    for name, value in wanted.items():
        if isinstance(values[value], Items):
            assert f"{name}.0" in found
        else:
            same = np.asarray(values[value]).astype(found[name].dtype)
            assert np.array_equal(found[name], same, equal_nan=same.dtype.kind == "f")
    stated = stated_types(manifest)
    for name, value in wanted.items():
        if name in found and stated[value] in {"float32", "float16", "int64", "int32", "bool"}:
            assert found[name].dtype == stated[value]
