"""Printing, progress and exit codes; nothing else.

Exit codes: 0 done, 1 `verify` or `diff` found a difference, 2 trouble (a line on stderr for each reason), 130
interrupted.
Nothing heavy is imported before the arguments are known to be good.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from wexport.arguments import parse
from wexport.errors import PlanError, WexportError
from wexport.names import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, NoReturn


def main(argv: Sequence[str]) -> int:
    """Run the program with these arguments; gives the exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads cost time to start; what is computed is small
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with _terminable():
        try:
            args = parse(argv)
            code = _VERBS[args.verb](args)
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


# -- verbs -------------------------------------------------------------------------------------------------------------


def _export(args: Namespace) -> int:
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


def _show(args: Namespace) -> int:
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


def _explain(args: Namespace) -> int:
    from wexport import report
    from wexport.subject import look
    from wexport.verbs.explain import explanation

    with look(args.subject, args.architecture) as subject:
        _warn(subject.warnings)
        found = explanation(subject, args.layer)
        print(report.explanation_json(found) if args.json else report.explanation(subject, found))
    return 0


def _verify(args: Namespace) -> int:
    from wexport import report

    if args.update:
        return _update(args)
    from wexport.verbs.verify import verify

    with _progress("checking") as progress:
        found = verify(args.bundle, args.model, architecture=args.architecture, progress=progress)
    print(report.verified_json(found) if args.json else report.verified(found))
    return 0 if found.ok else 1


def _update(args: Namespace) -> int:
    from wexport import report
    from wexport.errors import UsageError
    from wexport.verbs.update import update

    if args.model is not None:
        raise UsageError(f"{args.model}: --update takes the bundle as it is; compare with a model in a call of its own")
    with _progress("writing") as progress:
        found = update(args.bundle, progress=progress)
    print(report.updated_json(found) if args.json else report.updated(found))
    return 0


def _diff(args: Namespace) -> int:
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


def _textconv(args: Namespace) -> int:
    from wexport.errors import UsageError
    from wexport.verbs.textconv import textconv

    if args.a is not None:
        raise UsageError(f"{args.a}: --textconv takes one file, which follows it")
    text = textconv(args.textconv)
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))  # alike in every locale and on every system
    return 0


def _log(args: Namespace) -> int:
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


def _restore(args: Namespace) -> int:
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


def _run(args: Namespace) -> int:
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


_VERBS: dict[str, Callable[[Namespace], int]] = {
    "export": _export, "show": _show, "explain": _explain, "verify": _verify, "diff": _diff, "log": _log, "run": _run,
    "restore": _restore,
}  # fmt: skip


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
