"""Fixtures of all tests: every model file is exported once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from cases import Case
from hypothesis import HealthCheck, settings

import wexport

settings.register_profile(
    "default", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# what onnxruntime 1.23, the last one for Python 3.10, refuses or computes otherwise than its own documentation
OLD_RUNTIME = re.compile(
    r"test_every_family\[.*|test_graphs"  # random graphs, some of which end its process
    r"|test_grouped_queries(_packed|\[.*local_window_size.*)|test_trees_with_sets\[.*"
    r"|test_operators\[(LinearClassifier-LOGISTIC1|TreeEnsembleClassifier-LOGISTIC-BRANCH_LEQ1)\]"
    r"|test_(outputs|shapes_and_types_are_those_that_are_computed|every_tensor_matters)\[two_bits(_with_zero_points)?\]"
    r"|test_outputs\[embedding_in_blocks_with_zero_points\]"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what the installed onnxruntime is too old to be compared with."""
    if tuple(map(int, version("onnxruntime").split(".")[:2])) > (1, 23):
        return
    for item in items:
        if item.path.name.startswith(("test_onnx_", "test_live_onnx")) and OLD_RUNTIME.fullmatch(item.name):
            item.add_marker(pytest.mark.skip(reason="onnxruntime is older than what this compares with"))


Exported = Callable[[Case], wexport.Bundle]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    """Gives the opened bundle of a model file."""
    place = tmp_path_factory.mktemp("bundles")
    made: dict[str, wexport.Bundle] = {}

    def export(case: Case) -> wexport.Bundle:
        if case.id not in made:
            out: Path = place / str(len(made))
            wexport.export(case.path, out, architecture=case.architecture)
            made[case.id] = wexport.open(out)
        return made[case.id]

    yield export
    for bundle in made.values():
        bundle.close()
