"""HDF5 files that ask for too much, lead elsewhere, or go round in circles."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from broken import model_file, refuse, sequential

import wexport

KERNEL = "model_weights/first/first/kernel:0"


def replaced(path: Path, **options: object) -> None:
    """The first kernel, stored in another way."""
    with model_file(path) as file:
        del file[KERNEL]
        file.create_dataset(KERNEL, **options)


def test_the_model_to_break_is_good(tmp_path: Path) -> None:
    with model_file(tmp_path / "model.h5"):
        pass
    wexport.export(tmp_path / "model.h5", tmp_path / "out")
    with wexport.open(tmp_path / "out") as bundle:
        assert list(bundle) == ["first.kernel", "first.bias", "second.kernel", "second.bias"]
        np.testing.assert_array_equal(bundle["first.kernel"], np.arange(6, dtype="f4").reshape(3, 2))


@pytest.mark.parametrize("shape", [(1 << 40, 1 << 20), (1 << 50, 2), (1 << 31, 1 << 31)])
def test_absurd_sizes(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Chunked data that were never written take no place in the file, whatever they declare."""
    replaced(tmp_path / "model.h5", shape=shape, dtype="f4", chunks=(64, 2))
    refuse(tmp_path / "model.h5", "first/kernel:0.* declares|shape")


def test_data_that_were_never_written(tmp_path: Path) -> None:
    replaced(tmp_path / "model.h5", shape=(3, 2), dtype="f4")
    refuse(tmp_path / "model.h5", "never written")


def test_data_in_another_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"top secret, really top secret")
    replaced(tmp_path / "model.h5", shape=(3, 2), dtype="f4", external=[(str(secret), 0, 24)])
    refuse(tmp_path / "model.h5", "first/kernel:0")


@pytest.mark.parametrize("target", ["/model_weights/second", "/nowhere", "/model_weights/link"])
def test_soft_links(target: str, tmp_path: Path) -> None:
    with model_file(tmp_path / "model.h5") as file:
        file["model_weights/link"] = h5py.SoftLink(target)
    refuse(tmp_path / "model.h5", "is a link; the writers of model files store data in place")


def test_external_links(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones(3)
    with model_file(tmp_path / "model.h5") as file:
        file["model_weights/link"] = h5py.ExternalLink("other.h5", "/")
    refuse(tmp_path / "model.h5", "HDF5 structure is damaged")


@pytest.mark.parametrize("target", ["/", "/model_weights", "/model_weights/first"])
def test_circles(target: str, tmp_path: Path) -> None:
    with model_file(tmp_path / "model.h5") as file:
        file["model_weights/first/again"] = file[target]
    refuse(tmp_path / "model.h5", "is reached by two ways")


def test_virtual_data(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "source.h5", "w") as source:
        source["x"] = np.ones((3, 2), "f4")
    with model_file(tmp_path / "model.h5") as file:
        del file[KERNEL]
        layout = h5py.VirtualLayout((3, 2), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "source.h5"), "x", (3, 2))
        file.create_virtual_dataset(KERNEL, layout)
    refuse(tmp_path / "model.h5", "first/kernel:0|virtual")


def test_an_unknown_filter(tmp_path: Path) -> None:
    replaced(tmp_path / "model.h5", data=np.ones((3, 2), "f4"), chunks=(3, 2), compression="lzf")
    refuse(tmp_path / "model.h5", "packed by HDF5 filter 32000; repack the file with gzip")


def test_big_endian_data(tmp_path: Path) -> None:
    replaced(tmp_path / "model.h5", data=np.ones((3, 2), ">f4"))
    refuse(tmp_path / "model.h5", "big-endian")


def odd_type(file: h5py.File) -> None:
    space = h5py.h5s.create_simple((3, 2))
    h5py.h5d.create(file.id, b"odd", h5py.h5t.STD_B8LE, space).write(space, space, np.zeros((3, 2), "u1"))


def many_attributes(file: h5py.File) -> None:
    group = file.create_group("many")
    for i in range(20):
        group.attrs[f"a{i}"] = i


