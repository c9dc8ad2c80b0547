"""How long the proofs take, and how much memory: `verify MODEL` and `restore`, against `cp`.

    python benchmarks/restore.py [--rounds N]

Of the models of `export.py` (an HDF5 file with LSTM and Dense layers, whose kernels are cut into gates) and of
`onnx_export.py` (every kernel transposed, in a file beside the model). Each is restored as it was exported, and with
every byte of every tensor changed. Whole processes are timed in turns, the files in the page cache.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from export import memory
from make_big import write as write_keras
from measure import WEXPORT, Command, environment, interleaved, machine, ratio, table
from onnx_export import write as write_onnx

_LIMIT = 200


def main() -> None:
    parser = argparse.ArgumentParser(description="Time verify and restore against cp.")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is timed (%(default)s)")
    args = parser.parse_args()
    env = environment()
    print(machine(["wexport", "numpy", "pyfive", "onnx"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "big.h5"
        write_keras(str(model))
        _measure(folder, model, model, args.rounds, env)
        model.unlink()
        model = folder / "model.onnx"
        data = write_onnx(model, 440 * 10**6, True, True)
        _measure(folder, model, data, args.rounds, env)


def _measure(folder: Path, model: Path, data: Path, rounds: int, env: Mapping[str, str]) -> None:
    bundle, edited, new = folder / "bundle", folder / "edited", folder / "new"
    subprocess.run([*WEXPORT, str(model), str(bundle)], env=env, check=True, stdout=subprocess.DEVNULL)
    shutil.copytree(bundle, edited)
    _change(edited / "model.safetensors")
    print(f"\n{model.name}: {data.stat().st_size / 1e6:.0f} MB")
    target = str(new / model.name)

    def restore(source: Path) -> Command:
        return [*WEXPORT, "restore", str(source), "--into", str(model), "-o", target]

    commands: dict[str, Command] = {
        "cp": ["cp", str(data), str(folder / "copy")],
        "verify BUNDLE MODEL": [*WEXPORT, "verify", str(bundle), str(model)],
        "restore, unedited": restore(bundle),
        "restore, every tensor edited": restore(edited),
        "restore to weights.npz": [*WEXPORT, "restore", str(bundle), "-o", str(folder / "weights.npz")],
    }

    def clean() -> None:
        shutil.rmtree(new, ignore_errors=True)
        for name in ("copy", "weights.npz"):
            (folder / name).unlink(missing_ok=True)

    times = interleaved(commands, rounds, env, clean)
    print(table(times))
    for name in list(commands)[1:]:
        print(ratio(f"{name} / cp", times[name].ratio(times["cp"]), "said"))
        print(f"  {memory(commands[name], env, _LIMIT)}")
        clean()
    for path in (bundle, edited):
        shutil.rmtree(path)


def _change(path: Path) -> None:
    """Flip a bit of every byte behind the header."""
    with path.open("r+b") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
    data = np.memmap(path, np.uint8, "r+", start)
    data ^= 1
    data.flush()


if __name__ == "__main__":
    main()
