"""wexport: model weights under names that say what they mean.

wexport.export("model.h5", "out")                     a model file becomes a bundle
wexport.open("out")["lstm_1.forget.recurrent"]        a tensor of a bundle, as a NumPy array
wexport.plan("model.h5").tensors                      names and shapes, no weights read
wexport.diff("v1.h5", "out").difference.facts         what changed between two models
wexport.log(["e1.h5", "e2.h5", "e3.h5"]).rows         how far each layer and gate moved over checkpoints
wexport.run("out", "inputs.npz")["dense_3"]           an output, computed from the bundle alone
wexport.restore("out", "new.h5", into="model.h5")     the tensors, edited or not, in a copy of the model file
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing typing costs a quarter of `wexport --help`
if TYPE_CHECKING:
    from wexport.bundle import Bundle as Bundle
    from wexport.bundle import Bundle as open  # noqa: N813
    from wexport.errors import BundleError as BundleError
    from wexport.errors import LayoutError as LayoutError
    from wexport.errors import OutputError as OutputError
    from wexport.errors import PlanError as PlanError
    from wexport.errors import SourceError as SourceError
    from wexport.errors import UsageError as UsageError
    from wexport.errors import WexportError as WexportError
    from wexport.planning import Plan as Plan
    from wexport.verbs.diff import diff as diff
    from wexport.verbs.explain import explain as explain
    from wexport.verbs.export import export as export
    from wexport.verbs.export import plan as plan
    from wexport.verbs.log import log as log
    from wexport.verbs.restore import restore as restore
    from wexport.verbs.run import run as run
    from wexport.verbs.update import update as update
    from wexport.verbs.verify import verify as verify

__version__ = "0.1.0"

# where the public names live; no module of this package may be called like one of them
_HOMES = {
    "Bundle": "bundle", "Plan": "planning", "export": "verbs.export", "plan": "verbs.export", "verify": "verbs.verify",
    "explain": "verbs.explain", "diff": "verbs.diff", "log": "verbs.log",
    "restore": "verbs.restore",
    "run": "verbs.run", "update": "verbs.update",
    "WexportError": "errors", "BundleError": "errors", "LayoutError": "errors", "OutputError": "errors",
    "PlanError": "errors", "SourceError": "errors", "UsageError": "errors",
}  # fmt: skip
__all__ = ["open", *_HOMES]


def __getattr__(name: str) -> object:
    """The public names, loaded when first used: `wexport --help` needs none of them."""
    from importlib import import_module

    if name == "open":
        return import_module("wexport.bundle").Bundle
    if name in _HOMES:
        return getattr(import_module(f"wexport.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'wexport' has no attribute {name!r}")
