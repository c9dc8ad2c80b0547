"""How long an export takes, and how much memory: against `cp`, and against Keras itself.

    python benchmarks/export.py [MODEL.h5] [--rounds N] [--peer PYTHON] [--peer-rounds N]

Whole processes are timed, from their start to their end, checksums and statistics on, the source in the page cache,
everything on the disk that holds the model. Without MODEL, `make_big.py` writes one in a temporary folder. `--peer` is
a Python that has Keras and safetensors; there `load_model` and `save_file` do what comes nearest to an export.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from make_big import write
from measure import PASS, WEXPORT, Command, environment, interleaved, machine, ratio, table

_PEER = """\
import sys, numpy, keras
from safetensors.numpy import save_file
model = keras.models.load_model(sys.argv[1])
save_file({v.path: numpy.asarray(v) for v in model.weights}, sys.argv[2])
"""
_PEER_VERSIONS = "import keras, safetensors as s; print(f'keras {keras.__version__}, safetensors {s.__version__}')"
_COPY, _PYTHON, _EXPORT, _KERAS = "cp", "python -c pass", "wexport MODEL OUT/", "load_model + save_file"


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory(dir=args.model.parent if args.model else None) as name:
        folder = Path(name)
        model = args.model or folder / "big.h5"
        if not args.model:
            write(str(model))
        env = environment()
        out, copy = folder / "out", folder / "copy"

        def clean() -> None:  # at once, so that nothing is left to be written to the disk during the next one
            shutil.rmtree(out, ignore_errors=True)
            copy.unlink(missing_ok=True)

        print(machine(["wexport", "numpy", "pyfive"]))
        print(f"file      {model.stat().st_size / 1e6:.1f} MB; {args.rounds} rounds in turns, warm cache\n")
        export: Command = [*WEXPORT, str(model), str(out)]
        commands = {_PYTHON: PASS, _COPY: ["cp", str(model), str(copy)], _EXPORT: export}
        times = interleaved(commands, args.rounds, env, clean)
        print(table(times))
        floor = times[_COPY] + times[_PYTHON]
        print(ratio("wexport / (cp + python)", times[_EXPORT].ratio(floor), "at most 6"))
        print(f"\n{memory(export, env, 150)}\n")
        clean()
        if args.peer:
            peer = [args.peer, "-c", _PEER, str(model), str(copy)]
            _against_keras(args.peer, {_KERAS: peer, _EXPORT: export}, args.peer_rounds, env, clean)
        else:
            print("Keras: not measured; --peer PYTHON names a Python that has keras and safetensors")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time exports against cp and against Keras.")
    parser.add_argument("model", nargs="?", type=Path, help="the model file; without one, 438 MB are made up")
    parser.add_argument("--rounds", type=int, default=11, help="how often everything is timed (%(default)s)")
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter that can import keras and safetensors")
    parser.add_argument("--peer-rounds", type=int, default=2, metavar="N", help="the same for it (%(default)s)")
    return parser.parse_args()


def _against_keras(
    python: str, commands: Mapping[str, Command], rounds: int, env: Mapping[str, str], clean: Callable[[], None]
) -> None:
    found = subprocess.run([python, "-c", _PEER_VERSIONS], capture_output=True, text=True, check=False)
    if found.returncode:
        print(f"Keras: not measured; {python} cannot import it")
        return
    print(found.stdout.strip().splitlines()[-1])
    times = interleaved(commands, rounds, env, clean)
    print(table(times))
    print(ratio("keras / wexport", times[_KERAS].ratio(times[_EXPORT]), "at least 10"))


def memory(command: Command, env: Mapping[str, str], limit: int) -> str:
    """The most memory that a run takes; it should be at most so many megabytes.

    Linux keeps no high-water mark of anonymous memory, which is what an export takes for itself, so `RssAnon` is looked
    at every millisecond. `VmHWM` is the kernel's own high-water mark of all that is resident, so no peak can hide from
    it; besides anonymous memory it counts the pages of libraries, which all processes share.
    """
    anonymous = resident = 0
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = _status(process.pid)
            anonymous = max(anonymous, status.get("RssAnon", 0))
            resident = max(resident, status.get("VmHWM", 0))
            time.sleep(0.001)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    if not resident:
        return "memory: not measured; only Linux tells"
    return f"peak memory: {anonymous / 1e6:.0f} MB anonymous (at most {limit}), {resident / 1e6:.0f} MB with libraries"


def _status(pid: int) -> dict[str, int]:
    """The sizes in a process' status, in bytes; nothing once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines)
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in fields if words[-1] == "kB"}


if __name__ == "__main__":
    main()
