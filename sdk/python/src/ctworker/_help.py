"""The help pages of a program, and shell completion of its command line."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any


class ShortHelp(argparse.Action):
    """The option -h, which prints the program's options and the worker's common options."""

    def __init__(self, option_strings: list[str], dest: str = argparse.SUPPRESS, **kw: Any):
        super().__init__(
            option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **kw
        )

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        complete_help = [(action, action.help) for action in parser._actions]
        for action, text in complete_help:
            action.help = getattr(action, "short_help", text)
        try:
            page = parser.format_help()
        finally:
            for action, text in complete_help:
                action.help = text
        _print(parser, f'{page}\n"{parser.prog} --help" lists all options.\n')


class FullHelp(argparse._HelpAction):
    """The option --help, which prints all options."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        _print(parser, parser.format_help())


def _print(parser: argparse.ArgumentParser, page: str) -> None:
    """Write a page to standard output, and exit.

    If the page cannot be written, report the error. argparse itself ignores it.
    """
    try:
        sys.stdout.write(page)
        sys.stdout.flush()
    except OSError as error:
        parser.exit(1, f"{parser.prog}: cannot write to standard output: {error.strerror}\n")
    parser.exit()


def split_help(parser: argparse.ArgumentParser) -> None:
    """Make -h print the common options, and --help all options.

    If the program has defined -h itself, split_help changes nothing.
    """
    action = parser._option_string_actions.get("-h")
    if not isinstance(action, argparse._HelpAction) or "--help" not in action.option_strings:
        return
    action.option_strings = [name for name in action.option_strings if name != "-h"]
    action.help = "show all options and exit"
    if type(action) is argparse._HelpAction:
        action.__class__ = FullHelp
    del parser._option_string_actions["-h"]
    parser.add_argument("-h", action=ShortHelp, help="show the most important options and exit")


def completer(metavar: str | None) -> Any:
    """Return the attribute `completer` of an option, which argcomplete calls.

    For a metavar such as AWS|GCP, the attribute is a function that returns the values AWS and GCP.
    The function omits single letters, such as the N in N|auto, which stands for a number. For FILE,
    the attribute is None, and argcomplete completes file names.
    """
    if metavar == "FILE":
        return None
    words = [word for word in (metavar or "").split("|") if len(word) > 1]
    words = words if metavar and "|" in metavar else []
    return lambda **_: words


def complete(parser: argparse.ArgumentParser) -> None:
    """Print completions and exit, if argcomplete has started this program to request them."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return
    argcomplete.autocomplete(parser)
