"""Files with damaged bytes: refused with a proper error, or read; never anything else, never for long."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from broken import one_line
from cases import Case, case
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import wexport

FILES = [
    "keras1.2.2-tf/op_conv2d_same.h5",
    "keras3.15.1/m5_rescale.weights.h5",
    "keras3.15.1/m5_int8_dense.keras",
    "tf.keras-tf2.15/m5_catenc.keras",
]


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=80, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes(name: str, data: st.DataObject, tmp_path: Path) -> None:
    model = case(name)
    content = bytearray(model.path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        # damage lies where structure is: at the beginning and end, more often than in between
        area = data.draw(st.sampled_from([(0, 2048), (0, len(content)), (len(content) - 2048, len(content))]))
        place = data.draw(st.integers(max(0, area[0]), min(len(content), area[1]) - 1))
        size = data.draw(st.integers(1, 8))
        noise = st.binary(min_size=size, max_size=size)
        patch = data.draw(st.one_of(noise, st.sampled_from([b"\xff" * size, bytes(size)])))
        content[place : place + size] = patch
    path = tmp_path / model.path.name
    path.write_bytes(content)
    started = time.process_time()
    refusal = read(path, model)
    assert refusal is None or one_line(str(refusal))
    assert time.process_time() - started < 10


def read(path: Path, model: Case) -> wexport.WexportError | None:
    """Plan a model and read all of its arrays; gives the refusal, if it is refused."""
    try:
        plan = wexport.plan(path, architecture=model.architecture)
    except wexport.WexportError as error:
        return error
    try:
        for tensor in plan.tensors:
            tensor.array.bytes()
    except wexport.WexportError as error:
        return error
    finally:
        plan.close()
    return None
