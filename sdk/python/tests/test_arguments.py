"""Tests of the command line, which contains the program's and the worker's options."""

from __future__ import annotations

import argparse
import contextlib
import sys
import types
import zlib
from pathlib import Path
from typing import NoReturn

import pytest

from conftest import Runner
from ctworker._arguments import SPECIFIED, parse
from ctworker._settings import SETTINGS


def new_parser(*flags: str, **options: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="mine")
    if flags:
        made.add_argument(*flags, **options)  # type: ignore[arg-type]
    return made


def test_flags_are_recorded_in_order() -> None:
    line = parse(
        new_parser("--own"),
        [
            "--max-runtime",
            "5",
            "--is-spot",
            "--own=x",
            "--no-is-spot",
            "-j",
            "auto",
            "--price",
            "-5",
            "--max-runtime=7.5",
        ],
    )
    assert line.engine_flags == [
        "--max-runtime=5",
        "--is-spot",
        "--no-is-spot",
        "-j=auto",
        "--price=-5",
        "--max-runtime=7.5",
    ]
    args = line.args
    assert (args.own, args.max_runtime, args.is_spot, args.price) == ("x", 7.5, False, -5.0)
    assert (args.num_simultaneous_tasks, args.num_cpus) == ("auto", None)


def test_verbose_short_form() -> None:
    line = parse(None, ["-v"])
    assert (line.engine_flags, line.args.verbose) == (["-v"], True)
    own = new_parser("-v", action="count")  # defined by the program
    line = parse(own, ["-vv", "--verbose"])
    assert (line.engine_flags, line.args.v, line.args.verbose) == (["--verbose"], 2, True)


def test_overridden_parse_args_is_called() -> None:
    class Own(argparse.ArgumentParser):
        def parse_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def,override]
            return super().parse_args(["--job-id=x", *args], namespace)

    assert parse(Own(), ["--price=1"]).engine_flags == ["--job-id=x", "--price=1"]


def test_parser_can_be_used_twice() -> None:
    mine = new_parser()
    assert parse(mine, ["--job-id", "a"]).engine_flags == ["--job-id=a"]
    mine.parse_args(["--job-id", "b"])
    assert parse(mine, ["--job-id", "c"]).engine_flags == ["--job-id=c"]


def test_every_setting_is_an_option() -> None:
    for setting in SETTINGS:
        for flag in setting.flags:
            given = [flag] if setting.metavar is None else [flag, "1"]
            assert parse(None, given).engine_flags == ["=".join(given)]
        if setting.negated:
            assert parse(None, [setting.negated]).engine_flags == [setting.negated]


@pytest.mark.parametrize(
    ("flags", "options", "text"),
    [
        (["--verbose"], {}, "--verbose, which the worker also defines"),
        (["--no-is-spot"], {}, "--no-is-spot, which the worker also defines"),
        (
            ["--ram"],
            {"dest": "memory"},
            "--ram is stored as args.memory, like the worker's --memory",
        ),
        (["provider"], {}, "provider is stored as args.provider"),
    ],
)
def test_conflict_error_names_the_option(
    flags: list[str], options: dict[str, str], text: str
) -> None:
    with pytest.raises(ValueError, match=r"the program's own") as raised:
        parse(new_parser(*flags, **options), [])
    assert text in str(raised.value)


def test_program_options_replace_unspecified_worker_options() -> None:
    mine = new_parser("--config")
    for flag in ("-j", "--isolation", "--no-strict"):
        mine.add_argument(flag)
    mine.add_argument("trace")
    line = parse(
        mine, ["--config=a", "-j", "b", "--isolation", "c", "--no-strict", "d", "e", "--strict"]
    )
    args = line.args
    assert (args.config, args.j, args.isolation, args.no_strict, args.trace) == tuple("abcde")
    assert line.engine_flags == ["--strict"]
    assert parse(mine, ["--num-simultaneous-tasks=3", "x"]).engine_flags == [
        "--num-simultaneous-tasks=3"
    ]


def test_specified_options_are_settings() -> None:
    assert {s.flags[0] for s in SETTINGS} >= SPECIFIED


