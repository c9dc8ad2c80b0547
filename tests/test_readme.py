"""The README is true: its commands are run, and what they print is what it says."""

import doctest
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODELS = {
    "stock_lstm.h5": ROOT / "tests/data/keras2.0.8-tf1.4/m1_stock.h5",
    "encoder.onnx": ROOT / "tests/data/onnx/A4_attn/transformer.legacy.onnx",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name, model in MODELS.items():
        shutil.copy(model, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    return tmp_path


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands():
    """Each command of the console blocks with the output that the README claims."""
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            first, *rest = part.splitlines(keepends=True)
            more = list(itertools.takewhile(lambda line: line.startswith("> "), rest))  # as a shell asks for them
            yield first + "".join(line[2:] for line in more), "".join(rest[len(more) :])


def claims(output):
    """A pattern for claimed output, in which a line of dots stands for any lines."""
    lines = [r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in output.splitlines()]
    return re.compile("".join(lines))


def test_commands_print_what_is_written(place):
    seen = 0
    for command, output in commands():
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, encoding="utf-8", check=False)
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        assert claims(output).fullmatch(done.stdout), f"$ {command}\n{done.stdout}"
        seen += 1
    assert seen >= 6


def test_python_prints_what_is_written(place):
    subprocess.run([sys.executable, "-m", "wexport", "stock_lstm.h5", "out"], check=True, capture_output=True)
    source = "".join(blocks("pycon"))
    test = doctest.DocTestParser().get_doctest(source, {}, "README", "README.md", 0)
    results = doctest.DocTestRunner().run(test)
    assert results.attempted >= 3
    assert results.failed == 0


def test_a_wrong_claim_is_seen():
    assert claims("a\n...\nc\n").fullmatch("a\nb\nb\nc\n")
    assert not claims("a\n...\nc\n").fullmatch("a\nb\nd\n")
