"""Fixtures of all tests: every model file is exported once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
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