UNREAD: dict[str, tuple[dict[str, str], Callable[[h5py.File], object], str]] = {
    "a type": ({}, odd_type, "Bitfield datatype class not supported"),
    "a heap": ({"libver": "latest"}, many_attributes, "keeps attributes in a heap"),
    "a link": ({}, lambda file: file.__setitem__("link", h5py.SoftLink("/model_weights")), "'/link' is a link"),
    "a filter": ({}, lambda file: file.create_dataset("x", data=np.ones(99), compression="lzf"), "HDF5 filter 32000"),
    "an order": ({}, lambda file: file.create_dataset("x", data=np.ones(9, ">f4")), "big-endian"),
    "no data": ({}, lambda file: file.create_dataset("x", (9,), "f4"), "has no data in this file"),
    "two names": ({}, lambda file: file.__setitem__("twice", file["model_weights"]), "is reached by two ways"),
}


@pytest.mark.parametrize(("options", "make", "reason"), UNREAD.values(), ids=UNREAD)
def test_sound_files_are_not_called_damaged(
    options: dict[str, str], make: Callable[[h5py.File], object], reason: str, tmp_path: Path
) -> None:
    with model_file(tmp_path / "whole.h5") as file, h5py.File(tmp_path / "model.h5", "w", **options) as odd:
        for name, value in file.attrs.items():
            odd.attrs[name] = value
        file.copy("model_weights", odd)
        make(odd)
    refuse(tmp_path / "model.h5", f"in a way of HDF5 that wexport does not read: .*{reason}.*; save the model again")


@pytest.mark.parametrize(
    "options",
    [{"compression": "gzip"}, {"compression": "gzip", "shuffle": True}, {"fletcher32": True}, {}],
    ids=["gzip", "shuffle", "fletcher32", "plain"],
)
def test_chunks_are_read(options: dict[str, object], tmp_path: Path) -> None:
    data = np.arange(6, dtype="f4").reshape(3, 2)
    replaced(tmp_path / "model.h5", data=data, chunks=(2, 2), **options)
    wexport.export(tmp_path / "model.h5", tmp_path / "out")
    with wexport.open(tmp_path / "out") as bundle:
        np.testing.assert_array_equal(bundle["first.kernel"], data)


def test_a_chunk_that_does_not_fit_its_checksum(tmp_path: Path) -> None:
    data = np.full((3, 2), 1234.5, "f4")
    path = tmp_path / "model.h5"
    replaced(path, data=data, chunks=(3, 2), fletcher32=True)
    content = path.read_bytes()
    place = content.index(data.tobytes())
    path.write_bytes(content[:place] + b"\x01" + content[place + 1 :])
    refuse(path, "does not fit its checksum; it is damaged")


def test_a_chunk_that_is_a_bomb(tmp_path: Path) -> None:
    """A gigabyte of zeros in place of the 24 bytes that the chunk holds."""
    path = tmp_path / "model.h5"
    with model_file(path) as file:
        del file[KERNEL]
        kernel = file.create_dataset(KERNEL, (3, 2), "f4", chunks=(3, 2), compression="gzip")
        packer = zlib.compressobj(9)
        bomb = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(1024)), packer.flush()])
        kernel.id.write_direct_chunk((0, 0), bomb)
    tracemalloc.start()
    refuse(path, "a chunk holds .* bytes, expected 24", seconds=10)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def test_very_many_groups(tmp_path: Path) -> None:
    with model_file(tmp_path / "model.h5") as file:
        group = file["model_weights"]
        for i in range(200):
            group = group.create_group(f"g{i}")
    refuse(tmp_path / "model.h5", "HDF5 structure is damaged|reached by two ways")