def test_invalid_command_line() -> None:
    for arguments in (["--what"], ["--job-id"]):
        with pytest.raises(SystemExit) as raised:
            parse(None, arguments)
        assert raised.value.code == 2


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--max-runtme=3", "--max-runtme: unknown option; did you mean --max-runtime?"),
        ("-max-runtime", "-max-runtime: unknown option; did you mean --max-runtime?"),
        ("--threshhold", "--threshhold: unknown option; did you mean --threshold?"),
        ("--xyzzy", "--xyzzy: unknown option"),
        ("--warm", "--warm: unknown option; use --isolation reuse"),
        ("--task-fil", "--task-fil: unknown option; did you mean --task-file?"),
        ("--task-fil=t.json", "--task-fil: unknown option; did you mean --task-file?"),
        ("--verb", "--verb: unknown option; did you mean --verbose?"),
        (
            "--max-memory-allowed",
            "--max-memory-allowed: unknown option; did you mean --max-memory-allowed-per-task?",
        ),
        ("extra", "unrecognized arguments: extra"),
    ],
)
def test_misspelled_option_is_reported_in_one_line(
    capsys: pytest.CaptureFixture[str], argument: str, line: str
) -> None:
    mine = new_parser("--threshold")
    with pytest.raises(SystemExit) as raised:
        parse(mine, [argument])
    assert raised.value.code == 2
    assert capsys.readouterr().err == f'mine: {line}; see "mine --help"\n'
    with pytest.raises(SystemExit):
        mine.parse_args(["--xyzzy"])
    assert "usage:" in capsys.readouterr().err, "the program's parser was not restored"


