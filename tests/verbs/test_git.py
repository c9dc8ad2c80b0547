"""`wexport diff --textconv`, as git calls it: set up as docs/git.md says, in real repositories."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from cases import DATA
from make_texts import TEXTS, source, text_file
from onnx import TensorProto, helper, numpy_helper

import wexport
from wexport.cli import main
from wexport.errors import SourceError
from wexport.manifest import SECTIONS
from wexport.verbs.textconv import textconv

ROOT = Path(__file__).parent.parent.parent
DOCS = (ROOT / "docs/git.md").read_text(encoding="utf-8")
STOCK = DATA / "keras2.0.8-tf1.4/m1_stock.h5"
ARCHIVE = DATA / "keras3.15.1/m1_stock.keras"
WEIGHTS = DATA / "keras3.15.1/m2_recurrent_ra0.weights.h5"
TOWER = DATA / "onnx/A1_key/two_tower.legacy.onnx"
GATE = "lstm_1.forget.recurrent"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 975280\n"


def block(language: str) -> str:
    """The first block of a language in the documentation."""
    found = re.search(rf"^```{language}\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


class Repository:
    """A git repository that is set up as documented, out of reach of the machine's own configuration."""

    def __init__(self, place: Path) -> None:
        self.path = place / "repository"
        home = place / "home"
        home.mkdir(parents=True)
        who = {f"GIT_{role}_{key}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "XDG_"))}
        self.env = {
            **kept, **who, "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        self.path.mkdir()
        self.git("init", "-q")
        (self.path / ".gitattributes").write_text(block("gitattributes"), encoding="utf-8")
        subprocess.run(["sh", "-ec", block("sh")], cwd=self.path, env=self.env, check=True)

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", "--no-pager", *words], cwd=self.path, env=self.env, capture_output=True, text=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "git")


def edit(bundle: Path, name: str) -> None:
    """Make the elements of a bundle's tensor a hundredth larger."""
    with wexport.open(bundle) as opened:
        place, data = opened.ranges[name], opened[name] * np.float32(1.01)
        with place.file.path.open("r+b") as file:
            file.seek(place.offset)
            file.write(data.tobytes())


def edited(model: Path, name: str, out: Path, place: Path) -> None:
    """The model with an edited tensor."""
    wexport.export(model, place / "edited", force=True)
    edit(place / "edited", name)
    wexport.restore(place / "edited", out, into=model, force=True)


def changes(diff: str) -> tuple[list[str], list[str]]:
    """The lines that a diff takes away, and those that it adds."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    return [s[1:] for s in lines if s.startswith("-")], [s[1:] for s in lines if s.startswith("+")]


def names(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines]


# -- in git ------------------------------------------------------------------------------------------------------------


def test_the_documented_diff(repository: Repository, tmp_path: Path) -> None:
    shutil.copy(STOCK, repository.path / "model.h5")
    repository.commit("one")
    edited(STOCK, GATE, repository.path / "model.h5", tmp_path)
    command, *claimed = block("diff").splitlines()
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in claimed)
    found = repository.git(*command.removeprefix("$ git ").split())
    assert re.fullmatch(pattern, found), found
    removed, added = changes(found)
    assert names(removed) == names(added) == [GATE]


@pytest.mark.parametrize(
    ("model", "file", "gate"),
    [
        (STOCK, "model.h5", "lstm_1.forget.recurrent"),
        (ARCHIVE, "deep/model.keras", "lstm.forget.recurrent"),
        (WEIGHTS, "model.weights.h5", "@recurrent"),
        (TOWER, "a model.onnx", "lstm_1.forget.recurrent"),
    ],
    ids=["h5", "keras", "weights", "onnx"],
)
def test_one_gate_is_one_line(repository: Repository, tmp_path: Path, model: Path, file: str, gate: str) -> None:
    if gate.startswith("@"):
        plan = wexport.plan(model)
        gate = next(t.name for t in plan.tensors if t.role == gate[1:] and t.at.get("gate") == "forget")
        plan.close()
    target = repository.path / file
    target.parent.mkdir(exist_ok=True)
    shutil.copy(model, target)
    repository.commit("one")
    edited(model, gate, tmp_path / "new", tmp_path)
    shutil.copy(tmp_path / "new", target)
    unstaged = repository.git("diff")
    removed, added = changes(unstaged)
    assert names(removed) == names(added) == [gate]
    assert re.search(rf"^@@ .* @@ {re.escape(gate.partition('.forget')[0])} kind: lstm ", unstaged, re.MULTILINE)
    numbers = re.compile(r"(l2|mean|std|min|max|sha256) \S+")
    assert numbers.sub(r"\1", removed[0]) == numbers.sub(r"\1", added[0])
    assert all(
        one[0] != two[0] for one, two in zip(numbers.finditer(removed[0]), numbers.finditer(added[0]), strict=True)
    )
    repository.commit("two")
    assert changes(repository.git("diff", "HEAD~")) == (removed, added)
    log = repository.git("log", "-p", "--", file)
    assert log.count(f"+{added[0]}\n") == log.count(f"-{removed[0]}\n") == log.count(f"+{removed[0]}\n") == 1
    assert log == repository.git("log", "-p", "--", file)  # from the cache
    blamed = [line for line in repository.git("blame", "-s", file).splitlines() if not line.startswith("^")]
    assert len(blamed) == 1
    assert added[0] in blamed[0]


def test_a_bundle(repository: Repository) -> None:
    wexport.export(STOCK, repository.path / "bundle")
    repository.commit("one")
    edit(repository.path / "bundle", GATE)
    wexport.update(repository.path / "bundle")
    for found in (repository.git("diff"), (repository.commit("two"), repository.git("log", "-p", "-1"))[1]):
        data, manifest = sorted(found.split("diff --git ")[1:], key=lambda part: "manifest.yaml" in part)
        for part in (data, manifest):
            removed, added = changes(part)
            assert names(removed) == names(added) == [GATE]
            assert "l2 5.68254" in removed[0]
            assert "l2 5.73937" in added[0]
    patch = repository.git("format-patch", "-1", "--stdout")
    assert patch.count("GIT binary patch") == 1  # the data; the manifest stays text
    assert f'-  "{GATE}": ' in patch


def small(place: Path, relu: bool) -> None:
    """A model of two dense layers, with an activation between them or none."""
    rng = np.random.default_rng(3)
    weights = [
        numpy_helper.from_array(rng.normal(size=size).astype(np.float32), name)
        for name, size in {"fc1.weight": (5, 4), "fc1.bias": 5, "fc2.weight": (3, 5), "fc2.bias": 3}.items()
    ]
    nodes = [helper.make_node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h"], "/fc1/Gemm", transB=1)]
    nodes += [helper.make_node("Relu", ["h"], ["r"], "/act/Relu")] if relu else []
    nodes += [helper.make_node("Gemm", ["r" if relu else "h", "fc2.weight", "fc2.bias"], ["y"], "/fc2/Gemm", transB=1)]
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s])] for n, s in (("x", 4), ("y", 3))]
    model = helper.make_model(
        helper.make_graph(nodes, "g", *ports, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    onnx.save(model, place)


def test_an_inserted_layer_is_its_own_lines_and_its_consumers(repository: Repository) -> None:
    small(repository.path / "model.onnx", relu=False)
    repository.commit("one")
    small(repository.path / "model.onnx", relu=True)
    removed, added = changes(repository.git("diff"))
    assert removed == ["fc2 <- x = fc1"]
    own = [line for line in added if line and not line.startswith("fc2 <- ")]
    assert len(added) == len(own) + 2  # and an empty line
    layer = own[0].split()[0]
    assert {line.split()[0] for line in own} == {layer}
    assert own[0].split()[1:] == ["kind:", "activation", "(Relu)"]
    assert f"fc2 <- x = {layer}" in added


def test_what_cannot_be_read_does_not_end_the_log(repository: Repository) -> None:
    broken = {
        "empty.h5": b"", "pointer.h5": POINTER.encode(), "noise.onnx": bytes(range(256)), "text.keras": b"no model\n",
        "cut.h5": STOCK.read_bytes()[:100_000], "cut.keras": ARCHIVE.read_bytes()[:20_000],
        "cut.onnx": TOWER.read_bytes()[:3000], "manifest.yaml": b"wexport: 1\nmodel: [\n",
        "cut.safetensors": b"\x08\0\0\0\0\0\0\0{}      more",
    }  # fmt: skip
    for name, data in broken.items():
        (repository.path / name).write_bytes(data)
    shutil.copy(STOCK, repository.path / "model.h5")
    repository.commit("one")
    for name, data in broken.items():
        (repository.path / name).write_bytes(data + b"\n")
    repository.commit("two")
    log = repository.git("log", "-p")
    first = repository.git("show", "HEAD~")
    assert first in log
    assert first.count("+not readable by wexport: ") == len(broken)
    assert "+lstm_1 kind: lstm (LSTM)\n" in log
    assert "+not readable by wexport: file is empty; expected a model file\n" in log
    assert "+not readable by wexport: file is a Git LFS pointer; `git lfs pull` gets the model\n" in log
    assert (
        "+not readable by wexport: file is no safetensors file: the tensors take 0 bytes, the file holds 4; " in first
    )
    assert "+size 975280\n" in log
    assert "+no model\n" in log
    second = repository.git("show", "HEAD")
    assert second.count("\n-sha256: ") == second.count("\n+sha256: ") == len(broken)
    assert "/tmp" not in log


def test_filters_such_as_those_of_lfs_are_undone(repository: Repository, tmp_path: Path) -> None:
    script = tmp_path / "filter.py"
    script.write_text(
        "import sys\ndata = sys.stdin.buffer.read()\nsys.stdout.buffer.write(bytes(255 - b for b in data))\n"
    )
    for way in ("clean", "smudge"):
        repository.git("config", f"filter.lfs.{way}", f"'{sys.executable}' '{script}'")
    line = re.search(r"^\*\.h5  filter=.*$", DOCS, re.MULTILINE)
    assert line is not None
    (repository.path / ".gitattributes").write_text(line[0] + "\n")
    shutil.copy(STOCK, repository.path / "model.h5")
    repository.commit("one")
    edited(STOCK, GATE, repository.path / "model.h5", tmp_path)
    repository.commit("two")
    assert repository.git("cat-file", "-p", "HEAD:.gitattributes") == line[0] + "\n"
    removed, added = changes(repository.git("diff", "HEAD~", "HEAD"))
    assert names(removed) == names(added) == [GATE]


def test_the_documented_commands(repository: Repository, tmp_path: Path) -> None:
    shutil.copy(STOCK, repository.path / "model.h5")
    repository.commit("one")
    shutil.copy(TOWER, repository.path / "model.onnx")
    shutil.copy(ARCHIVE, repository.path / "model.keras")
    repository.commit("two")
    repository.git("tag", "v1")
    edited(ARCHIVE, "lstm.forget.recurrent", repository.path / "model.keras", tmp_path)
    repository.commit("three")
    edited(STOCK, GATE, repository.path / "model.h5", tmp_path)
    repository.commit("four")
    repository.git("tag", "v2")
    (repository.path / "more").touch()
    repository.commit("five")
    commands = re.findall(r"^(git (?!config).*?)(?:  +#.*)?$", DOCS, re.MULTILINE)
    found = {}
    for command in commands:
        done = subprocess.run(["sh", "-c", command], cwd=repository.path, env=repository.env, capture_output=True)
        assert done.returncode == 0, (command, done.stderr)
        found[command] = done.stdout.decode()
    assert len(found) == 6
    word = next(text for command, text in found.items() if "--word-diff" in command)
    assert "l2 [-" in word
    picked = next(text for command, text in found.items() if "-G" in command)
    assert [line.split()[1] for line in picked.splitlines()] == ["four", "one"]
    assert "+lstm_1 kind: lstm (LSTM)\n" in next(text for command, text in found.items() if " log -p" in command)
    cached = repository.git("for-each-ref", "--format=%(refname)", "refs/notes")
    assert cached == "refs/notes/textconv/wexport\n"
    command = re.search(r"`git (update-ref .*?)`", DOCS)
    assert command is not None
    repository.git(*command[1].split())
    assert repository.git("for-each-ref", "refs/notes") == ""


# -- the text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str) -> None:
    """Made by tests/make_texts.py."""
    assert textconv(source(name)) == text_file(name).read_text(encoding="utf-8")


NAMED = [
    "keras1.2.2-tf/m0_seq.weights_only.h5",
    "keras2.0.8-tf1.4/m1_stock.h5",
    "keras3.15.1/m5_sharded.weights.json",
    "keras3.15.1/m2_recurrent_ra0.weights.h5",
    "keras3.15.1/m5_int4.keras",
    "onnx/A1_key/two_tower.legacy.onnx",
    "onnx/A5_external/cnn.dynamo_extdefault.onnx",
    "README.md",
]


@pytest.mark.parametrize("file", NAMED)
def test_the_name_and_the_place_do_not_matter(file: str, tmp_path: Path) -> None:
    text = textconv(DATA / file)
    for name in ("x", f"Ab3dE_{Path(file).name}", "model.onnx", "manifest.yaml", "a b\u2028\x07"):
        shutil.copy(DATA / file, tmp_path / name)
        assert textconv(tmp_path / name) == text
    assert str(tmp_path) not in text
    assert str(DATA) not in text
    assert all(line == line.rstrip() or "|" in line for line in text.splitlines())


def test_a_bundles_parts_under_any_name(tmp_path: Path) -> None:
    wexport.export(STOCK, tmp_path / "bundle")
    whole = textconv(tmp_path / "bundle")
    assert whole == textconv(tmp_path / "bundle/manifest.yaml")
    assert whole == textconv(STOCK)  # the file states its name itself
    shutil.copy(tmp_path / "bundle/manifest.yaml", tmp_path / "Ab3dE_manifest.yaml")
    assert whole == textconv(tmp_path / "Ab3dE_manifest.yaml")
    shutil.copy(tmp_path / "bundle/model.safetensors", tmp_path / "x")
    data = textconv(tmp_path / "x")
    lines = {line.split()[0]: line for line in whole.splitlines() if "  l2 " in line}
    own = [line for line in data.splitlines() if "  l2 " in line]
    assert {line.split()[0] for line in own} == set(lines)
    for line in own:
        assert line.partition("  ")[2] == lines[line.split()[0]].partition("  ")[2]
    assert data.splitlines()[:3] == ["metadata format: wexport", "metadata version: 1", ""]


def test_a_tensor_of_a_type_that_is_not_known(tmp_path: Path) -> None:
    head = b'{"w":{"dtype":"F5_E9M9","shape":[2,3],"data_offsets":[0,4]}}'
    (tmp_path / "x").write_bytes(len(head).to_bytes(8, "little") + head + b"abcd")
    assert textconv(tmp_path / "x") == "w F5_E9M9 (2, 3)  sha256 88d4266fd4e6\n"


def test_what_is_cut_still_changes(tmp_path: Path) -> None:
    texts = []
    for last in "ab":
        head = f'{{"__metadata__":{{"note":"{"x" * 400}{last}"}}}}'.encode()
        (tmp_path / "x").write_bytes(len(head).to_bytes(8, "little") + head)
        texts.append(textconv(tmp_path / "x"))
    assert texts[0] != texts[1]
    assert all(len(text) < 300 for text in texts)


def test_an_error_of_wexports_own_is_a_text_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RecursionError(args)

    monkeypatch.setattr("wexport.planning.make_plan", fail)
    expected = "not readable by wexport: RecursionError, an error in wexport; please report it\nsize: 975,280 bytes\n"
    assert textconv(STOCK).startswith(expected)


def test_a_manifest_without_what_it_must_have(tmp_path: Path) -> None:
    sections = "".join(f"{section}: {'[]' if section == 'calls' else '{}'}\n" for section in SECTIONS)
    content = f"wexport: 1\n{sections}".replace("tensors: {}", 'tensors:\n  "a": {"shape": "no"}')
    (tmp_path / "x").write_text(content)
    text = textconv(tmp_path / "x")
    assert text.startswith(
        "not readable by wexport: file has an entry that cannot be read (KeyError: 'framework'); export "
    )
    assert text.endswith(f"\n\n{content}")


def test_what_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError):
        textconv(tmp_path / "none.h5")
    assert main(["diff", "--textconv", str(tmp_path / "none.h5")]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"wexport: error: {tmp_path / 'none.h5'}: does not exist\n"


def test_the_text_is_utf8_in_every_locale(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("caf\u00e9\n", encoding="utf-8")
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "wexport", "diff", "--textconv", str(tmp_path / "x")]
    done = subprocess.run(words, env=env, capture_output=True, check=True)
    assert done.stdout.endswith("\n\ncaf\u00e9\n".encode())
    assert done.stderr == b""
