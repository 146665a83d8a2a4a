"""Tests of the end of a run, by signals, kills and misuse. No process may survive the run."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Runner

# Each task prints the pids of its process, parent and child, and waits for a shutdown request.
WAITING = """
import subprocess
def f(task_id, data, worker):
    child = subprocess.Popen(["sleep", "600"])
    print("running", os.getpid(), os.getppid(), child.pid, flush=True)
    while not worker.received_shutdown_request: time.sleep(0.01)
    return False, "in time"
"""


def start_program(
    runner: Runner, *arguments: str, program: str = WAITING, **options: Any
) -> tuple[Any, list[int]]:
    """Start a program over two tasks, and return it with the pids that the first task printed."""
    worker = runner.write_program(program)
    started = runner.start(worker, "--task-file", runner.write_tasks([0, 0]), *arguments, **options)
    assert started.stdout is not None
    word, *pids = started.stdout.readline().split()
    assert word == "running"
    return started, [int(pid) for pid in pids]


def test_termination_notification(runner: Runner, isolation: str) -> None:
    worker = runner.write_program(
        """
        def f(task_id, data, worker):
            while not worker.received_termination_notice: time.sleep(0.01)
            return False, worker.received_shutdown_request
        """
    )
    arguments = ["-j", "1", "--isolation", isolation, "--simulate-spot-termination-after", "3"]
    done = runner.run(worker, "--task-file", runner.write_tasks([0, 0]), *arguments)
    assert done.code == 0, done.err
    assert done.types() == {"task_completed": 1, "spot_termination": 1}
    assert [e["result"] for e in done.events if e["event_type"] == "task_completed"] == [False]


def test_signal_on_termination(runner: Runner, isolation: str) -> None:
    worker = runner.write_program(
        """
        import signal
        def f(task_id, data, worker):
            signal.sigwait({signal.SIGUSR1})
            return False, worker.received_termination_notice
        if __name__ == "__main__":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        """
    )
    arguments = ["--isolation", isolation, "--simulate-spot-termination-after", "3"]
    tasks = runner.write_tasks([0])
    done = runner.run(
        worker, "--task-file", tasks, *arguments, "--signal-on-termination", "USR1", "-j", "1"
    )
    assert done.code == 0, done.err
    assert [e.get("result") for e in done.events if "retry" in e] == [True], done.events


def test_commit_example_writes_nothing_after_the_notification(runner: Runner) -> None:
    example = Path(__file__).parents[3] / "examples" / "commit" / "worker.py"
    worker = runner.folder / "worker.py"
    worker.write_text(example.read_text())
    arguments = ["-j", "1", "--simulate-spot-termination-after", "1.6"]
    done = runner.run(worker, "--task-file", runner.write_tasks([0] * 5), *arguments)
    assert done.code == 0, done.err
    assert [e["retry"] for e in done.events if "retry" in e] == [False, True]
    assert [path.name for path in runner.folder.glob("*.result*")] == ["t0.result"]


def engine_of(program: int) -> int:
    """Return the pid of the engine, a child of the program."""
    children = Path(f"/proc/{program}/task/{program}/children").read_text().split()
    (engine,) = [
        int(c) for c in children if b"\0engine\0" in Path(f"/proc/{c}/cmdline").read_bytes()
    ]
    return engine


def state_of(pid: int) -> str:
    """Return the state of a process as a letter, as in ps. T means suspended."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize(("sig", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_first_signal_lets_tasks_finish(
    runner: Runner, isolation: str, sig: signal.Signals, code: int, wait_gone: Callable[[int], None]
) -> None:
    started, pids = start_program(runner, "--isolation", isolation)
    started.send_signal(sig)
    done = runner.finish(started)
    assert done.event_of("t0")["result"] == "in time"
    assert len(done.events) == 1
    assert done.code in (0, code), done.err
    for pid in (pids[0], pids[2]):
        wait_gone(pid)


def test_second_signal_kills_tasks(runner: Runner, wait_gone: Callable[[int], None]) -> None:
    program = """
    def f(task_id, data, worker):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("running", os.getpid(), flush=True)
        while not worker.received_shutdown_request: time.sleep(0.01)
        print("notified", flush=True)
        while True: signal.pause()
    """
    started, pids = start_program(runner, "--kill-delay", "0.1", program=program)
    started.send_signal(signal.SIGINT)
    assert started.stdout.readline() == "notified\n"
    started.send_signal(signal.SIGINT)
    done = runner.finish(started)
    assert done.code == 130, done.err
    wait_gone(pids[0])


