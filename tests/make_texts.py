"""`python tests/make_texts.py`: write the texts of `diff --textconv` that tests/verbs/test_git.py compares with.

Read what `git diff` shows afterwards: every changed line is one that all users see change.
"""

from __future__ import annotations

from pathlib import Path

from wexport.verbs.textconv import textconv

HERE = Path(__file__).parent
TEXTS = {
    "stock": "keras2.0.8-tf1.4/m1_stock.h5",
    "int4": "keras3.15.1/m5_int4.keras",
    "two_tower": "onnx/A1_key/two_tower.legacy.onnx",
    "stacked_cells": "keras3.15.1/m5_stackedcells.h5",
    "loop": "onnx/D_hand/loop_if_nested_const.onnx",
}


def text_file(name: str) -> Path:
    return HERE / "golden/texts" / f"{name}.txt"


def source(name: str) -> Path:
    return HERE / "data" / TEXTS[name]


if __name__ == "__main__":
    for each in TEXTS:
        text_file(each).write_text(textconv(source(each)), encoding="utf-8")
