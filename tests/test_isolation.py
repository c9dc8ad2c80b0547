"""No framework is imported to read its files, and no C library that a hostile file could crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cases import case
from twins import arrays, manifest_of, write

FORBIDDEN = {
    "tensorflow",
    "keras",
    "tf_keras",
    "torch",
    "onnx",
    "h5py",
    "theano",
    "jax",
    "pickle5",
    "dill",
    "cloudpickle",
}
FILES = [
    "keras1.2.2-theano-th/op_conv2d.h5",
    "keras2.0.8-tf1.4/m1_stock.h5",
    "keras3.15.1/m1_stock.keras",
    "keras3.15.1/m5_bfloat16.keras",
]
SCRIPT = """
import json, sys
import wexport
from wexport.verbs.textconv import textconv
wexport.plan(sys.argv[1]).close()
wexport.export(sys.argv[1], sys.argv[2])
with wexport.open(sys.argv[2]) as bundle:
    for name in bundle:
        bundle[name]
wexport.verify(sys.argv[2], sys.argv[1])
textconv(sys.argv[1])
wexport.restore(sys.argv[2], sys.argv[2] + "-new", into=sys.argv[1])
wexport.export(sys.argv[1], sys.argv[2] + "-golden", golden=True)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def modules(script: str, *args: str) -> set[str]:
    """The top-level modules that a fresh process has loaded when the script ends."""
    found = subprocess.run(
        [sys.executable, "-c", script, *args],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    return set(json.loads(found.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", FILES)
def test_no_framework_is_imported(name: str, tmp_path: Path) -> None:
    loaded = modules(SCRIPT, str(case(name).path), str(tmp_path / "out"))
    assert loaded & FORBIDDEN == set()
    assert "wexport" in loaded


GUARD = """
def refuse(event, args):
    if event in {"exec", "compile", "marshal.loads", "pickle.find_class", "os.system", "subprocess.Popen", "import"}:
        raise SystemExit(f"{event} {args}")
"""
GUARDED = f"""
import sys, wexport
{GUARD}
wexport.export(sys.argv[1], sys.argv[2] + "-first")  # imports what it needs
sys.addaudithook(refuse)
wexport.export(sys.argv[1], sys.argv[2])
print("[]")
"""
CAUGHT = f"""
import marshal, sys
{GUARD}
data = marshal.dumps(3)
sys.addaudithook(refuse)
marshal.loads(data)
print("[]")
"""


@pytest.mark.parametrize("name", ["tf.keras-tf2.15/m4_structure.h5", "keras3.15.1/m5_custom_layer.keras"])
def test_code_in_a_model_is_not_run(name: str, tmp_path: Path) -> None:
    """A Lambda's marshalled function and a custom class are data: nothing is unmarshalled, compiled or imported."""
    assert modules(GUARDED, str(case(name).path), str(tmp_path / "out")) == set()


def test_the_guard_sees_code() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        modules(CAUGHT)
    assert "marshal.loads" in caught.value.stderr


def test_importing_is_cheap() -> None:
    loaded = modules("import json, sys, wexport\nprint(json.dumps(sorted(sys.modules)))")
    assert loaded & {"numpy", "pyfive", "yaml", "jsonschema", "tqdm", "matplotlib", "ml_dtypes"} == set()


COMPARED = """
import json, sys
from wexport.__main__ import main
codes = [main(["diff", *sys.argv[1:3], *more]) for more in ([], ["--json"], ["--markdown", "--all"])]
assert codes == [1, 1, 1], codes
print(json.dumps(sorted(sys.modules)))
"""
HEAVY = FORBIDDEN | {"numpy", "pyfive", "jsonschema", "tqdm", "ml_dtypes", "yaml", "wexport.bundle", "wexport.readers"}


def test_two_manifests_are_compared_without_the_rooms(tmp_path: Path) -> None:
    """Of one framework, that is; what would take longer to import than to compare stays out."""
    one = write(tmp_path / "a", arrays())
    two = write(tmp_path / "b", arrays(4, seed=1))
    places = [manifest_of(one, tmp_path / "a.yaml"), manifest_of(two, tmp_path / "b.yaml")]
    loaded = modules(COMPARED, *map(str, places))
    assert loaded & HEAVY == set()
    assert [name for name in loaded if name.startswith("wexport.layers")] == []
    assert "numpy" in modules(COMPARED, str(one), str(two))  # where there are data, they are read
