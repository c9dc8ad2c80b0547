"""Arguments, printing, progress and exit codes; nothing else.

Exit codes: 0 done, 1 `verify` or `diff` found a difference, 2 trouble (a line on stderr for each reason), 130
interrupted.
Nothing heavy is imported before the arguments are known to be good.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys

from wexport import __version__
from wexport.errors import PlanError, WexportError
from wexport.names import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, NoReturn

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


def main(argv: Sequence[str]) -> int:
    """Run the program with these arguments; gives the exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads cost time to start; what is computed is small
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    args = _arguments(argv)
    with _terminable():
        try:
            code = int(args.run(args))
            sys.stdout.flush()
        except PlanError as error:
            return _trouble(*error.findings)
        except WexportError as error:
            return _trouble(str(error))
        except BrokenPipeError:  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyboardInterrupt:
            _trouble("interrupted; nothing was written")
            return 130
        except MemoryError:
            return _trouble("not enough memory")
    return code


def _trouble(*lines: str) -> int:
    for line in lines:
        print(f"wexport: error: {printable(line)}", file=sys.stderr)
    return 2


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the program, so that no half-written output stays behind."""

    def stop(number: int, frame: Any) -> NoReturn:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# -- arguments ---------------------------------------------------------------------------------------------------------


def _help(prog: str) -> argparse.HelpFormatter:
    """Help of a fixed width: asking for the terminal's loads modules that take longer than all else."""
    return argparse.RawDescriptionHelpFormatter(prog, width=100, max_help_position=28)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are a line, as all of this program's are."""

    def error(self, message: str) -> NoReturn:
        self.exit(_trouble(f"{message}; see {self.prog} --help"))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    verbs = ("export", "show", "explain", "verify", "diff", "log", "run", "restore")
    words = list(argv)
    if not words:
        parser.print_help()
        parser.exit(2)
    if words[0] not in (*verbs, "-h", "--help", "--version"):
        words.insert(0, "export")
    args, left = parser.parse_known_args(words)
    late = {_verify: "model", _show: "tensor", _diff: "b"}.get(args.run)  # behind an option, argparse does not see it
    if late and getattr(args, late) is None and len(left) == 1 and not left[0].startswith("-"):
        setattr(args, late, left.pop())
    if args.run is _log and not any(word.startswith("-") for word in left):
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

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        about = f"{text[0].upper()}{text[1:]}."
        found = verbs.add_parser(name, help=text, description=about, formatter_class=_help, allow_abbrev=False)
        found.set_defaults(run=run)
        return found

    _export_arguments(verb("export", _export, "turn a model file into a bundle (the default verb)"))
    show = verb("show", _show, "list the tensors of a bundle or model, or show one tensor's numbers")
    _subject_arguments(show)
    show.add_argument("tensor", nargs="?", metavar="TENSOR", help="a name, or a glob such as 'lstm_1.*.bias'")
    show.add_argument("--plot", metavar="FILE", help="draw histogram and heat map of one tensor (.png, .svg)")
    explain = verb("explain", _explain, "print a layer's equations, its tensors and where the source keeps each")
    _subject_arguments(explain)
    explain.add_argument("layer", metavar="LAYER", help="the layer's name")
    verify = verb("verify", _verify, "prove a bundle: schema, checksums, and every byte of the model it came from")
    verify.add_argument("bundle", metavar="BUNDLE", help="the bundle's folder")
    verify.add_argument("model", nargs="?", metavar="MODEL", help="the file that it was made from, to compare with")
    _architecture_argument(verify)
    text = "take over tensors that were edited: new checksums and statistics, and a list of what changed"
    verify.add_argument("--update", action="store_true", help=text)
    _diff_arguments(verb("diff", _diff, "say what changed between two models, by meaning"))
    _log_arguments(verb("log", _log, "say how far each layer and gate moved over a series of checkpoints"))
    _run_arguments(verb("run", _run, "compute a bundle's outputs for given inputs, without any framework"))
    restore = verb("restore", _restore, "put a bundle's tensors, edited or not, back into a copy of the model file")
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
    parser.add_argument("--top", type=_examples, default=0, metavar="N", help=top)
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


# -- verbs -------------------------------------------------------------------------------------------------------------


def _export(args: argparse.Namespace) -> int:
    from wexport import report
    from wexport.errors import UsageError
    from wexport.verbs.export import export, golden_summary

    shapes = dict(args.golden_shape)
    if len(shapes) < len(args.golden_shape):
        names = [name for name, _ in args.golden_shape]
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"--golden-shape {twice}: is given {names.count(twice)} times; give one shape for a name")
    with _progress("writing") as progress:
        plan = export(
            args.model,
            args.out,
            architecture=args.architecture,
            split=args.split,
            strict=args.strict,
            force=args.force,
            max_shard_size=args.max_shard_size,
            golden=args.golden,
            golden_shapes=shapes,
            golden_inputs=args.golden_inputs,
            progress=progress,
        )
    _warn(plan.warnings)
    golden = golden_summary(args.out)
    print(report.exported_json(plan, args.out, golden) if args.json else report.exported(plan, args.out, golden))
    return 0


