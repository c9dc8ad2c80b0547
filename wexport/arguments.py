"""The command line's arguments."""

from __future__ import annotations

import argparse

from wexport import __version__
from wexport.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_EPILOG = """\
the main job needs no verb:
  wexport model.h5 out/                      write out/model.safetensors and out/manifest.yaml
  wexport show out/                          what is in it; a model file can be shown, too
  wexport show out/ lstm_1.forget.recurrent  one tensor's numbers and a picture
  wexport explain out/ lstm_1                equations, tensors, and the slice of get_weights() that each one is
  wexport verify out/ model.h5               schema, checksums, every byte of the model accounted for
  wexport diff v1.h5 out/                    what changed between two models, by meaning
  wexport log e1.h5 e2.h5 e3.h5              how far each layer and gate moved over a series of checkpoints
  wexport run out/ inputs.npz                its outputs, computed from the bundle alone
  wexport restore out/ --into model.h5 -o new.h5   the tensors, edited or not, in a copy of the model file

`wexport VERB --help` says more. Exit codes: 0 done, 1 different, 2 trouble.
"""


def _help(prog: str) -> argparse.HelpFormatter:
    """Help of a fixed width: asking for the terminal's loads modules that take longer than all else."""
    return argparse.RawDescriptionHelpFormatter(prog, width=100, max_help_position=28)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are those of this program."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """What the arguments say; `verb` is the verb's name. Without any, the help is printed and the program ends.

    Raises:
        UsageError: they make no sense.
    """
    parser = _parser()
    verbs = ("export", "show", "explain", "verify", "diff", "log", "run", "restore")
    words = list(argv)
    if not words:
        parser.print_help()
        parser.exit(2)
    if words[0] not in (*verbs, "-h", "--help", "--version"):
        words.insert(0, "export")
    args, left = parser.parse_known_args(words)
    # behind an option, argparse does not see an argument that may be left out
    late = {"verify": "model", "show": "tensor", "diff": "b"}.get(args.verb)
    if late and getattr(args, late) is None and len(left) == 1 and not left[0].startswith("-"):
        setattr(args, late, left.pop())
    if args.verb == "log" and not any(word.startswith("-") for word in left):
        args.paths, left = [*args.paths, *left], []
    if left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    return args


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wexport",
        usage="wexport MODEL OUT/ [options]\n       wexport VERB ...",
        description="Model weights under names that say what they mean.",
        epilog=_EPILOG,
        formatter_class=_help,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"wexport {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, prog="wexport")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        about = f"{text[0].upper()}{text[1:]}."
        found = verbs.add_parser(name, help=text, description=about, formatter_class=_help, allow_abbrev=False)
        found.set_defaults(verb=name)
        return found

    _export_arguments(verb("export", "turn a model file into a bundle (the default verb)"))
    show = verb("show", "list the tensors of a bundle or model, or show one tensor's numbers")
    _subject_arguments(show)
    show.add_argument("tensor", nargs="?", metavar="TENSOR", help="a name, or a glob such as 'lstm_1.*.bias'")
    show.add_argument("--plot", metavar="FILE", help="draw histogram and heat map of one tensor (.png, .svg)")
    explain = verb("explain", "print a layer's equations, its tensors and where the source keeps each")
    _subject_arguments(explain)
    explain.add_argument("layer", metavar="LAYER", help="the layer's name")
    verify = verb("verify", "prove a bundle: schema, checksums, and every byte of the model it came from")
    verify.add_argument("bundle", metavar="BUNDLE", help="the bundle's folder")
    verify.add_argument("model", nargs="?", metavar="MODEL", help="the file that it was made from, to compare with")
    _architecture_argument(verify)
    text = "take over tensors that were edited: new checksums and statistics, and a list of what changed"
    verify.add_argument("--update", action="store_true", help=text)
    _diff_arguments(verb("diff", "say what changed between two models, by meaning"))
    _log_arguments(verb("log", "say how far each layer and gate moved over a series of checkpoints"))
    _run_arguments(verb("run", "compute a bundle's outputs for given inputs, without any framework"))
    restore = verb("restore", "put a bundle's tensors, edited or not, back into a copy of the model file")
    restore.add_argument("bundle", metavar="BUNDLE", help="the bundle's folder")
    restore.add_argument("--into", metavar="MODEL", help="the file that the bundle was made from; it is not changed")
    out = "the copy to write; without --into, an .npz file with the arrays of get_weights()"
    restore.add_argument("-o", "--out", metavar="NEW", required=True, help=out)
    restore.add_argument("--force", action="store_true", help="replace what is at NEW")
    _architecture_argument(restore)
    for each in verbs.choices.values():
        each.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _subject_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", metavar="BUNDLE|MODEL", help="a bundle's folder or a model file")
    _architecture_argument(parser)


def _architecture_argument(parser: argparse.ArgumentParser) -> None:
    text = "what model.to_json() or to_yaml() gave, for a file that holds weights only"
    parser.add_argument("--architecture", metavar="FILE", help=text)


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="the model file")
    parser.add_argument("out", metavar="OUT", help="the folder to write")
    _architecture_argument(parser)
    split = "kernels by their sources and gates (all, the default), by gates only, or no array at all"
    parser.add_argument("--split", choices=("all", "gates", "none"), default="all", help=split)
    parser.add_argument("--strict", action="store_true", help="make unknown layers and doubtful names errors")
    parser.add_argument("--force", action="store_true", help="replace what is at OUT, whole")
    shards = "bytes above which the data become several files (default 5GB)"
    parser.add_argument("--max-shard-size", type=_size, default=5 * 10**9, metavar="SIZE", help=shards)
    _golden_arguments(parser)


def _golden_arguments(parser: argparse.ArgumentParser) -> None:
    text = "write golden.safetensors, too: N random examples (default 2) and all that the bundle computes from them"
    parser.add_argument("--golden", nargs="?", type=_examples, const=True, default=False, metavar="N", help=text)
    shape = "the shape of an input there, or the length of a named free dimension; may be repeated"
    parser.add_argument("--golden-shape", action="append", type=_shape, default=[], metavar="NAME=1,30,6", help=shape)
    parser.add_argument("--golden-inputs", metavar="X.npz", help="these inputs there instead of random ones")


def _examples(text: str) -> int:
    if not _is_number(text) or int(text) < 1:
        what = "expected one or more; write --golden behind MODEL and OUT"
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no number of examples; {what}")
    return int(text)


def _positive(text: str) -> int:
    if not _is_number(text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no number; expected one or more")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20  # of thousands of digits int() makes no number


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, found, lengths = text.rpartition("=")
    words = [word.strip() for word in lengths.strip(" ()").split(",") if word.strip()]
    if not found or not all(map(_is_number, words)):
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no shape; expected one such as lstm_input=1,30,6")
    return name, tuple(int(word) for word in words)


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument("inputs", metavar="INPUTS.npz", help="an array for each of the model's inputs, by its name")
    parser.add_argument("-o", dest="out", metavar="OUTPUTS.npz", help="write the arrays to this file, too")
    layers = "give what these layers compute, too: a layer's name or a glob; may be repeated"
    parser.add_argument("--layers", action="append", default=[], metavar="GLOB", help=layers)
    parser.add_argument("--force", action="store_true", help="replace the file at OUTPUTS.npz")


def _diff_arguments(parser: argparse.ArgumentParser) -> None:
    what = "a bundle's folder, a manifest.yaml or a model file"
    parser.add_argument("a", nargs="?", metavar="A", help=f"the older one: {what}")
    parser.add_argument("b", nargs="?", metavar="B", help="the newer one")
    parser.add_argument("--all", action="store_true", help="show every tensor and layer that changed")
    parser.add_argument("--markdown", action="store_true", help="print Markdown, for a pull request")
    top = "name the N units, channels and rows of each tensor that moved most"
    parser.add_argument("--top", type=_positive, default=0, metavar="N", help=top)
    match = "match layers and tensors by bytes, position and name (all, the default), or by name alone"
    parser.add_argument("--match", choices=("all", "name"), default="all", help=match)
    rule = "exit with 1 only for this: structure, graph, names, values, or a rule; may be repeated"
    parser.add_argument("--fail-on", action="append", default=[], metavar="'relative>0.1'", help=rule)
    tolerance = "tensors that moved by no more than this part of their length count as equal"
    parser.add_argument("--tolerance", type=_part, default=0.0, metavar="PART", help=tolerance)
    verify = "hold every tensor of a bundle against its checksum first"
    parser.add_argument("--verify", action="store_true", help=verify)
    _architecture_argument(parser)
    text = "print what one file means, a fact a line, for `git diff` (see docs/git.md)"
    parser.add_argument("--textconv", metavar="FILE", help=text)


def _log_arguments(parser: argparse.ArgumentParser) -> None:
    what = "checkpoints, the oldest first: bundles' folders, manifests or model files"
    parser.add_argument("paths", nargs="+", metavar="A B ...", help=what)
    parser.add_argument("--all", action="store_true", help="show every layer and gate that moved")
    layers = "show these layers only: a layer's name, old or new, or a glob; may be repeated"
    parser.add_argument("--layers", action="append", default=[], metavar="GLOB", help=layers)
    plot = "draw the layers' lines and a heat map over the steps (.png, .svg)"
    parser.add_argument("--plot", metavar="FILE", help=plot)
    match = "match layers and tensors by bytes, position and name (all, the default), or by name alone"
    parser.add_argument("--match", choices=("all", "name"), default="all", help=match)
    verify = "hold every tensor of a bundle against its checksum first"
    parser.add_argument("--verify", action="store_true", help=verify)
    _architecture_argument(parser)


def _part(text: str) -> float:
    try:
        part = float(text)
    except ValueError:
        part = -1.0
    if not 0 <= part < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no relative change; expected a number such as 1e-6")
    return part


def _size(text: str) -> int:
    digits = text.strip().rstrip("kKmMgGtTiIbB ")
    unit = _UNITS.get(text.strip()[len(digits) :].strip().lower())
    try:
        size = int(float(digits) * (unit or 0))
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no size; expected one such as 500MB or 5GB")
    return size
