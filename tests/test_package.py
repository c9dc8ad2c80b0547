"""The public names: listed, importable, documented, typed."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import wexport


def test_the_names_are_listed() -> None:
    assert len(set(wexport.__all__)) == len(wexport.__all__)
    assert {"open", "export", "plan", "run", "Bundle", "Plan", "WexportError"} <= set(wexport.__all__)


@pytest.mark.parametrize("name", wexport.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    found = getattr(wexport, name)
    assert inspect.getdoc(found)
    if inspect.isclass(found):
        for member, value in inspect.getmembers(found, inspect.isfunction):
            if not member.startswith("_") and value.__module__.startswith("wexport"):
                assert inspect.getdoc(value), f"{name}.{member}"


@pytest.mark.parametrize("name", wexport.__all__)
def test_every_function_is_typed(name: str) -> None:
    found = getattr(wexport, name)
    if inspect.isfunction(found):
        signature = inspect.signature(found)
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


def test_errors_are_one_tree() -> None:
    for name in wexport.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(wexport, name), wexport.WexportError)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        wexport.nothing  # noqa: B018


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", wexport.__version__)


def test_every_module_says_what_it_is_for() -> None:
    for path in Path(wexport.__file__).parent.rglob("*.py"):
        assert path.read_text(encoding="utf-8").lstrip().startswith('"""'), path
