"""Parse the command line, which contains the program's own options and the worker's options.

The worker's options are passed to the engine unchanged and in the same order, because only the
engine validates them. The program can read their values from the Namespace. A valid value has the
setting's type, and an invalid value is a str.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from ctworker._help import complete, completer, split_help
from ctworker._settings import REMOVED, SETTINGS, Setting

SPECIFIED = frozenset(
    """
    --task-file --provider --project-id --job-id --queue-name --exactly-once-queue
    --event-log-file --event-log-to-file --event-log-to-queue --instance-type --num-cpus
    --memory --local-ssd --boot-disk --is-spot --price --num-simultaneous-tasks
    --max-runtime --shutdown-grace-period --tasks-to-skip --max-num-tasks --retry-on-exit
    --retry-on-exception --retry-on-timeout --simulate-spot-termination-after
    --simulate-spot-termination-delay --verbose
    """.split()
)
"""The worker's options that the specification requires. A program must not define them itself.

A program may define any other option of the worker, because the program may be older than that
option. The program's option then replaces the worker's. docs/porting.md describes the
specification."""


class CommandLine:
    """A parsed command line."""

    def __init__(
        self,
        args: argparse.Namespace,
        engine_flags: list[str],
        values: dict[str, Any],
    ) -> None:
        self.args = args
        self.engine_flags = engine_flags
        """The worker's options, as `--flag=value`, in the order of the command line."""
        self.values = values
        """The values of the worker's options; the key is the first flag of the setting.

        If an option occurs several times, its last value is stored."""


class _Recorder:
    """Collects the worker's options while argparse parses them."""

    def __init__(self) -> None:
        self.flags: list[str] = []
        self.values: dict[str, Any] = {}


class _Record(argparse.Action):
    """Records an option for the engine, and stores its value in the Namespace."""

    def __init__(self, *, recorder: _Recorder, setting: Setting, value: Any = None, **kw: Any):
        super().__init__(default=None, nargs=None if value is None else 0, **kw)
        self._recorder = recorder
        self._setting = setting
        self._value = value
        common = setting.common and value is not False
        self.short_help = _help(setting, full=False) if common else argparse.SUPPRESS
        self.completer = completer(setting.metavar)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        flag = option_string or self.option_strings[0]
        if self._value is None:
            self._recorder.flags.append(f"{flag}={values}")
            value = _typed(values, self._setting.kind)
        else:
            self._recorder.flags.append(flag)
            value = self._value
        self._recorder.values[self._setting.flags[0]] = value
        setattr(namespace, self.dest, value)


def _typed(text: str, kind: str) -> Any:
    """Return text converted to kind. Invalid text is returned unchanged; the engine reports it."""
    try:
        return {"int": int, "float": float}.get(kind, str)(text)
    except ValueError:
        return text


def _dest(setting: Setting) -> str:
    return setting.flags[0].lstrip("-").replace("-", "_")


def _help(setting: Setting, *, full: bool = True) -> str:
    text = setting.help
    if setting.default and setting.default != "false":
        text += f" (default: {setting.default})"
    if full and setting.env:
        text += f" [or {setting.env}]"
    return text.replace("%", "%%")


def add_options(parser: argparse.ArgumentParser) -> _Recorder:
    """Add the worker's options to parser, in groups, unless they were added before.

    A worker's option is not added if the program has defined an option with the same name.
    Raises ValueError if that option is in SPECIFIED.
    """
    added = getattr(parser, "_ctworker_recorder", None)
    if isinstance(added, _Recorder):
        return added
    _check_conflicts(parser)
    program_names = _names(parser)
    recorder = _Recorder()
    groups: dict[str, argparse._ArgumentGroup] = {}
    for setting in SETTINGS:
        flags = [flag for flag in setting.flags if flag not in program_names]
        if setting.flags[0] in program_names or _dest(setting) in program_names:
            continue  # the user can still set the environment variable of the setting
        if setting.category not in groups:
            groups[setting.category] = parser.add_argument_group(f"worker: {setting.category}")
        group = groups[setting.category]
        shared: dict[str, Any] = {"dest": _dest(setting), "recorder": recorder, "setting": setting}
        if setting.metavar is not None:
            group.add_argument(
                *flags,
                action=_Record,
                metavar=setting.metavar,
                help=_help(setting),
                **shared,
            )
            continue
        group.add_argument(*flags, action=_Record, value=True, help=_help(setting), **shared)
        if setting.negated and setting.negated not in program_names:
            group.add_argument(
                setting.negated,
                action=_Record,
                value=False,
                help=f"The opposite of {setting.flags[0]}",
                **shared,
            )
    split_help(parser)
    parser._ctworker_recorder = recorder  # type: ignore[attr-defined]
    return recorder