def _show(args: argparse.Namespace) -> int:
    from wexport import report
    from wexport.errors import UsageError
    from wexport.subject import look
    from wexport.verbs.show import listing, numbers, plot

    with look(args.subject, args.architecture) as subject:
        _warn(subject.warnings)
        names = listing(subject, args.tensor)
        if args.plot is not None:
            if args.tensor is None or len(names) != 1:
                asked = "none was named" if args.tensor is None else f"{args.tensor!r} means {len(names)}"
                raise UsageError(f"--plot draws one tensor; {asked}")
            plot(subject, names[0], args.plot)
        if args.tensor is None:
            print(report.listing_json(subject, names) if args.json else report.listing(subject, names))
            return 0
        found = {name: numbers(subject, name) for name in names}
        print(report.numbers_json(subject, found) if args.json else report.numbers(subject, found, _is_plain()))
    return 0


def _explain(args: argparse.Namespace) -> int:
    from wexport import report
    from wexport.subject import look
    from wexport.verbs.explain import explanation

    with look(args.subject, args.architecture) as subject:
        _warn(subject.warnings)
        found = explanation(subject, args.layer)
        print(report.explanation_json(found) if args.json else report.explanation(subject, found))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from wexport import report

    if args.update:
        return _update(args)
    from wexport.verbs.verify import verify

    with _progress("checking") as progress:
        found = verify(args.bundle, args.model, architecture=args.architecture, progress=progress)
    print(report.verified_json(found) if args.json else report.verified(found))
    return 0 if found.ok else 1


def _update(args: argparse.Namespace) -> int:
    from wexport import report
    from wexport.errors import UsageError
    from wexport.verbs.update import update

    if args.model is not None:
        raise UsageError(f"{args.model}: --update takes the bundle as it is; compare with a model in a call of its own")
    with _progress("writing") as progress:
        found = update(args.bundle, progress=progress)
    print(report.updated_json(found) if args.json else report.updated(found))
    return 0


def _diff(args: argparse.Namespace) -> int:
    from wexport.errors import UsageError

    if args.textconv is not None:
        return _textconv(args)
    if args.b is None:
        raise UsageError("diff takes two models, A and B; expected wexport diff A B")
    from wexport import report_diff
    from wexport.verbs.diff import diff

    with _progress("comparing") as progress:
        found = diff(
            args.a,
            args.b,
            match=args.match,
            tolerance=args.tolerance,
            top=args.top,
            fail_on=args.fail_on,
            verify=args.verify,
            architecture=args.architecture,
            progress=progress,
        )
    if args.json:
        print(report_diff.json_text(found))
    elif args.markdown:
        print(report_diff.markdown(found, args.all))
    else:
        print(report_diff.text(found, args.all, report_diff.coloured()))
    return int(found.fails)


def _textconv(args: argparse.Namespace) -> int:
    from wexport.errors import UsageError
    from wexport.verbs.textconv import textconv

    if args.a is not None:
        raise UsageError(f"{args.a}: --textconv takes one file, which follows it")
    text = textconv(args.textconv)
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))  # alike in every locale and on every system
    return 0


def _log(args: argparse.Namespace) -> int:
    from wexport import report_log
    from wexport.verbs.log import log

    with _progress("comparing") as progress:
        found = log(
            args.paths,
            layers=args.layers,
            match=args.match,
            verify=args.verify,
            architecture=args.architecture,
            plot=args.plot,
            progress=progress,
        )
    everything = args.all or bool(args.layers)
    print(report_log.json_text(found) if args.json else report_log.text(found, everything, _is_plain()))
    return 0


def _restore(args: argparse.Namespace) -> int:
    from wexport import report
    from wexport.verbs.restore import restore

    with _progress("restoring") as progress:
        found = restore(
            args.bundle,
            args.out,
            into=args.into,
            architecture=args.architecture,
            force=args.force,
            progress=progress,
        )
    print(report.restored_json(found) if args.json else report.restored(found))
    return 0


def _run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from wexport import report
    from wexport.bundle import Bundle
    from wexport.output import vacant
    from wexport.verbs.run import results, save

    with Bundle(args.bundle) as bundle, _progress("computing", " calls") as progress:
        if args.out is not None:
            vacant(Path(args.out), args.force, [Path(args.inputs), *bundle.parts()])
        found = results(bundle, args.inputs, args.layers, progress)
    if args.out is not None:
        save(found, args.out, force=args.force)
    print(report.computed_json(found, args.out) if args.json else report.computed(found, args.out))
    return 0


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"wexport: warning: {printable(warning)}", file=sys.stderr)


def _is_plain() -> bool:
    """Whether standard output lacks the characters that bars are drawn with."""
    try:
        "█▏│".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    return False


@contextlib.contextmanager
def _progress(word: str, unit: str = "B") -> Iterator[Callable[[int], None]]:
    """A bar of bytes, or of something else, on a terminal, once the work has taken a second."""
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    import threading

    from tqdm import tqdm

    lock = threading.Lock()
    with tqdm(desc=word, unit=unit, unit_scale=True, delay=1, leave=False, file=sys.stderr) as bar:

        def step(size: int) -> None:
            with lock:
                bar.update(size)

        yield step