def test_nohup(runner: Runner) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    started, _ = start_program(runner, preexec_fn=ignore)
    started.send_signal(signal.SIGHUP)
    started.send_signal(signal.SIGTERM)
    done = runner.finish(started)
    assert "hangup" not in done.err
    assert done.event_of("t0")["result"] == "in time"


def test_cancelling_start(runner: Runner) -> None:
    program = """
    def f(task_id, data, worker):
        open("running", "w").close()
        while not worker.received_shutdown_request: time.sleep(0.01)
        return False, "in time"
    async def main():
        running = asyncio.ensure_future(Worker(f, args=sys.argv[1:]).start())
        while not os.path.exists("running"): await asyncio.sleep(0.01)
        running.cancel()
        try: await running
        except asyncio.CancelledError: print("cancelled")
        print(signal.getsignal(signal.SIGTERM), [n for n in os.environ if n.startswith("CTWORKER_S")])
    """
    done = runner.run_tasks(program, [0], main='\nif __name__ == "__main__": asyncio.run(main())')
    assert done.code == 0, done.err
    assert done.event_of("t0")["result"] == "in time"
    assert done.out.splitlines() == [
        "cancelled",
        "Handlers.SIG_DFL []",
    ] or done.out.splitlines() == ["cancelled", "0 []"]


def test_killed_program(runner: Runner, isolation: str, wait_gone: Callable[[int], None]) -> None:
    started, pids = start_program(runner, "--isolation", isolation)
    engine = engine_of(started.pid)
    started.kill()
    started.wait()
    for pid in (pids[0], engine, pids[2]):
        wait_gone(pid)


def test_killed_engine(runner: Runner, isolation: str, wait_gone: Callable[[int], None]) -> None:
    started, pids = start_program(runner, "--isolation", isolation)
    os.kill(engine_of(started.pid), signal.SIGKILL)
    done = runner.finish(started)
    assert done.code == 137
    assert "the engine was killed by signal 9 (SIGKILL)" in done.err
    for pid in (pids[0], pids[2]):
        wait_gone(pid)


