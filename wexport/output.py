"""Output that appears whole or not at all: written beside its place, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from wexport.errors import OutputError

_NEW, _OLD = "new", "old"


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
    with _staged(path, place) as room:
        yield room / _NEW
        _settle(room, [(room / _NEW, place)])


@contextmanager
def beside(path: Path, force: bool, sources: Sequence[Path] = (), gone: Sequence[Path] = ()) -> Iterator[Path]:
    """A new folder to write into, whose members take their places beside `path` when the block ends well.

    `path` itself is one of them: a file or a folder of its name. No member replaces a source. All take their places, or
    none does: what was there comes back.

    Args:
        path: where the chief member shall be.
        force: replace what is there.
        sources: files that are being read.
        gone: files that are taken away in the same move; the block may add to them.

    Raises:
        OutputError: something is there already, or the place cannot be written to.
    """
    place = Path(os.path.abspath(path))
    _check(path, place, force, sources)
    with _staged(path, place) as room:
        stage = room / _NEW
        yield stage
        members = sorted((m for m in stage.rglob("*") if not m.is_dir()), key=lambda m: m.name == place.name)
        if (stage / place.name).is_dir():
            members = [stage / place.name]
        targets = [place.parent / member.relative_to(stage) for member in members]
        for target in targets:  # beside a new file, what stands there belongs to another
            _check(path if target == place else target, target, force, sources)
            if target != place and os.path.lexists(target) and not os.path.lexists(place):
                raise OutputError(f"{target}: exists already and is not {path.name}'s; choose another folder")
        _settle(room, list(zip(members, targets, strict=True)), gone)


@contextmanager
def _staged(path: Path, place: Path) -> Iterator[Path]:
    """A folder beside the place, gone when the block ends; so are the folders above it that were made, if it fails.

    What is new is written into its folder `new`; what had to make room waits in its folder `old`.
    """
    missing = [p for p in place.parents if not os.path.lexists(p)]
    room = None
    done = False
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=".wexport-", dir=place.parent))
        for name in (_NEW, _OLD):
            (room / name).mkdir()
        yield room
        done = True
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from error
    finally:
        if room is not None:
            shutil.rmtree(room if done else room / _NEW, ignore_errors=True)
            missing = [room / _OLD, room, *missing]
        for parent in missing if not done else ():
            with suppress(OSError):  # what could not go back from `old` is left there
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
    if _is_folder(path):
        raise OutputError(f"{path}: is a folder; expected a file's name")
    _check(path, Path(os.path.abspath(path)), force, sources)


def _check(path: Path, place: Path, force: bool, sources: Sequence[Path]) -> None:
    above = next((parent for parent in place.parents if os.path.lexists(parent)), place.parent)
    if not _is_folder(above):
        raise OutputError(f"{path}: cannot be written: {above} is no folder; choose another place")
    if not os.path.lexists(place):
        return
    if not force:
        raise OutputError(f"{path}: exists already; choose another place, or replace it whole with --force")
    held = [Path.cwd(), Path.home(), *(Path(os.path.abspath(s)) for s in sources), *(s.resolve() for s in sources)]
    for other in held:
        if place == other or place in other.parents:
            raise OutputError(f"{path}: holds {other}, which --force would delete; choose another place")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no file can have such a name
        return False


def _settle(room: Path, members: Sequence[tuple[Path, Path]], gone: Sequence[Path] = ()) -> None:
    """Put new members in their places; what was there comes back if one of them fails."""
    moved: list[tuple[Path, Path]] = []
    made: list[Path] = []

    def move(one: Path, other: Path) -> None:
        moved.append((one, other))
        os.rename(one, other)

    try:
        for number, (member, target) in enumerate([*members, *((None, path) for path in gone)]):
            if os.path.lexists(target):
                move(target, room / _OLD / str(number))
            if member is not None:
                made += [parent for parent in target.parents if not os.path.lexists(parent)]
                target.parent.mkdir(parents=True, exist_ok=True)
                move(member, target)
    except BaseException:  # an interrupt, too
        _return(room, moved)
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        raise


def _return(room: Path, moved: Sequence[tuple[Path, Path]]) -> None:
    """Take moves back, the last one first."""
    lost: OSError | None = None
    for one, other in reversed(moved):
        if os.path.lexists(other) and not os.path.lexists(one):
            try:
                os.rename(other, one)
            except OSError as error:
                lost = error
    if lost is not None:
        raise OutputError(f"{lost.filename2}: cannot be put back: {lost.strerror}; look into {room}") from lost
