"""Imports put off: a library's own imports that take long and are not needed here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """A module that is loaded when something of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(self.__name__), name)


@contextmanager
def put_off(package: str, module: str) -> Iterator[None]:
    """Whoever imports `package.module` in this block gets it, but unloaded until it is used."""
    names = (package, f"{package}.{module}")
    if any(name in sys.modules for name in names):
        yield
        return
    outer, inner = (_Later(name) for name in names)
    setattr(outer, module, inner)
    sys.modules.update(zip(names, (outer, inner), strict=True))
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