def test_ctrl_z_suspends_the_run(
    runner: Runner, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    program = """
    def f(i, d, w):
        open(f"ran-{i}", "w").close()
        return False, time.sleep(0.05)
    """
    worker, tasks = runner.write_program(program), runner.write_tasks([0] * 100)
    # Start the program in its own process group, as a shell does. The kernel ignores SIGTSTP for
    # an orphaned process group, and the group of this test could be one.
    started = runner.start(worker, "--task-file", tasks, "-j", "2", preexec_fn=os.setpgrp)
    wait_for(lambda: (runner.folder / "ran-t3").exists())
    engine = engine_of(started.pid)
    started.send_signal(signal.SIGTSTP)
    wait_for(lambda: state_of(started.pid) == state_of(engine) == "T")
    started.send_signal(signal.SIGCONT)
    done = runner.finish(started)
    assert (done.code, done.types()) == (0, {"task_completed": 100}), done.err


DAEMONS = {
    "with its environment": 'p = subprocess.Popen(["sleep", "600"], start_new_session=True).pid',
    "without": 'p = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, env={}).pid',
    "a fork": """
            p = os.fork()
            if p == 0: os.setsid(); time.sleep(600); os._exit(0)""",
}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_daemon_of_a_finished_task_is_killed(
    runner: Runner, daemon: str, wait_gone: Callable[[int], None]
) -> None:
    program = f"""
    import subprocess
    def f(i, d, w):
        if d == "leave":
            {DAEMONS[daemon]}
            print(p, flush=True)
        elif d == "nap":  # the scan for orphans, every second, finds the daemon during this task
            time.sleep(1.5)
        else:  # keeps the run from ending, because its end would also kill the daemon
            while not os.path.exists("go"): time.sleep(0.01)
        return False, None
    """
    worker, tasks = (
        runner.write_program(program),
        runner.write_tasks(["leave", "nap", "stay"]),
    )
    started = runner.start(worker, "--task-file", tasks)
    assert started.stdout is not None
    wait_gone(int(started.stdout.readline()))
    (runner.folder / "go").touch()
    done = runner.finish(started)
    assert (done.code, done.types()) == (0, {"task_completed": 3}), done.err


@pytest.mark.parametrize("daemon", DAEMONS)
def test_no_daemon_survives_the_run(
    runner: Runner, isolation: str, daemon: str, wait_gone: Callable[[int], None]
) -> None:
    program = f"""
    import subprocess
    def f(i, d, w):
        if True:
            {DAEMONS[daemon]}
        return False, p
    """
    done = runner.run_tasks(program, [0], "--isolation", isolation, stdin=subprocess.DEVNULL)
    wait_gone(int(done.event_of("t0")["result"]))


def test_killed_fork_server(runner: Runner, wait_gone: Callable[[int], None]) -> None:
    program = """
    def f(i, d, w):
        if d == 3: os.kill(os.getppid(), signal.SIGKILL)
        return False, time.sleep(0.2)
    """
    rounds = 3 if os.environ.get("CTWORKER_FULL") else 1
    for isolation in ("fork", "reuse") * rounds:
        done = runner.run_tasks(program, list(range(20)), "-j", "4", "--isolation", isolation)
        assert done.code == 1
        assert "fork server exited" in done.err
        # No event task_exited is written for the tasks that were killed with the fork server.
        assert set(done.types()) <= {"task_completed", "fatal_exception"}
        assert done.events[-1]["event_type"] == "fatal_exception"
        (runner.folder / "events.log").unlink()


@pytest.mark.parametrize("last", [False, True])
def test_stopped_fork_server(runner: Runner, last: bool) -> None:
    """A run ends even if a task, which may be the last one, suspends the fork server."""
    program = """
    def f(i, d, w):
        if d == "stop": os.kill(os.getppid(), signal.SIGSTOP)
        return False, time.sleep(0.05)
    """
    data = ["stop"] if last else [0] * 4 + ["stop"] + [0] * 100
    for isolation in ("fork", "reuse"):
        flags = ("-j", "2", "--kill-delay", "0", "--max-runtime", "3", "--isolation", isolation)
        done = runner.run_tasks(program, data, *flags)
        if last and done.code == 0:  # the task ended before the engine killed the fork server
            assert done.types() == {"task_completed": 1}
        else:
            assert done.code == 1, done.err
            assert "was stopped by a signal" in done.err
            assert done.events[-1]["event_type"] == "fatal_exception"
            assert "must not send SIGSTOP to its parent" in done.events[-1]["exception"]
        (runner.folder / "events.log").unlink()


@pytest.mark.parametrize("stopped", ["itself", "its group", "its guard"])
def test_task_that_stops_its_own_processes(
    runner: Runner, isolation: str, stopped: str, wait_gone: Callable[[int], None]
) -> None:
    program = """
    import subprocess
    def guards():
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try: environ = open(f"/proc/{pid}/environ", "rb").read()
            except OSError: continue
            if environ.startswith(b"CTWORKER_GUARD=" + os.environ["CTWORKER_PROCESS"].split(".")[0].encode()):
                yield int(pid)
    def f(i, d, w):
        if d == "itself": os.kill(os.getpid(), signal.SIGSTOP)
        if d == "its group": os.killpg(0, signal.SIGSTOP)
        if d == "its guard":
            (guard,) = guards()
            os.kill(guard, signal.SIGSTOP)
        return False, 1
    """
    flags = ("--max-runtime", "0.3", "--kill-delay", "0.2", "--isolation", isolation)
    done = runner.run_tasks(program, [stopped, 0], *flags)
    assert done.code == 0, done.err
    assert done.event_of("t1")["event_type"] == "task_completed"
    if stopped == "its guard":
        assert done.types() == {"task_completed": 2}
    else:
        assert done.event_of("t0")["event_type"] == "task_timed_out"


@pytest.mark.parametrize("killed", ["the program", "the program and the engine"])
@pytest.mark.parametrize("daemon", ["with its environment", "a fork"])
def test_no_daemon_survives_a_killed_program(
    runner: Runner, isolation: str, daemon: str, killed: str, wait_gone: Callable[[int], None]
) -> None:
    program = f"""
    import subprocess
    def f(i, d, w):
        if True:
            {DAEMONS[daemon]}
        print("running", p, flush=True)
        time.sleep(600)
    """
    started, (pid, *_) = start_program(runner, "--isolation", isolation, program=program)
    engine = engine_of(started.pid)
    if killed == "the program and the engine":
        os.kill(engine, signal.SIGSTOP)  # keeps the engine from acting before the program is killed
        os.kill(engine, signal.SIGKILL)
    started.kill()
    started.wait()
    wait_gone(pid)


@pytest.mark.parametrize("wait", ["os.kill(os.getpid(), signal.SIGSTOP)", "signal.pause()"])
def test_waiting_source_is_killed_at_the_end(
    runner: Runner, wait: str, wait_gone: Callable[[int], None]
) -> None:
    program = f"""
    def f(task_id, data, worker):
        return False, 1
    def source():
        yield {{"task_id": "t0", "data": 0}}
        print("running", os.getpid(), flush=True)
        while True: {wait}
    """
    main = '\nif __name__ == "__main__": asyncio.run(Worker(f, args=sys.argv[1:], task_source=source).start())'
    worker = runner.write_program(program, main=main)
    started = runner.start(worker, "--event-log-to-file", "--shutdown-grace-period", "0.1")
    assert started.stdout is not None
    pid = int(started.stdout.readline().split()[1])
    started.terminate()
    done = runner.finish(started)
    assert done.code in (0, 143), done.err
    wait_gone(pid)


def test_slots_without_a_process_do_not_delay_the_end(runner: Runner) -> None:
    def limit_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))

    worker = runner.write_program("def f(i, d, w): return False, time.sleep(0.005)")
    tasks = runner.write_tasks([0] * 400)
    started = runner.start(
        worker,
        "--task-file",
        tasks,
        "-j",
        "100",
        "--isolation",
        "reuse",
        preexec_fn=limit_descriptors,
    )
    # A run that waits for a process in every slot takes more than 20 seconds.
    started.communicate(timeout=15)
    assert (started.returncode, len(runner.events())) == (0, 400)


