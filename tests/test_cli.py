"""The program as people call it: what it prints, where, and its exit codes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from wexport import run as wexport_run
from wexport.cli import main

DATA = Path(__file__).parent / "data"
STOCK = DATA / "keras2.0.8-tf1.4/m1_stock.h5"
CUSTOM = DATA / "tf.keras-tf2.15/m5_custom_layer.keras"


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = 0
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def bundle(run):
    assert run(STOCK, "out")[0] == 0
    return Path("out")


def untouched(before):
    return sorted(p.name for p in Path().iterdir()) == before


# -- export ------------------------------------------------------------------------------------------------------------


def test_export_says_what_it_wrote(run):
    code, out, err = run(STOCK, "out/")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "out/: 19 tensors, 78,497 parameters, 314 kB, from 9 arrays of keras 2.0.8"
    assert sorted(p.name for p in Path("out").iterdir()) == ["manifest.yaml", "model.safetensors"]


def test_the_verb_may_be_written(run):
    assert run("export", STOCK, "out", "--json")[0] == 0
    assert Path("out/manifest.yaml").exists()


def test_export_as_json(run):
    found = json.loads(run(STOCK, "out", "--json")[1])
    assert {k: found[k] for k in ("out", "tensors", "parameters", "bytes", "weights")} == {
        "out": "out", "tensors": 19, "parameters": 78497, "bytes": 313988, "weights": 9,
    }  # fmt: skip
    assert {item["reason"] for item in found["left_out"]} == {"optimizer state"}


def test_split_is_a_choice(run):
    assert json.loads(run(STOCK, "a", "--split", "none", "--json")[1])["tensors"] == 9
    assert json.loads(run(STOCK, "b", "--split", "gates", "--json")[1])["tensors"] == 18


def test_shards(run):
    assert run(STOCK, "out", "--max-shard-size", "100kB")[0] == 0
    names = sorted(p.name for p in Path("out").iterdir())
    assert names[1] == "model-00001-of-00005.safetensors"
    assert names[-1] == "model.safetensors.index.json"
    assert run("verify", "out")[0] == 0


def test_an_existing_output_is_kept(run, bundle):
    before = (bundle / "manifest.yaml").read_bytes()
    code, _, err = run(CUSTOM, bundle)
    assert code == 2
    assert err == "wexport: error: out: exists already; choose another place, or replace it whole with --force\n"
    assert (bundle / "manifest.yaml").read_bytes() == before


def test_force_replaces_it_whole(run, bundle):
    (bundle / "note").write_text("mine")
    assert run(CUSTOM, bundle, "--force")[0] == 0
    assert sorted(p.name for p in bundle.iterdir()) == ["manifest.yaml", "model.safetensors"]
    assert '"blk"' in (bundle / "manifest.yaml").read_text()
    assert untouched(["out"])


@pytest.mark.parametrize("where", [".", "..", "model"])
def test_force_never_deletes_the_source(run, where):
    Path("model").mkdir()
    Path("model/m.h5").write_bytes(STOCK.read_bytes())
    code, _, err = run("model/m.h5", where, "--force")
    assert code == 2
    assert "which --force would delete" in err
    assert Path("model/m.h5").read_bytes() == STOCK.read_bytes()


def test_an_unknown_layer_is_a_warning(run):
    code, _, err = run(CUSTOM, "out")
    assert code == 0
    assert err.startswith("wexport: warning: blk: ")
    assert err.count("\n") == 1


def test_or_with_strict_an_error(run):
    code, out, err = run(CUSTOM, "out", "--strict")
    assert (code, out) == (2, "")
    assert err.startswith("wexport: error: blk: ")
    assert untouched([])


# -- bad input ---------------------------------------------------------------------------------------------------------


def _text(path):
    path.write_text("hello")


def _empty(path):
    path.write_bytes(b"")


def _truncated(path):
    path.write_bytes(STOCK.read_bytes()[:200_000])


def _directory(path):
    path.mkdir()


def _missing(path):
    pass


def _no_model(path):
    with h5py.File(path, "w") as file:
        file["x"] = [1.0, 2.0]


def _no_layer(path):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([], "S1")


def _no_array(path):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"dense_1"])
        file.create_group("dense_1").attrs["weight_names"] = np.array([], "S1")


@pytest.mark.parametrize(
    "make", [_text, _empty, _truncated, _directory, _missing, _no_model, _no_layer, _no_array], ids=lambda f: f.__name__
)
def test_bad_input_is_a_line_and_leaves_nothing(run, make):
    make(Path("bad.h5"))
    before = sorted(p.name for p in Path().iterdir())
    code, out, err = run("bad.h5", "deep/out")
    assert (code, out) == (2, "")
    assert err.startswith("wexport: error: bad.h5: ")
    assert err.count("\n") == 1
    assert untouched(before)


@pytest.mark.parametrize("place", ["/proc/no/where", "file/out"])
def test_an_unwritable_output(run, place):
    Path("file").write_text("")
    code, _, err = run(STOCK, place)
    assert code == 2
    assert "cannot be written" in err
    assert err.count("\n") == 1
    assert untouched(["file"])


@pytest.mark.parametrize(
    "words",
    [("show", "NAME"), ("explain", "NAME", "x"), ("verify", "NAME"), ("verify", "out", "NAME"), ("NAME", "new"),
     ("run", "NAME", "in.npz"), ("run", "out", "NAME"), ("restore", "out", "-o", "new.h5", "--into", "NAME"),
     ("restore", "NAME", "-o", "new.npz"), ("restore", "out", "-o", "NAME.npz"), (STOCK, "NAME")],
    ids=lambda words: "-".join(Path(word).name for word in words),
)  # fmt: skip
def test_names_that_no_file_can_have(run, bundle, words):
    code, out, err = run(*(str(word).replace("NAME", "x" * 300) for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert ": cannot be " in err
    assert "File name too long" in err
    assert untouched(["out"])


def test_wrong_arguments_are_a_line(run):
    for words in (["m.h5"], ["--strange"], ["show"], [STOCK, "out", "--max-shard-size", "3 parsecs"]):
        code, out, err = run(*words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("wexport: error: ")


def test_what_may_be_left_out_may_stand_behind_options(run, bundle):
    """argparse alone takes such an argument only next to the others."""
    assert run("verify", bundle, "--json", STOCK)[1] == run("verify", bundle, STOCK, "--json")[1]
    assert run("show", bundle, "--json", "dense_3.bias")[1] == run("show", bundle, "dense_3.bias", "--json")[1]
    for words in ((bundle, "--update", "m.h5"), (bundle, "m.h5", "--update"), ("--update", bundle, "m.h5")):
        code, _, err = run("verify", *words)
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith("wexport: error: m.h5: --update takes the bundle as it is")


@pytest.mark.parametrize(
    "words",
    [("verify", "b", "m.h5", "--json", "x"), ("verify", "b", "--json", "x", "y"), ("verify", "b", "--strange"),
     ("explain", "b", "x", "--json", "y"), ("show", "b", "--json", "--plots")],
)  # fmt: skip
def test_too_many_arguments(run, words):
    code, _, err = run(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "unrecognized arguments: " in err


def test_no_arguments_print_help(run):
    code, out, _ = run()
    assert code == 2
    assert "wexport MODEL OUT/" in out


# -- show, explain, verify ---------------------------------------------------------------------------------------------


def test_show_lists_by_gate(run, bundle):
    code, out, err = run("show", bundle)
    assert (code, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines() if "  F32 " in line]
    assert names[3:6] == ["lstm_1.forget.kernel", "lstm_1.forget.recurrent", "lstm_1.forget.bias"]
    assert "left out: 19 arrays (optimizer state)" in out


def test_show_of_a_model_lists_the_same(run, bundle):
    of_bundle, of_model = run("show", bundle)[1], run("show", STOCK)[1]
    assert of_model == of_bundle


def test_show_of_one_tensor(run, bundle):
    code, out, _ = run("show", bundle, "lstm_1.forget.recurrent")
    assert code == 0
    assert out.splitlines()[:2] == [
        "lstm_1.forget.recurrent  F32 (128, 128)  hidden unit",
        "get_weights()[1][:, 128:256]",
    ]
    assert out == run("show", STOCK, "lstm_1.forget.recurrent")[1]


def test_show_numbers_are_the_tensors(run, bundle):
    found = json.loads(run("show", bundle, "lstm_1.forget.recurrent", "--json")[1])
    found = found["tensors"]["lstm_1.forget.recurrent"]
    with h5py.File(STOCK) as file:
        x = file["model_weights/lstm_1/lstm_1/recurrent_kernel:0"][:, 128:256].astype(np.float64)
    assert found["stats"]["min"] == float(f"{x.min():.5e}")
    assert found["stats"]["std"] == float(f"{x.std():.5e}")
    counts, edges = np.histogram(x, 16)
    assert found["histogram"]["counts"] == counts.tolist()
    np.testing.assert_allclose(found["histogram"]["edges"], edges)


def test_show_of_a_glob(run, bundle):
    code, out, _ = run("show", bundle, "lstm_1.*.bias")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == [
        f"lstm_1.{g}.bias" for g in ("input", "forget", "cell", "output")
    ]


def test_show_suggests(run, bundle):
    code, _, err = run("show", bundle, "lstm_1.forgt.bias")
    assert code == 2
    assert "did you mean lstm_1.forget.bias" in err


def test_plot(run, bundle):
    for ending, magic in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        assert run("show", bundle, "dense_2.kernel", "--plot", f"x.{ending}")[0] == 0
        assert Path(f"x.{ending}").read_bytes().startswith(magic)


def test_plot_without_matplotlib_says_what_to_install(run, bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = run("show", bundle, "dense_2.kernel", "--plot", "x.png")
    assert code == 2
    assert "pip install 'wexport[plot]'" in err
    assert not Path("x.png").exists()


def test_plot_refuses_what_it_cannot_draw(run, bundle):
    assert "expected .png" in run("show", bundle, "dense_2.kernel", "--plot", "x.doc")[2]
    assert "draws one tensor" in run("show", bundle, "--plot", "x.png")[2]
    assert "draws one tensor" in run("show", bundle, "lstm_1.*", "--plot", "x.png")[2]


def test_explain(run, bundle):
    code, out, _ = run("explain", bundle, "lstm_1")
    assert code == 0
    assert "f = hard_sigmoid(x @ `forget.kernel` + h_prev @ `forget.recurrent` + `forget.bias`" in out
    assert "forget.recurrent  F32  (128, 128)  hidden unit  get_weights()[1][:, 128:256]" in out
    assert out == run("explain", STOCK, "lstm_1")[1]


def test_explain_as_json(run, bundle):
    found = json.loads(run("explain", bundle, "dense_1", "--json")[1])
    assert [(p["short"], p["source"]) for p in found["parts"]] == [
        ("from.lstm_1", "get_weights()[3][0:128]"),
        ("from.aux_input", "get_weights()[3][128:129]"),
        ("bias", "get_weights()[4]"),
    ]


def test_explain_of_no_layer(run, bundle):
    code, _, err = run("explain", bundle, "lstm_2")
    assert code == 2
    assert "did you mean lstm_1" in err


def test_verify(run, bundle):
    code, out, _ = run("verify", bundle)
    assert code == 0
    assert out.startswith("out: good; 19 tensors, 78,497 parameters, 314 kB: ")
    assert json.loads(run("verify", bundle, "--json")[1])["ok"] is True


def test_verify_names_the_tensor_that_differs(run, bundle):
    data = bundle / "model.safetensors"
    raw = bytearray(data.read_bytes())
    raw[-1] ^= 1  # the last byte of the last tensor
    data.write_bytes(raw)
    code, out, _ = run("verify", bundle)
    assert code == 1
    assert "dense_3.bias: its data do not have the checksum" in out
    assert out.count("checksum") == 1


def test_verify_sees_an_edited_manifest(run, bundle):
    manifest = bundle / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace('"units": 128', '"units": 129'))
    code, out, _ = run("verify", bundle)
    assert code == 1
    assert "it was edited" in out


def test_verify_holds_the_manifest_against_the_schema(run, bundle):
    manifest = bundle / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace('"units": 128, ', ""))
    code, out, _ = run("verify", bundle)
    assert code == 1
    assert "layers > lstm_1: 'units' is a required property" in out


def test_verify_of_no_bundle(run):
    assert run("verify", STOCK)[0] == 2


# -- run, golden -------------------------------------------------------------------------------------------------------


@pytest.fixture
def inputs(bundle):
    rng = np.random.default_rng(0)
    np.savez("in.npz", lstm_input=rng.normal(size=(3, 30, 6)), aux_input=rng.normal(size=(3, 1)))
    return Path("in.npz")


def test_run_prints_a_table(run, bundle, inputs):
    code, out, err = run("run", bundle, inputs, "--layers", "lstm_*", "--layers", "dense_1")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["name", "type", "shape", "min", "max", "mean"]
    assert [line[:4] for line in lines[1:]] == [
        ["dense_3", "float32", "(3,", "1)"], ["lstm_1", "float32", "(3,", "128)"], ["dense_1", "float32", "(3,", "64)"],
    ]  # fmt: skip
    (array,) = (a for name, a in wexport_run(bundle, inputs, layers="lstm_1").items() if name == "lstm_1")
    assert [float(word) for word in lines[2][4:]] == pytest.approx([array.min(), array.max(), array.mean()], rel=1e-5)


def test_run_writes_outputs(run, bundle, inputs):
    code, out, _ = run("run", bundle, inputs, "-o", "out.npz", "--layers", "lstm_1")
    assert code == 0
    assert out.splitlines()[-1] == "out.npz: 2 arrays"
    with np.load("out.npz") as found:
        assert {name: found[name].shape for name in found} == {"dense_3": (3, 1), "lstm_1": (3, 128)}
    code, _, err = run("run", bundle, inputs, "-o", "out.npz")
    assert code == 2
    assert err == "wexport: error: out.npz: exists already; choose another place, or replace it whole with --force\n"
    assert run("run", bundle, inputs, "-o", "out.npz", "--force")[0] == 0
    assert run("run", bundle, inputs, "-o", inputs, "--force")[0] == 2
    assert sorted(np.load(inputs)) == ["aux_input", "lstm_input"]


def test_run_as_json(run, bundle, inputs):
    out = run("run", bundle, inputs, "--layers", "lstm_1", "--json")[1]
    found = json.loads(out)
    assert found["out"] is None
    one = found["outputs"]["dense_3"]
    assert (one["type"], one["shape"], np.shape(one["values"])) == ("float32", [3, 1], (3, 1))
    assert one["min"] == min(v for (v,) in one["values"])
    assert found["values"]["lstm_1"]["layer"] == "lstm_1"
    assert "values" not in found["values"]["lstm_1"]


def test_run_says_what_is_not_finite(run, bundle):
    np.savez("in.npz", lstm_input=np.full((1, 30, 6), np.nan), aux_input=np.ones((1, 1)))
    one = json.loads(run("run", bundle, "in.npz", "--json")[1])["outputs"]["dense_3"]
    assert (one["mean"], one["values"]) == ("nan", [["nan"]])
    assert run("run", bundle, "in.npz")[1].split()[-1] == "nan"


def test_run_refuses_in_one_line(run, bundle, inputs):
    np.savez("less.npz", lstm_input=np.ones((3, 30, 6)))
    for words, message in (
        ((bundle, "less.npz"), "less.npz: lacks the input 'aux_input' float32 (?, 1); "),
        ((bundle, inputs, "--layers", "lstm_2"), "did you mean lstm_1"),
        ((bundle, "none.npz"), "none.npz: cannot be read"),
        ((bundle, bundle / "manifest.yaml"), "is no .npz file"),
        ((STOCK, inputs), "is no bundle"),
    ):
        code, out, err = run("run", *words)
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1


def test_golden(run):
    code, out, err = run(STOCK, "out", "--golden")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "golden: 2 inputs, 5 values, 1 output, 4.93 kB"
    assert sorted(p.name for p in Path("out").iterdir()) == ["golden.safetensors", "manifest.yaml", "model.safetensors"]
    assert run("verify", "out")[0] == 0
    found = json.loads(run(STOCK, "more", "--golden", "4", "--json")[1])
    assert found["golden"] == {"inputs": 2, "values": 5, "outputs": 1, "bytes": found["golden"]["bytes"]}
    assert found["golden"]["bytes"] > 4930
    assert "golden" not in json.loads(run(STOCK, "none", "--json")[1])


def test_golden_shapes_and_inputs(run, inputs):
    assert run(STOCK, "a", "--golden-shape", "lstm_input=3,30,6", "--golden-shape", "aux_input=(3, 1)")[0] == 0
    assert run(STOCK, "b", "--golden-inputs", inputs)[0] == 0
    assert Path("a/golden.safetensors").stat().st_size == Path("b/golden.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--golden", "0"), "'0' is no number of examples"),
        (("--golden", "out"), "write --golden behind MODEL and OUT"),
        (("--golden-shape", "30,6"), "'30,6' is no shape; expected one such as lstm_input=1,30,6"),
        (("--golden-shape", "x=-1"), "'x=-1' is no shape"),
        (("--golden-shape", "x=" + "1" * 5000), "111' is no shape; expected one such as"),
        (("--golden", "1" * 5000), "111' is no number of examples"),
        (("--max-shard-size", "1" * 5000), "111' is no size"),
        (("--max-shard-size", "1" * 5000 + "GB"), "111' is no size"),
        (("--golden-shape", "a=1", "--golden-shape", "a=2"), "--golden-shape a: is given 2 times; give one shape"),
        (("--golden-shape", "lstm_inptu=1,30,6"), "did you mean lstm_input"),
        (("--golden-inputs", "none.npz"), "none.npz: cannot be read"),
    ],
)
def test_golden_refuses_in_one_line(run, words, message):
    code, out, err = run(STOCK, "out", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert len(err) < 250
    assert untouched([])


def test_golden_of_what_cannot_be_computed(run):
    code, _, err = run(CUSTOM, "out", "--golden")
    assert code == 2
    assert "no golden values can be computed: blk (Block) is no layer that wexport knows" in err
    assert untouched([])


# -- the process -------------------------------------------------------------------------------------------------------


def wexport(*words, **options):
    return [sys.executable, "-m", "wexport", *map(str, words)], {"text": True, "encoding": "utf-8", **options}


def test_a_closed_pipe_is_no_error(bundle):
    options = wexport()[1]
    shell = f"{sys.executable} -m wexport show {bundle} | head -1"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, **options, check=False)
    assert done.stdout.startswith("model_1: ")
    assert not done.stderr


def test_ascii_output(bundle):
    words, options = wexport("show", bundle, "dense_2.kernel")
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, capture_output=True, env=env, **options, check=True)
    assert done.stdout.isascii()
    assert "|#####" in done.stdout


def test_sigterm_leaves_nothing(tmp_path):
    """A model large enough that the signal comes while it is written; on a busy machine not always at the first go."""
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"dense_1"])
        group = file.create_group("dense_1")
        group.attrs["weight_names"] = np.array([b"kernel:0"])
        group.create_dataset("kernel:0", data=np.zeros((100, 1_000_000), np.float32))
    words, options = wexport("m.h5", "out")
    for _ in range(20):
        process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, **options)
        while process.poll() is None and not list(tmp_path.glob(".wexport-*")):
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        process.communicate()
        if process.returncode:
            break
        shutil.rmtree(tmp_path / "out")
    assert process.returncode == 128 + signal.SIGTERM
    assert [p.name for p in tmp_path.iterdir()] == ["m.h5"]


def test_names_from_a_file_cannot_move_the_cursor(run):
    with h5py.File("evil.h5", "w") as file:
        name = "dense\x1b[2J\u202e"
        file.attrs["layer_names"] = np.array([name.encode()])
        group = file.create_group(name)
        group.attrs["weight_names"] = np.array([b"kernel:0"])
        group["kernel:0"] = np.ones((2, 3), np.float32)
    code, out, err = run("show", "evil.h5")
    assert code == 0
    assert "\\x1b[2J\\u202e" in out
    assert "\x1b" not in out + err
    assert "\u202e" not in out + err
