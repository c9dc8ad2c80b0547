"""A bundle whose tensors were edited, made whole again: new checksums, statistics and fingerprint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wexport.bundle import GOLDEN, INDEX, MANIFEST, Bundle
from wexport.digest import bundled
from wexport.errors import BundleError
from wexport.output import beside
from wexport.rebuild import Rebuilder
from wexport.schema import violations
from wexport.trust import trusting
from wexport.write import Progress, write_bundle


@dataclass(frozen=True, slots=True)
class Updated:
    """What changed: for each edited tensor its statistics before and after."""

    path: Path
    tensors: int
    fingerprint: str
    changed: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]


def update(path: str | os.PathLike[str], *, progress: Progress = lambda size: None) -> Updated:
    """Take over what was edited in a bundle's data: checksums, statistics and the fingerprint are made anew.

    The files are written beside the old ones, then take their places; other files of the folder stay. Golden values are
    computed anew from the inputs that they have.

    Args:
        path: the bundle's folder.
        progress: called with the number of bytes written, from several threads.

    Raises:
        BundleError: it is no bundle, or more than the elements was edited (names, shapes, types).
        UsageError: its golden values cannot be computed anew.
        OutputError: the folder cannot be written to.
    """
    with Bundle(path) as bundle, trusting(bundle):
        old = bundle.manifest
        if wrong := violations(old):
            raise BundleError(f"{bundle.path}: manifest: {wrong[0]}; export again")
        rebuilder = Rebuilder(bundle)
        for key in rebuilder.weights:
            rebuilder.find(key)
        shards = max(sum(found.size for found in bundle.ranges.values() if found.file is file) for file in bundle.files)
        gone: list[Path] = []
        with beside(bundle.path / MANIFEST, True, gone=gone) as place:
            new = write_bundle(place, old, bundled(bundle), max(1, shards), progress)
            if (bundle.path / GOLDEN).exists():
                from wexport.golden import renew  # loads all that computes

                with Bundle(place) as edited:
                    renew(edited, bundle.path / GOLDEN)
            gone += [file.path for file in bundle.files if not (place / file.path.name).exists()]
            gone += [bundle.path / INDEX] if not (place / INDEX).exists() else []
    changed = {
        name: (old["stats"].get(name, {}), new["stats"][name])
        for name, item in new["tensors"].items()
        if item["sha256"] != old["tensors"][name]["sha256"]
    }
    return Updated(bundle.path, len(new["tensors"]), new["model"]["fingerprint"], changed)
