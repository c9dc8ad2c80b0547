"""Imports that are put off."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from wexport.readers.later import put_off


def test_a_module_loads_when_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "farpackage").mkdir()
    (tmp_path / "farpackage/__init__.py").write_text("")
    (tmp_path / "farpackage/tools.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    with put_off("farpackage", "tools"):
        import farpackage.tools as tools  # type: ignore[import-not-found]
    assert "farpackage" not in sys.modules
    assert tools.answer == 42
    assert "farpackage.tools" in sys.modules
    with pytest.raises(AttributeError):
        _ = tools.question


def test_a_module_that_is_there_is_left_alone() -> None:
    import json.decoder

    with put_off("json", "decoder"):
        import json.decoder as found
    assert found is json.decoder is sys.modules["json.decoder"]