def _names(parser: argparse.ArgumentParser) -> set[str]:
    """Return the flags of the program's own options, and the attributes that store their values."""
    return {*parser._option_string_actions, *(action.dest for action in parser._actions)}


def _check_conflicts(parser: argparse.ArgumentParser) -> None:
    settings = [s for s in SETTINGS if s.flags[0] in SPECIFIED]
    flags = {flag for s in settings for flag in (s.flags[0], s.negated) if flag}
    if conflicts := sorted(flags & parser._option_string_actions.keys()):
        raise ValueError(
            f"the program's own argparser defines {', '.join(conflicts)}, which the worker also "
            "defines; rename the program's option"
        )
    dests = {_dest(s): s.flags[0] for s in settings}
    for action in parser._actions:
        if action.dest in dests:
            name = "/".join(action.option_strings) or action.dest
            raise ValueError(
                f"the program's own argument {name} is stored as args.{action.dest}, like the "
                f"worker's {dests[action.dest]}; rename the program's argument, or give it another "
                "dest="
            )


def parse(parser: argparse.ArgumentParser | None, args: Sequence[str] | None) -> CommandLine:
    """Parse args. None means the command line of this process.

    Raises SystemExit for --help and for invalid arguments, as argparse does.
    """
    if parser is None:
        # Without usage, argparse would list all of the worker's options in the usage line.
        parser = argparse.ArgumentParser(
            usage="%(prog)s [options]",
            description="Run this program's function over tasks, in separate processes.",
            allow_abbrev=False,
        )
    recorder = add_options(parser)
    complete(parser)
    recorder.values.clear()  # the program may have used the parser before
    recorder.flags.clear()
    namespace = _parse(parser, args)
    return CommandLine(namespace, list(recorder.flags), dict(recorder.values))


def _parse(parser: argparse.ArgumentParser, args: Sequence[str] | None) -> argparse.Namespace:
    """Parse like parse_args, but report an error in one line, without the usage.

    For an unknown option, the line suggests a similar one.
    """

    def report(message: str) -> NoReturn:
        parser.exit(2, f'{parser.prog}: {message}; see "{parser.prog} --help"\n')

    # The method error of argparse prints the usage, which lists all of the worker's options. If
    # the program has overridden the method, keep the program's method.
    replace = type(parser).error is argparse.ArgumentParser.error and "error" not in vars(parser)
    if replace:
        parser.error = report  # type: ignore[method-assign]
    abbreviations = parser._get_option_tuples

    def program_abbreviations(option: str) -> Any:
        return [found for found in abbreviations(option) if not isinstance(found[0], _Record)]

    # Users may abbreviate only the program's own options. If abbreviations could also match the
    # worker's options, a new option of the worker could make a valid abbreviation ambiguous.
    parser._get_option_tuples = program_abbreviations  # type: ignore[method-assign,assignment]
    try:
        if type(parser).parse_args is not argparse.ArgumentParser.parse_args:
            return parser.parse_args(args)  # overridden by the program
        namespace, unknown = parser.parse_known_args(args)
        if unknown:
            parser.error(_unknown(parser, unknown))
        return namespace
    finally:
        del parser._get_option_tuples
        if replace:
            del parser.error


def _unknown(parser: argparse.ArgumentParser, arguments: list[str]) -> str:
    """Return the error message for unknown arguments."""
    options = [name for name in parser._option_string_actions if name.startswith("--")]
    for argument in arguments:
        name = argument.partition("=")[0]
        if name in REMOVED:
            return f"{name}: unknown option; use {REMOVED[name]}"
        if name.startswith("-"):
            near = _nearest("--" + name.lstrip("-"), options)
            return f"{name}: unknown option" + (f"; did you mean {near}?" if near else "")
    message = f"unrecognized arguments: {' '.join(arguments)}"
    if _TASK_FILE.search(arguments[0]):
        message += f"; to run the tasks of this file, use --task-file {arguments[0]}"
    return message


_TASK_FILE = re.compile(r"\.(json|jsonl|ndjson|yaml|yml|csv|tsv)(\.gz|\.zst)?$", re.IGNORECASE)


def _nearest(name: str, options: list[str]) -> str | None:
    """Return the option that name probably misspells or abbreviates, or None."""
    if near := difflib.get_close_matches(name, options, 1, 0.75):
        return near[0]
    return next((o for o in options if len(name) > 4 and o.startswith(name)), None)
