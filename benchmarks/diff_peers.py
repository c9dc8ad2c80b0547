"""What `wexport diff` and its peers print of the same pair of models, and with which exit code.

    python benchmarks/diff_peers.py [--reminis PROGRAM] [--git-theta PROGRAM]

A is the bundle of a small model of the tests. In B one gate's recurrent kernel moved by 5 % of its length, and a layer
is called otherwise; nothing else differs. A plain `diff` of the safetensors headers runs always; reminis and
git-theta-diff (with colorama and safetensors installed beside it) where their programs are given.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from measure import WEXPORT
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "tests/data/keras2.0.8-tf1.4/m1_stock.h5"
MOVED, OLD, NEW = "lstm_1.forget.recurrent", "dense_2", "hidden"


def main() -> None:
    parser = argparse.ArgumentParser(description="Show what peers of wexport diff print of the same pair.")
    parser.add_argument("--reminis", help="the program reminis")
    parser.add_argument("--git-theta", help="the program git-theta-diff")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        a, b = _pair()
        _run([*WEXPORT, "diff", "a", "b"])
        _run(["diff", *(_header(path) for path in (a, b))])
        if args.reminis:
            for path in (a, b):
                _run([args.reminis, "convert", path, "-o", f"{path}.db"], quiet=True)
            _run([args.reminis, "diff", f"{a}.db", f"{b}.db"])
        if args.git_theta:
            os.environ["GIT_THETA_CHECKPOINT_TYPE"] = "safetensors"
            _run([args.git_theta, "model.safetensors", a, "0", "0", b, "0", "0"])


def _pair() -> tuple[str, str]:
    """Two bundles, `a` and `b`; gives their data files."""
    for name in ("a", "b"):
        subprocess.run([*WEXPORT, str(MODEL), name], check=True, stdout=subprocess.DEVNULL)
    manifest = Path("b/manifest.yaml")
    manifest.write_text(manifest.read_text(encoding="utf-8").replace(OLD, NEW), encoding="utf-8")
    data = "b/model.safetensors"
    tensors = {name.replace(OLD, NEW): array for name, array in load_file(data).items()}
    noise = np.random.default_rng(0).standard_normal(tensors[MOVED].shape)
    noise *= 0.05 * np.linalg.norm(tensors[MOVED]) / np.linalg.norm(noise)
    tensors[MOVED] = (tensors[MOVED] + noise).astype(np.float32)
    save_file(tensors, data)
    subprocess.run([*WEXPORT, "verify", "b", "--update"], check=True, stdout=subprocess.DEVNULL)
    return "a/model.safetensors", data


def _header(path: str) -> str:
    """A text file with a line for each entry of a data file's header."""
    with Path(path).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    text = Path(f"{path}.txt")
    text.write_text("".join(f"{key} {json.dumps(value)}\n" for key, value in sorted(header.items())), encoding="utf-8")
    return str(text)


def _run(command: list[str], quiet: bool = False) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not quiet:
        words = " ".join([Path(command[0]).name, *command[1:]])
        print(f"$ {words}\n{done.stdout}{done.stderr}exit code {done.returncode}\n")


if __name__ == "__main__":
    main()
