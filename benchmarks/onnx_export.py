"""How long the export of an ONNX file takes, and how much memory: against `cp`.

    python benchmarks/onnx_export.py [--rounds N] [--megabytes N]

Three models are made up, of square kernels: with external data that needs no transposition, with external data whose
every kernel is transposed (as PyTorch stores them), and with everything in one file. Whole processes are timed in
turns, checksums and statistics on, the source in the page cache.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
from export import memory
from measure import WEXPORT, Command, environment, interleaved, machine, ratio, table
from onnx import TensorProto, helper

_LAYERS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description="Time exports of ONNX files against cp.")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is timed (%(default)s)")
    parser.add_argument("--megabytes", type=int, default=1900, help="the size of each model (%(default)s)")
    args = parser.parse_args()
    env = environment()
    print(machine(["wexport", "numpy", "onnx"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out, copy = folder / "out", folder / "copy"

        def clean() -> None:
            shutil.rmtree(out, ignore_errors=True)
            copy.unlink(missing_ok=True)

        for title, external, transposed in (
            ("external data, as stored", True, False),
            ("external data, every kernel transposed", True, True),
            ("one file", False, False),
        ):
            model = folder / "model.onnx"
            data = write(model, args.megabytes * 10**6, external, transposed)
            print(f"\n{title}: {data.stat().st_size / 1e6:.0f} MB")
            export: Command = [*WEXPORT, str(model), str(out)]
            times = interleaved({"cp": ["cp", str(data), str(copy)], "wexport": export}, args.rounds, env, clean)
            print(table(times))
            print(ratio("wexport / cp", times["wexport"].ratio(times["cp"]), "said" if transposed else "at most 6"))
            print(memory(export, env, 200 if external else 200 + data.stat().st_size // 10**6))
            clean()
            for file in {model, data}:
                file.unlink()


def write(path: Path, size: int, external: bool, transposed: bool) -> Path:
    """Write a model of about so many bytes; gives the file that holds its data."""
    n = math.isqrt(size // 4 // _LAYERS)
    block = np.random.default_rng(0).standard_normal((n, n), np.float32).tobytes()
    data = path.with_suffix(".data") if external else path
    weights, nodes, last = [], [], "x"
    for i in range(_LAYERS):
        tensor = TensorProto(name=f"fc{i}.weight", dims=[n, n], data_type=TensorProto.FLOAT)
        if external:
            with data.open("ab" if i else "wb") as file:
                file.write(block)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", data.name), ("offset", i * len(block)), ("length", len(block))):
                tensor.external_data.add(key=key, value=str(value))
        else:
            tensor.raw_data = block
        weights.append(tensor)
        nodes.append(helper.make_node("Gemm", [last, tensor.name], [f"h{i}"], f"/fc{i}/Gemm", transB=int(transposed)))
        last = f"h{i}"
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n]) for name in ("x", last)]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return data


if __name__ == "__main__":
    main()
