"""Output that appears whole or not at all: written beside its place, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from wexport.errors import OutputError


@contextmanager
def folder(path: Path, force: bool, sources: Sequence[Path] = ()) -> Iterator[Path]:
    """A new folder to write into, which takes its place at `path` when the block ends well.

    Args:
        path: where it shall be.
        force: replace what is there, whole.
        sources: files that are being read, which must not be replaced.

    Raises:
        OutputError: something is there already, or the place cannot be written to.
    """
    place = Path(os.path.abspath(path))
    _check(path, place, force, sources)
    with _staged(path, place) as stage:
        yield stage
        _replace(stage, place)


@contextmanager
def beside(path: Path, force: bool, sources: Sequence[Path] = ()) -> Iterator[Path]:
    """A new folder to write into, whose members take their places beside `path` when the block ends well.

    `path` itself is one of them: a file or a folder of its name. No member replaces a source.

    Args:
        path: where the chief member shall be.
        force: replace what is there.
        sources: files that are being read.

    Raises:
        OutputError: something is there already, or the place cannot be written to.
    """
    place = Path(os.path.abspath(path))
    _check(path, place, force, sources)
    with _staged(path, place) as stage:
        yield stage
        members = sorted((m for m in stage.rglob("*") if not m.is_dir()), key=lambda m: m.name == place.name)
        if (stage / place.name).is_dir():
            members = [stage / place.name]
        targets = [place.parent / member.relative_to(stage) for member in members]
        for target in targets:  # beside a new file, what stands there belongs to another
            _check(path if target == place else target, target, force, sources)
            if target != place and os.path.lexists(target) and not os.path.lexists(place):
                raise OutputError(f"{target}: exists already and is not {path.name}'s; choose another folder")
        for member, target in zip(members, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            _replace(member, target)


@contextmanager
def _staged(path: Path, place: Path) -> Iterator[Path]:
    """A folder beside the place, gone when the block ends; so are the folders above it that were made, if it fails."""
    stage = place.with_name(f".{place.name}.{os.getpid()}.part")
    missing = [p for p in place.parents if not p.exists()]
    done = False
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        stage.mkdir()
        yield stage
        done = True
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        for parent in missing if not done else ():
            with suppress(OSError):
                parent.rmdir()


@contextmanager
def new_file(path: Path, force: bool, sources: Sequence[Path] = ()) -> Iterator[IO[bytes]]:
    """A new file to write into, which takes its place at `path` when the block ends well.

    Args:
        path: where it shall be.
        force: replace the file that is there.
        sources: files that are being read, which must not be replaced.

    Raises:
        OutputError: something is there already, or the place cannot be written to.
    """
    vacant(path, force, sources)
    name = Path(os.path.abspath(path)).name
    with beside(path, force, sources) as stage, (stage / name).open("xb") as file:
        yield file


def vacant(path: Path, force: bool, sources: Sequence[Path] = ()) -> None:
    """See that a new file may take its place at `path`, before work is done for it.

    Raises:
        OutputError: something is there already.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; expected a file's name")
    _check(path, Path(os.path.abspath(path)), force, sources)


def _check(path: Path, place: Path, force: bool, sources: Sequence[Path]) -> None:
    if not os.path.lexists(place):
        return
    if not force:
        raise OutputError(f"{path}: exists already; choose another place, or replace it whole with --force")
    held = [Path.cwd(), Path.home(), *(Path(os.path.abspath(s)) for s in sources), *(s.resolve() for s in sources)]
    for other in held:
        if place == other or place in other.parents:
            raise OutputError(f"{path}: holds {other}, which --force would delete; choose another place")


def _replace(beside: Path, place: Path) -> None:
    """Put the new folder in its place; what was there comes back if that fails."""
    if not os.path.lexists(place):
        os.rename(beside, place)
        return
    old = place.with_name(f".{place.name}.{os.getpid()}.old")
    os.rename(place, old)
    try:
        os.rename(beside, place)
    except BaseException:  # an interrupt, too
        os.rename(old, place)
        raise
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink(missing_ok=True)