def test_closed_standard_streams(runner: Runner) -> None:
    worker = runner.write_program(
        "def f(i, d, w): return False, [sys.stdin.read(), os.read(0, 9).decode()]"
    )
    tasks = runner.write_tasks([0])
    command = f'exec "$0" {worker} --task-file {tasks} <&- >&- 2>&-'
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    code = subprocess.run(
        ["sh", "-c", command, __import__("sys").executable], cwd=runner.folder, env=environment
    ).returncode
    assert code == 0
    assert runner.events()[0].get("result") == ["", ""], runner.events()


MISUSE = """
def f(i, d, w): return False, 1
async def twice():
    worker = Worker(f, args=sys.argv[1:])
    await worker.start()
    await worker.start()
def elsewhere():
    import threading
    def run():
        try: asyncio.run(Worker(f, args=sys.argv[1:]).start())
        except RuntimeError as error: print(error)
    thread = threading.Thread(target=run); thread.start(); thread.join()
"""


def test_misuse(runner: Runner) -> None:
    done = runner.run_tasks(MISUSE, [0], main='\nif __name__ == "__main__": asyncio.run(twice())')
    assert (done.code, len(done.events)) == (1, 1)
    assert "RuntimeError: start() was called before" in done.err
    done = runner.run_tasks(MISUSE, [0], main='\nif __name__ == "__main__": elsewhere()')
    assert "start() must run on the main thread" in done.out
    done = runner.run_tasks("f = 5", [0])
    assert "TypeError: user_worker_function must be a function" in done.err


def test_consecutive_workers(runner: Runner) -> None:
    program = """
    def f(i, d, w): return False, os.getppid()
    async def run_all():
        for _ in range(2): await Worker(f, args=sys.argv[1:]).start()
        print(len(os.listdir("/proc/self/fd")))
        for _ in range(5): await Worker(f, args=sys.argv[1:]).start()
        print(len(os.listdir("/proc/self/fd")))
    """
    done = runner.run_tasks(
        program, [0], main='\nif __name__ == "__main__": asyncio.run(run_all())'
    )
    assert done.code == 0, done.err
    first, second = done.out.split()
    assert first == second


def test_strict(runner: Runner) -> None:
    assert runner.run_tasks("def f(i, d, w): raise ValueError", [0], "--strict").code == 3


def test_sigchld_poller(runner: Runner) -> None:
    program = """
    import ctworker._poller as p, ctworker._supervisor as h, ctworker._forkserver as s
    h.new_poller = s.new_poller = p.SigchldPoller
    def f(i, d, w): return False, 1
    """
    done = runner.run_tasks(program, [0] * 200, "-j", "4")
    assert (done.code, done.types()) == (0, {"task_completed": 200}), done.err


def test_exit_code_despite_ignored_sigchld(runner: Runner) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    done = runner.run_tasks("def f(i, d, w): os._exit(7)", [0], preexec_fn=ignore)
    assert done.event_of("t0")["exit_code"] == 7


def test_failed_forks_are_retried(runner: Runner) -> None:
    program = """
    import errno
    fork, calls = os.fork, iter(range(10**9))
    def sometimes():
        if next(calls) % 2 == 0: raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return fork()
    os.fork = sometimes
    def f(i, d, w): return False, 1
    """
    done = runner.run_tasks(program, [0] * 5)
    assert (done.code, done.types()) == (0, {"task_completed": 5}), done.err
