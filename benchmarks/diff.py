"""How long a comparison takes, how much of the data it reads, and how much memory it needs.

    python benchmarks/diff.py [--rounds N] [--folder PLACE]

Three things, each as whole processes, timed in turns, the files in the page cache:
manifests of 10,000 tensors (LSTM layers, and dense ones), of which two have moved, or all, on one core, against GNU
`diff` of the two files and Python's own start;
two bundles of 1 GB that differ in one tensor, against `cmp` of their data files, with the bytes that each asks for
(`rchar` of /proc/PID/io; Linux only);
two bundles of 440 MB in which every element has moved, against `cp` of one of them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from export import memory
from make_big import write as write_keras
from make_manifests import UNITS
from make_manifests import write as write_manifests
from measure import PASS, WEXPORT, Command, environment, interleaved, machine, ratio, table
from numpy.typing import NDArray

from wexport.digest import Item
from wexport.model import Array
from wexport.storage import Bytes
from wexport.view import View
from wexport.write import write_bundle

_LIMIT = 200
_DIFF = (*WEXPORT, "diff", "--fail-on", "structure")  # values alone have changed: the exit code is 0
_SIDE = 4096  # of a kernel of the large bundles: 64 MB
_KERNELS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description="Time diff against diff, cmp and cp.")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is timed (%(default)s)")
    parser.add_argument("--folder", help="where to write the 3 GB that it needs (the system's folder for such things)")
    args = parser.parse_args()
    env = environment()
    print(machine(["wexport", "numpy"]))
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        _manifests(folder, args.rounds, env)
        _one_tensor(folder / "one", args.rounds, env)
        _everything(folder / "all", args.rounds, env)


def _manifests(folder: Path, rounds: int, env: Mapping[str, str]) -> None:
    core = _one_core()
    for name, files in write_manifests(folder).items():
        print(f"\n10,000 tensors, {name}: manifests of {files['one'].stat().st_size / 1e6:.1f} MB, on one core")
        commands: dict[str, Command] = {"python -c pass": [*core, *PASS]}
        for state in ("two", "all"):
            pair = [str(files["one"]), str(files[state])]
            commands[f"GNU diff, {state} moved"] = _different([*core, "diff", *pair])
            commands[f"diff, {state} moved"] = [*core, *_DIFF, *pair]
            commands[f"diff --json, {state} moved"] = [*core, *_DIFF, *pair, "--json"]
        times = interleaved(commands, rounds, env)
        print(table(times))
        for state in ("two", "all"):
            pair_of = times[f"diff, {state} moved"].ratio(times[f"GNU diff, {state} moved"])
            print(ratio(f"diff / GNU diff, {state} moved", pair_of, "said"))
            print(f"  {memory(commands[f'diff, {state} moved'], env, _LIMIT)}")


def _one_tensor(folder: Path, rounds: int, env: Mapping[str, str]) -> None:
    folder.mkdir()
    names = [f"dense_{i}.kernel" for i in range(_KERNELS)]
    random = np.random.default_rng(0)
    kernel = random.normal(0, 0.02, (_SIDE, _SIDE)).astype("f4")
    a, b = folder / "a", folder / "b"
    for place, moved in ((a, ""), (b, names[-1])):  # the last one: `cmp` ends at the first difference
        _write(place, names, kernel, moved)
    data = [str(place / "model.safetensors") for place in (a, b)]
    size = Path(data[0]).stat().st_size
    start = size - _KERNELS * kernel.nbytes  # of the data, behind the header
    each = f"{kernel.nbytes / 1e6:.1f} MB"
    print(f"\none of {_KERNELS} tensors, each of {each}, has moved: two bundles of {size / 1e6:.0f} MB")
    commands: dict[str, Command] = {
        "python -c pass": PASS,
        "cmp of the data": _different(["cmp", "-s", "-i", str(start), *data]),
        "diff": [*_DIFF, str(a), str(b)],
        "diff --verify": [*_DIFF, "--verify", str(a), str(b)],
    }
    times = interleaved(commands, rounds, env)
    print(table(times))
    print(ratio("diff / cmp", times["diff"].ratio(times["cmp of the data"]), "said"))
    for name in list(commands)[1:]:
        print(f"  {name}: asks for {_read(commands[name], env) / 1e6:,.1f} MB")
    least = _read([*_DIFF, str(a), str(a)], env)  # modules, manifests and headers, and no data
    own = _read(commands["diff"], env) - least
    print(f"  diff, data alone: {own:,} bytes; the tensor that moved, twice: {2 * kernel.nbytes:,}")
    print(f"  {memory(commands['diff'], env, _LIMIT)}")
    shutil.rmtree(folder)


def _write(place: Path, names: Sequence[str], kernel: NDArray[Any], moved: str) -> None:
    """A bundle of dense layers in a row whose kernels are rolled copies of one; `moved` is doubled."""
    place.mkdir()
    about = {"name": "big", "framework": "keras", "framework_version": "1"}
    source = {"file": "big.h5", "format": "keras-hdf5", "bytes": 1}
    layers = [name.partition(".")[0] for name in names]
    dense = {"kind": "dense", "class": "Dense", "units": _SIDE, "activation": {"name": "relu"}}
    shape = [_SIDE, _SIDE]
    out = {"role": "y", "shape": [None, _SIDE], "dtype": "float32"}
    manifest = {
        "model": {**about, "source": source, "parameters": len(names) * _SIDE**2},
        "inputs": {"x": {"shape": [None, UNITS], "dtype": "float32"}},
        "outputs": {layers[-1]: {"value": layers[-1]}},
        "layers": dict.fromkeys(layers, dense),
        "calls": [
            {"layer": layer, "args": {"x": value}, "out": [{"value": layer, **out}]}
            for layer, value in zip(layers, ["x", *layers], strict=False)
        ],
        "equations": {},
        "weights": {
            name: {"index": i, "shape": shape, "dtype": "float32", "layout": "in out", "as": "kernel: in out",
                   "sizes": {"in": _SIDE, "out": _SIDE}}
            for i, name in enumerate(names)
        },
        "tensors": {
            name: {"dtype": "F32", "shape": shape, "axes": "in out", "layer": layer, "role": "kernel", "weight": name,
                   "at": {}}
            for name, layer in zip(names, layers, strict=True)
        },
        "aliases": {}, "left_out": {},
    }  # fmt: skip
    items = []
    for i, name in enumerate(names):
        array = np.roll(kernel, i, 0) * np.float32(2 if name == moved else 1)
        stored = Array(name, kernel.shape, "float32", Bytes(array.tobytes()))
        items.append(Item(name, "F32", kernel.shape, stored, View.whole(kernel.shape)))
    write_bundle(place, manifest, items, 1 << 40, lambda size: None)


def _everything(folder: Path, rounds: int, env: Mapping[str, str]) -> None:
    folder.mkdir()
    model, a, b = folder / "big.h5", folder / "a", folder / "b"
    write_keras(str(model))
    subprocess.run([*WEXPORT, str(model), str(a)], env=env, check=True, stdout=subprocess.DEVNULL)
    model.unlink()
    shutil.copytree(a, b)
    data = b / "model.safetensors"
    with data.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
    numbers = np.memmap(data, np.float32, "r+", start)
    numbers *= np.float32(1.5)
    numbers.flush()
    subprocess.run([*WEXPORT, "verify", "--update", str(b)], env=env, check=True, stdout=subprocess.DEVNULL)
    print(f"\nevery element has moved: two bundles of {data.stat().st_size / 1e6:.0f} MB")
    commands: dict[str, Command] = {
        "cp of one": ["cp", str(data), str(folder / "copy")],
        "diff": [*_DIFF, str(a), str(b)],
        "diff --top 5": [*_DIFF, "--top", "5", str(a), str(b)],
    }
    times = interleaved(commands, rounds, env, lambda: (folder / "copy").unlink(missing_ok=True))
    print(table(times))
    for name in list(commands)[1:]:
        print(ratio(f"{name} / cp", times[name].ratio(times["cp of one"]), "said"))
        print(f"  {memory(commands[name], env, _LIMIT)}")


def _one_core() -> list[str]:
    """What keeps a command on one core, where there is such a thing."""
    return ["taskset", "-c", "0"] if shutil.which("taskset") else []


def _different(command: Command) -> list[str]:
    """A command that must end with 1, for it finds a difference; a shell's start, a millisecond, comes with it."""
    return ["sh", "-c", '"$@" >/dev/null; test $? -eq 1', "sh", *command]


def _read(command: Command, env: Mapping[str, str]) -> int:
    """The bytes that a command asks the system for, however they come: from files, the cache, the disk."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "io"
        words = ["sh", "-c", '"$@" >/dev/null; cat /proc/$$/io >"$0"; true', str(place), *command]
        subprocess.run(words, env=env, check=True, stderr=subprocess.DEVNULL)
        found = dict(line.split(": ") for line in place.read_text(encoding="ascii").splitlines())
    return int(found["rchar"])


if __name__ == "__main__":
    main()
