"""What other exporters than the big ones write: sums that are biases, names by other rules, shapes that are untrue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_files import assert_close, computed, exported, f, model, runtime, typed

Array = np.ndarray[Any, Any]
I64 = np.int64
MATRIX, IMAGE = f(2, 3, 8, seed=1), f(2, 3, 5, 5, seed=2)


def node(op: str, inputs: str, output: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=name or op.lower(), **attributes)


def axes(proto: onnx.ModelProto, inputs: dict[str, Array], place: Path) -> dict[str, str]:
    """The axes of the tensors, after the outputs were compared with onnxruntime's."""
    with exported(proto, place) as bundle:
        assert_close(computed(bundle, list(inputs.values())), runtime(proto, inputs))
        return {name: t["axes"] for name, t in bundle.manifest["tensors"].items()}


def sums(op: str, x: Array, kernel: Array, bias: Array, **attributes: Any) -> tuple[Any, dict[str, Array]]:
    nodes = [node(op, "x w", "product", "it", **attributes), node("Add", "b product", "y", "sum")]
    return typed(model(nodes, {"x": x}, ["y"], {"w": kernel, "b": bias})), {"x": x}


CONV, TURNED = f(4, 3, 3, 3, seed=3), f(3, 2, 3, 3, seed=4)
BIASES: dict[str, tuple[Any, str]] = {
    "dense": (sums("MatMul", MATRIX, f(8, 6), f(6)), "out"),
    "of more axes": (sums("MatMul", MATRIX, f(8, 6), f(1, 1, 6)), "out"),
    "conv": (sums("Conv", IMAGE, CONV, f(1, 4, 1, 1)), "out"),
    "conv without batch": (sums("Conv", IMAGE, CONV, f(4, 1, 1)), "out"),
    "transposed": (sums("ConvTranspose", IMAGE[:, :3], TURNED, f(1, 2, 1, 1)), "out"),
    "in groups": (sums("ConvTranspose", f(2, 6, 5, 5), f(6, 2, 3, 3), f(1, 6, 1, 1), group=3), "out"),
}


@pytest.mark.parametrize("name", BIASES)
def test_a_sum_is_a_bias(name: str, tmp_path: Path) -> None:
    (proto, inputs), wanted = BIASES[name]
    found = axes(proto, inputs, tmp_path)
    assert found.keys() == {"it.kernel", "it.bias"}
    assert found["it.bias"] == wanted


NO_BIASES = {
    "of positions": sums("MatMul", MATRIX, f(8, 6), f(3, 6)),
    "of a width": sums("Conv", IMAGE, f(3, 3, 3, 3), f(3)),
    "of a height": sums("Conv", IMAGE, f(3, 3, 3, 3), f(3, 1)),
    "that makes it larger": sums("MatMul", MATRIX, f(8, 6), f(1, 1, 1, 6)),
    "of a square": sums("MatMul", f(2, 4, 4), f(4, 4), f(4, 1)),
}


@pytest.mark.parametrize("name", NO_BIASES)
def test_a_sum_is_no_bias(name: str, tmp_path: Path) -> None:
    proto, inputs = NO_BIASES[name]
    assert axes(proto, inputs, tmp_path).keys() == {"it.kernel", "sum.b"}


def spread(bias: Array, target: list[int], **more: Array) -> onnx.ModelProto:
    """A product of matrices, put in another shape before the bias comes."""
    nodes = [node("MatMul", "x w", "p", "it"), node("Reshape", "p shape", "r"), node("Add", "r b", "y", "sum")]
    return typed(model(nodes, {"x": MATRIX}, ["y"], {"w": f(8, 6), "b": bias, "shape": np.array(target, I64)}))