class OwnError(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def test_overridden_error_is_called() -> None:
    with pytest.raises(ValueError, match="--max-runtme: unknown option"):
        parse(OwnError(), ["--max-runtme"])


def test_help_shows_program_and_worker_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(new_parser("--own", help="my option"), ["--help"])
    out = " ".join(capsys.readouterr().out.split())
    for text in (
        "my option",
        "--task-file FILE",
        "[or RMS_CLOUD_TASKS_MAX_RUNTIME]",
        "--isolation",
    ):
        assert text in out


def test_engine_validates_values(runner: Runner) -> None:
    done = runner.run_tasks(
        "def f(i, d, w): return False, 1",
        [0],
        "--max-runtime",
        "soon",
        "--num-simultaneous-tasks",
        "0",
    )
    assert done.code == 2
    assert "--max-runtime" in done.err
    assert "--num-simultaneous-tasks" in done.err
    assert done.events == []


def test_print_config(runner: Runner) -> None:
    program = runner.write_program(
        "def f(i, d, w): return False, 1",
        main="""
if __name__ == "__main__":
    asyncio.run(Worker(f, args=sys.argv[1:], task_source=lambda: None).start())
    print("after")
""",
    )
    done = runner.run(program, "--print-config", "--job-id", "seven")
    assert done.code == 0, done.err
    assert "job-id: seven" in done.out
    assert done.out.endswith("after\n")


def test_engine_not_found(runner: Runner, tmp_path: Path) -> None:
    program = runner.write_program("def f(i, d, w): return False, 1")
    done = runner.run(program, env={"CTWORKER_BIN": "", "PATH": str(tmp_path)})
    assert done.code == 2
    for text in ("CTWORKER_BIN", "bin/ctworker", "ctworker on the PATH", "make build"):
        assert text in done.err
    done = runner.run(program, env={"CTWORKER_BIN": "/nowhere/ctworker"})
    assert (done.code, "/nowhere/ctworker is not an executable file" in done.err) == (2, True)
    broken = tmp_path / "ctworker"
    broken.write_bytes(b"\x7fELF broken")
    broken.chmod(0o755)
    done = runner.run(program, env={"CTWORKER_BIN": str(broken)})
    assert (done.code, "cannot start the engine" in done.err) == (2, True)


def test_only_program_options_can_be_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    mine = new_parser("--threshold")
    assert parse(mine, ["--thr", "3"]).args.threshold == "3", (
        "the program's options can be abbreviated"
    )
    assert mine.parse_args(["--job-i", "a"]).job_id == "a", "the program's parser was not restored"
    with pytest.raises(SystemExit):
        parse(None, ["--task-fil", "t.json"])
    assert "--task-fil: unknown option; did you mean --task-file?" in capsys.readouterr().err


def print_isolation(runner: Runner, *arguments: str, **env: str) -> str:
    """Return what --print-config prints for the setting isolation: the value and its origin."""
    program = runner.write_program("def f(i, d, w): return False, 1")
    done = runner.run(program, "--task-file=t", "--print-config", *arguments, env=env)
    assert done.code == 0, done.err
    (line,) = [line for line in done.out.splitlines() if line.startswith("isolation: ")]
    return line.removeprefix("isolation: ")


def test_isolation_by_origin(runner: Runner, tmp_path: Path) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text("isolation: reuse\n")
    variable = "RMS_CLOUD_TASKS_ISOLATION"
    default = "spawn" if sys.platform == "darwin" else "fork"
    for unset in ("", "None"):
        assert print_isolation(runner, **{variable: unset}) == f"{default}  # default"
    assert print_isolation(runner, f"--config={file}") == f"reuse  # {file}, line 1"
    assert (
        print_isolation(runner, f"--config={file}", **{variable: "spawn"}) == f"spawn  # {variable}"
    )
    assert (
        print_isolation(runner, "--isolation=fork", **{variable: "spawn"}) == "fork  # command line"
    )
    outer = f"X=1,ISOLATION={zlib.crc32(b'reuse'):08x}"
    env = {variable: "reuse", "CTWORKER_OUTER_SETTINGS": outer}
    assert print_isolation(runner, **env) == f"{default}  # default"


def test_isolation_from_the_config_file(runner: Runner, tmp_path: Path) -> None:
    file = tmp_path / "worker.yaml"
    program = "def f(i, d, w): return False, str(os.getpid())"
    for isolation, processes in (("fork", 3), ("reuse", 1)):
        file.write_text(f"isolation: {isolation}\n")
        done = runner.run_tasks(program, [0, 1, 2], "--config", str(file))
        assert done.code == 0, done.err
        assert len({event["result"] for event in done.events[-3:]}) == processes


def test_invalid_isolation(runner: Runner) -> None:
    program = "def f(i, d, w): return False, 1"
    for isolation, text in (
        ("none", '--isolation "none": give fork, reuse or spawn'),
        ("task", "not valid for programs that use the Python package; give fork, reuse or spawn"),
    ):
        done = runner.run_tasks(program, [0], "--isolation", isolation)
        assert done.code == 2
        assert text in done.err


def test_program_from_standard_input_cannot_be_spawned(runner: Runner) -> None:
    with runner.write_program("def f(i, d, w): return False, 1").open() as program:
        done = runner.run("-", "--task-file=none.json", "--isolation=spawn", stdin=program)
    assert done.code == 2
    assert "save it in a file" in done.err


def help_of(mine: argparse.ArgumentParser, flag: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as raised:
        parse(mine, [flag])
    assert raised.value.code == 0
    return capsys.readouterr().out


def test_short_help_has_program_and_common_options(capsys: pytest.CaptureFixture[str]) -> None:
    mine = new_parser("--own", help="my option")
    short = help_of(mine, "-h", capsys)
    for text in ("my option", "--task-file FILE", "--job-id ID", '"mine --help" lists all'):
        assert text in short
    for text in ("--boot-disk", "--no-retry-on-exit", "RMS_CLOUD_TASKS"):
        assert text not in short
    complete = help_of(mine, "--help", capsys)
    for text in ("my option", "--task-file FILE", "--boot-disk", "RMS_CLOUD_TASKS_JOB_ID"):
        assert text in complete
    assert len(short.splitlines()) < 60


def test_program_option_h_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    mine = argparse.ArgumentParser(prog="mine", add_help=False)
    mine.add_argument("-h", "--height", type=int)
    assert parse(mine, ["-h", "5"]).args.height == 5
    assert "--boot-disk" in help_of(new_parser(), "--help", capsys)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_write_error(
    flag: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as raised:
            parse(new_parser(), [flag])
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    assert raised.value.code == 1
    assert (
        capsys.readouterr().err
        == "mine: cannot write to standard output: No space left on device\n"
    )


def test_argcomplete_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    """argcomplete is called before the command line is parsed, and gets values to complete."""
    found: dict[str, object] = {}

    def autocomplete(mine: argparse.ArgumentParser) -> None:
        for action in mine._actions:
            completer = getattr(action, "completer", None)
            found[action.option_strings[0]] = completer and completer()
        raise SystemExit(0)

    fake = types.SimpleNamespace(autocomplete=autocomplete)
    monkeypatch.setitem(sys.modules, "argcomplete", fake)  # type: ignore[arg-type]
    parse(new_parser(), [])  # does not call argcomplete, because _ARGCOMPLETE is not set
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    with pytest.raises(SystemExit):
        parse(new_parser(), ["--prov"])
    assert found["--provider"] == ["AWS", "GCP"]
    assert found["--num-simultaneous-tasks"] == ["auto"]
    assert (found["--task-file"], found["--job-id"]) == (None, [])
