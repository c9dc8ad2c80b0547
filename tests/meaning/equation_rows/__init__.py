"""Layers as the manifest would have them: kinds and settings that are in no model file of the tests."""

from __future__ import annotations

from equation_rows import attention, classic, elements, kernels, recurrent
from equation_rows.row import Row

__all__ = ["Row", "rows"]


def rows() -> list[Row]:
    return [*recurrent.rows(), *attention.rows(), *elements.rows(), *kernels.rows(), *classic.rows()]