def test_a_bias_behind_a_reshape_that_spreads_out_its_axis(tmp_path: Path) -> None:
    proto = spread(f(2, 3), [2, 3, 2, 3])
    found = axes(proto, {"x": MATRIX}, tmp_path)
    assert found == {"it.kernel": "in out", "it.bias": "(out_0 out_1)"}
    with exported(proto, tmp_path / "again") as bundle:
        assert bundle.manifest["weights"]["b"]["layout"] == "out_0 out_1"
        np.testing.assert_array_equal(bundle["it.bias"], f(2, 3).reshape(6))


def test_no_bias_of_rows_behind_a_reshape(tmp_path: Path) -> None:
    found = axes(spread(f(6, 1), [6, 6]), {"x": MATRIX}, tmp_path)
    assert found.keys() == {"it.kernel", "sum.b"}


def test_a_bias_that_is_also_read_as_it_is(tmp_path: Path) -> None:
    proto = spread(f(2, 3), [2, 3, 2, 3])
    proto.graph.node.append(node("Relu", "b", "z"))
    proto.graph.output.append(onnx.ValueInfoProto(name="z"))
    found = axes(typed(proto), {"x": MATRIX}, tmp_path)
    assert "axis_1 axis_2" in found.values(), "as it is stored, since that is what the other one reads"


# -- one array for two things ------------------------------------------------------------------------------------------


def test_one_array_as_scale_and_offset(tmp_path: Path) -> None:
    proto = typed(model([node("LayerNormalization", "x w w", "y", "it")], {"x": MATRIX}, ["y"], {"w": f(8)}))
    with exported(proto, tmp_path) as bundle:
        assert_close(computed(bundle, [MATRIX]), runtime(proto, {"x": MATRIX}))
        assert list(bundle.manifest["tensors"]) == ["it.scale"]
        assert bundle.manifest["aliases"]["it.offset"]["tensor"] == "it.scale"


def test_one_scale_for_what_goes_in_and_what_comes_out(tmp_path: Path) -> None:
    """An optimizer hands equal scales in as one array."""
    stored = {"s": np.float32(0.02), "z": np.int8(3), "a": np.float32(0.05), "k": f(8, 6), "ks": np.float32(0.01)}
    stored["k"] = np.clip(np.round(stored["k"] / 0.01), -127, 127).astype(np.int8)
    stored["k0"] = np.int8(0)
    nodes = [
        node("QuantizeLinear", "x a z", "p"), node("QuantizeLinear", "x s z", "q", "q"),
        node("QLinearConcat", "s z p a z q s z", "c", "it", domain="com.microsoft", axis=1),
        node("QLinearMatMul", "c s z k ks k0 s z", "m", "mul"), node("DequantizeLinear", "m s z", "y", "d"),
    ]  # fmt: skip
    arrays = {name: np.asarray(value) for name, value in stored.items()}
    proto = typed(model(nodes, {"x": MATRIX}, ["y"], arrays, {"": 20, "com.microsoft": 1}))
    with exported(proto, tmp_path) as bundle:
        assert_close(computed(bundle, [MATRIX]), runtime(proto, {"x": MATRIX}))


@pytest.mark.parametrize("limits", [(0.0, 6.0), (-0.5, 0.25)], ids=str)
def test_a_fused_clip(limits: tuple[float, float], tmp_path: Path) -> None:
    nodes = [
        helper.make_node(
            "FusedConv", ["x", "w"], ["p"], "it", domain="com.microsoft", activation="Clip", activation_params=limits
        ),
        node("PRelu", "p a", "y", "slope"),
    ]
    arrays = {"w": CONV, "a": f(4, 1, 1)}
    proto = typed(model(nodes, {"x": IMAGE}, ["y"], arrays, {"": 20, "com.microsoft": 1}))
    assert axes(proto, {"x": IMAGE}, tmp_path)["slope.alpha"] == "channel"


# -- names -------------------------------------------------------------------------------------------------------------


