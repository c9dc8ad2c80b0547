"""Work on manifests that nobody has held against the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from wexport.errors import BundleError


class Stated(Protocol):
    """What was read from a manifest: a bundle, or one side of a comparison."""

    @property
    def path(self) -> Path:
        """Where it was read."""

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What it says."""


@contextmanager
def trusting(*read: Stated) -> Iterator[None]:
    """Work on these manifests as if they kept to the schema: what breaks on their form is their damage.

    Raises:
        BundleError: something in the block fell over a manifest.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        if not read:
            raise
        place, reason = _damage(read) or (" or ".join(str(one.path) for one in read), _words(error))
        raise BundleError(f"{place}: its manifest is damaged: {reason}; export again") from error


def _damage(read: tuple[Stated, ...]) -> tuple[str, str] | None:
    """The first of them that breaks the schema, and where it does."""
    from wexport.schema import violations  # loads all rooms: only once something is wrong

    for one in read:
        with suppress(RecursionError):
            if wrong := violations(one.manifest, 1):
                return str(one.path), wrong[0]
    return None


def _words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    text = " ".join(str(error).split())
    return f"{type(error).__name__} {text[:200]}"
