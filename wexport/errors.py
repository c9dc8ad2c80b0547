"""The error tree.

    WexportError
    ├── UsageError        what was asked for cannot be asked for: an unknown tensor, a missing extra
    │   └── WorkError     a model takes more work than is done for it: a loop that does not end
    ├── SourceError       the file to read: missing, truncated, not a model, hostile
    ├── PlanError         the model was read, but something in it cannot be named; holds all findings
    ├── LayoutError       an array does not have the shape that its layout string says
    ├── BundleError       a bundle whose manifest and data do not fit together
    └── OutputError       the place to write to: exists already, not writable

Every message is one line: where, what was found, what was expected, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

from wexport.names import printable


class WexportError(Exception):
    """Anything that wexport refuses, with a message for a person; what a file smuggles into it is spelled out."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class UsageError(WexportError):
    """The request itself cannot be met."""


class WorkError(UsageError):
    """Computing a model takes more than is allowed."""


class SourceError(WexportError):
    """A model file cannot be read."""


class LayoutError(WexportError):
    """An array and its layout string disagree."""


class PlanError(WexportError):
    """A model that was read cannot be exported; `findings` lists every reason."""

    def __init__(self, findings: Sequence[str]) -> None:
        self.findings = tuple(findings)
        super().__init__("; ".join(self.findings))


class BundleError(WexportError):
    """A bundle's manifest and its data disagree."""


class OutputError(WexportError):
    """The output cannot be written."""