def test_paddle_names(tmp_path: Path) -> None:
    nodes = [node("Conv", "x conv2d_3.w_0", "p", "p2o.Conv.0"), node("Add", "p r", "y", "p2o.Add.0")]
    nodes.insert(0, node("Reshape", "conv2d_3.b_0 shape", "r", "p2o.Reshape.0"))
    stored = {"conv2d_3.w_0": CONV, "conv2d_3.b_0": f(4), "shape": np.array([1, 4, 1, 1], I64)}
    found = axes(typed(model(nodes, {"x": IMAGE}, ["y"], stored)), {"x": IMAGE}, tmp_path)
    assert found == {"conv2d_3.kernel": "height width in out", "conv2d_3.bias": "out"}


def test_a_module_that_stands_in_both_branches(tmp_path: Path) -> None:
    """ONNX' inliner puts the body's name before the node's, and both bodies may have the same modules."""
    bodies = {}
    for label, scale in (("then", 1.0), ("else", 2.0)):
        mark = f"If_0_{label}_branch__Inline_0__"
        work = node("MatMul", f"x {mark}w", f"{mark}y", f"{mark}/encoder/proj/MatMul")
        weight = onnx.numpy_helper.from_array(f(8, 6, scale=scale), f"{mark}w")
        end = helper.make_tensor_value_info(f"{mark}y", TensorProto.FLOAT, None)
        bodies[f"{label}_branch"] = helper.make_graph([work], label, [], [end], [weight])
    proto = typed(model([node("If", "c", "y", "If_0", **bodies)], {"x": MATRIX, "c": np.array(True)}, ["y"]))
    found = axes(proto, {"x": MATRIX, "c": np.array(True)}, tmp_path)
    assert found.keys() == {"If_0.then.encoder.proj.kernel", "If_0.else.encoder.proj.kernel"}


# -- shapes ------------------------------------------------------------------------------------------------------------


def test_an_output_that_has_more_axes_than_the_file_says(tmp_path: Path) -> None:
    """The target is worked out from a value of unknown rank; that it has three lengths is all that is known."""
    nodes = [
        node("Reshape", "x s", "r"), node("Shape", "r", "t"), node("Gather", "t first", "n"),
        node("Concat", "n rest", "target", axis=0), node("Reshape", "r target", "y", "last"),
    ]  # fmt: skip
    stored = {"first": np.array([0], I64), "rest": np.array([1, -1], I64)}
    inputs = {"x": f(6, 4), "s": np.array([2, 3, 4], I64)}
    proto = typed(model(nodes, inputs, ["y"], stored, {"": 12}))
    proto.graph.input[1].CopyFrom(helper.make_tensor_value_info("s", TensorProto.INT64, ["rank"]))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "k"]))
    with exported(proto, tmp_path) as bundle:
        (found,) = computed(bundle, list(inputs.values()))
        assert_close([found], [inputs["x"].reshape(2, 1, 12)])


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_old_functions_of_a_value_whose_axes_are_not_counted(op: str, tmp_path: Path) -> None:
    shape = np.array([2, 3, 4], I64)
    nodes = [node("Reshape", "x s", "r"), node(op, "r", "y", axis=1)]
    proto = typed(model(nodes, {"x": f(6, 4), "s": shape}, ["y"], opsets={"": 11}))
    proto.graph.input[1].CopyFrom(helper.make_tensor_value_info("s", TensorProto.INT64, ["rank"]))
    inputs = {"x": f(6, 4), "s": shape}
    with exported(proto, tmp_path) as bundle:
        assert_close(computed(bundle, list(inputs.values())), runtime(proto, inputs))


def test_a_slope_of_the_channels_before_opset_7(tmp_path: Path) -> None:
    proto = typed(model([node("PRelu", "x a", "y", "it")], {"x": IMAGE}, ["y"], {"a": f(3)}, {"": 6}))
    with exported(proto, tmp_path) as bundle:
        assert bundle.manifest["tensors"]["it.alpha"]["axes"] == "channel"
        wanted = np.where(IMAGE > 0, IMAGE, IMAGE * f(3)[:, None, None])
        assert_close(computed(bundle, [IMAGE]), [wanted])