NAMES = {
    "that are missing": [b"none"],
    "that lead up": [b"../second/second/kernel:0"],
    "that are absolute": [b"/model_weights/second/second/kernel:0"],
    "that are empty": [b""],
    "of a group": [b"first"],
    "with a NUL": [b"a\x00b"],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_weight_names(names: list[bytes], tmp_path: Path) -> None:
    with model_file(tmp_path / "model.h5") as file:
        file["model_weights/first"].attrs["weight_names"] = np.array(names, dtype="S64")
    refuse(tmp_path / "model.h5")


def test_layer_names_that_are_missing(tmp_path: Path) -> None:
    with model_file(tmp_path / "model.h5") as file:
        file["model_weights"].attrs["layer_names"] = [b"first", b"none"]
    refuse(tmp_path / "model.h5", "none")


def test_a_name_list_in_several_attributes(tmp_path: Path) -> None:
    """What Keras does with lists above 64 kB: the parts in their order are the list."""
    names = [f"layer_{i:03d}" for i in range(12)]
    with model_file(tmp_path / "model.h5", names) as file:
        weights = file["model_weights"]
        del weights.attrs["layer_names"]
        for i in range(3):
            weights.attrs[f"layer_names{i}"] = [n.encode() for n in names[4 * i : 4 * i + 4]]
    plan = wexport.plan(tmp_path / "model.h5")
    plan.close()
    assert [layer.name for layer in plan.layers if layer.weights] == names
    assert [t.array.index for t in plan.tensors if t.role == "kernel"] == list(range(0, 24, 2))


def test_weights_of_no_layer(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.attrs["layer_names"] = np.array([], dtype="S1")
        file.attrs["keras_version"] = "2.2.4"
    refuse(tmp_path / "weights.h5", "expected a file with weights")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.ones(3)
    refuse(tmp_path / "other.h5")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    refuse(tmp_path / "empty.h5")


@pytest.mark.parametrize("config", ["", "{", "3", "[" * 100_000, '{"class_name": 3}'], ids=lambda c: c[:12])
def test_configs(config: str, tmp_path: Path) -> None:
    with model_file(tmp_path / "model.h5") as file:
        if len(config) > 60_000:  # attributes above 64 kB are another message
            config = config[:60_000]
        file.attrs["model_config"] = config
    refuse(tmp_path / "model.h5")


def test_a_record_is_no_weight(tmp_path: Path) -> None:
    replaced(tmp_path / "model.h5", data=np.zeros(3, [("a", "f4"), ("b", "i4")]))
    plan = wexport.plan(tmp_path / "model.h5")
    plan.close()
    assert [(item.key, item.shape) for item in plan.left_out] == [("first/first/kernel:0", (3,))]
    assert plan.unknown == ("first",)
    assert plan.warnings
    with pytest.raises(wexport.PlanError):
        wexport.plan(tmp_path / "model.h5", strict=True)


# -- names -------------------------------------------------------------------------------------------------------------

ODD = [
    "a\nb", "tab\there", "\x1b[31mred", "dot.ted", "ünï ©", "😀", "x" * 1500, "\u202egnp", '"quoted"', "back\\slash",
    "#", "- a: b",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD, ids=lambda n: ascii(n)[:16])
def test_odd_layer_names_are_kept(name: str, tmp_path: Path) -> None:
    """A name is a name: it is exported as it is, and no file of the bundle is called after it."""
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.2.4"
        file.attrs["model_config"] = json.dumps(sequential([name]))
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [name.encode()]
        group = weights.create_group(name)
        group.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
        group["kernel:0"], group["bias:0"] = np.ones((3, 2), "f4"), np.ones(2, "f4")
    wexport.export(path, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.h5", "out"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["manifest.yaml", "model.safetensors"]
    with wexport.open(tmp_path / "out") as bundle:
        assert list(bundle) == [f"{name}.kernel", f"{name}.bias"]
        assert list(bundle.manifest["layers"]) == [name]
        assert bundle[f"{name}.kernel"].sum() == 6


@pytest.mark.parametrize("name", [".."])
def test_a_layer_name_that_leads_up(name: str, tmp_path: Path) -> None:
    with model_file(tmp_path / "model.h5") as file:
        file["model_weights"].attrs["layer_names"] = [b"first", name.encode()]
    refuse(tmp_path / "model.h5")


def test_layers_of_the_same_name_lose_nothing(tmp_path: Path) -> None:
    """Keras makes no such model; the second one's arrays are exported under the file's own name, with a warning."""
    path = tmp_path / "model.h5"
    with model_file(path, config=sequential(["first", "first"])):
        pass
    plan = wexport.plan(path)
    plan.close()
    assert len(plan.tensors) == 4
    assert any("second" in warning for warning in plan.warnings)
    with pytest.raises(wexport.PlanError):
        wexport.plan(path, strict=True)
