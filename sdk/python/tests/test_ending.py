"""How a run ends: signals, kills and misuse. Nothing is left behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Lab

# Each task says who it is and what it started, and then waits for what the test does.
WAITING = """
import subprocess
def f(task_id, data, worker):
    left = subprocess.Popen(["sleep", "600"])
    print("running", os.getpid(), os.getppid(), left.pid, flush=True)
    while not worker.received_shutdown_request: time.sleep(0.01)
    return False, "in time"
"""


def begin(
    lab: Lab, *arguments: str, program: str = WAITING, **options: Any
) -> tuple[Any, list[int]]:
    """Start a program of one task, and return it with the pids that the task told."""
    worker = lab.write(program)
    started = lab.start(worker, "--task-file", lab.tasks([0, 0]), *arguments, **options)
    assert started.stdout is not None
    word, *pids = started.stdout.readline().split()
    assert word == "running"
    return started, [int(pid) for pid in pids]


def test_a_termination_notice_is_seen(lab: Lab, isolation: str) -> None:
    worker = lab.write(
        """
        def f(task_id, data, worker):
            while not worker.received_termination_notice: time.sleep(0.01)
            return False, worker.received_shutdown_request
        """
    )
    arguments = ["-j", "1", "--isolation", isolation, "--simulate-spot-termination-after", "3"]
    done = lab.run(worker, "--task-file", lab.tasks([0, 0]), *arguments)
    assert done.code == 0, done.err
    assert done.types() == {"task_completed": 1, "spot_termination": 1}
    assert [e["result"] for e in done.events if e["event_type"] == "task_completed"] == [False]


def test_a_signal_at_a_termination_notice(lab: Lab, isolation: str) -> None:
    worker = lab.write(
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
    tasks = lab.tasks([0])
    done = lab.run(
        worker, "--task-file", tasks, *arguments, "--signal-on-termination", "USR1", "-j", "1"
    )
    assert done.code == 0, done.err
    assert [e.get("result") for e in done.events if "retry" in e] == [True], done.events


def test_the_example_does_not_begin_to_write(lab: Lab) -> None:
    example = Path(__file__).parents[3] / "examples" / "commit" / "worker.py"
    worker = lab.folder / "worker.py"
    worker.write_text(example.read_text())
    arguments = ["-j", "1", "--simulate-spot-termination-after", "1.6"]
    done = lab.run(worker, "--task-file", lab.tasks([0] * 5), *arguments)
    assert done.code == 0, done.err
    assert [e["retry"] for e in done.events if "retry" in e] == [False, True]
    assert [path.name for path in lab.folder.glob("*.result*")] == ["t0.result"]


def engine_of(host: int) -> int:
    """The pid of a host's child that is the engine."""
    children = Path(f"/proc/{host}/task/{host}/children").read_text().split()
    (engine,) = [
        int(c) for c in children if b"\0engine\0" in Path(f"/proc/{c}/cmdline").read_bytes()
    ]
    return engine


def state_of(pid: int) -> str:
    """A process's state, as ps shows it: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize(("sig", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_tasks_finish(
    lab: Lab, isolation: str, sig: signal.Signals, code: int, wait_gone: Callable[[int], None]
) -> None:
    started, pids = begin(lab, "--isolation", isolation)
    started.send_signal(sig)
    done = lab.finish(started)
    assert done.of("t0")["result"] == "in time"
    assert len(done.events) == 1
    assert done.code in (0, code), done.err
    for pid in (pids[0], pids[2]):
        wait_gone(pid)


def test_a_second_signal_ends_at_once(lab: Lab, wait_gone: Callable[[int], None]) -> None:
    program = """
    def f(task_id, data, worker):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("running", os.getpid(), flush=True)
        while not worker.received_shutdown_request: time.sleep(0.01)
        print("told", flush=True)
        while True: signal.pause()
    """
    started, pids = begin(lab, "--kill-delay", "0.1", program=program)
    started.send_signal(signal.SIGINT)
    assert started.stdout.readline() == "told\n"
    started.send_signal(signal.SIGINT)
    done = lab.finish(started)
    assert done.code == 130, done.err
    wait_gone(pids[0])


def test_nohup(lab: Lab) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    started, _ = begin(lab, preexec_fn=ignore)
    started.send_signal(signal.SIGHUP)
    started.send_signal(signal.SIGTERM)
    done = lab.finish(started)
    assert "hangup" not in done.err
    assert done.of("t0")["result"] == "in time"


def test_cancelling_start(lab: Lab) -> None:
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
    done = lab.over(program, [0], main='\nif __name__ == "__main__": asyncio.run(main())')
    assert done.code == 0, done.err
    assert done.of("t0")["result"] == "in time"
    assert done.out.splitlines() == [
        "cancelled",
        "Handlers.SIG_DFL []",
    ] or done.out.splitlines() == ["cancelled", "0 []"]


def test_the_host_is_killed(lab: Lab, isolation: str, wait_gone: Callable[[int], None]) -> None:
    started, pids = begin(lab, "--isolation", isolation)
    engine = engine_of(started.pid)
    started.kill()
    started.wait()
    for pid in (pids[0], engine, pids[2]):
        wait_gone(pid)


def test_the_engine_is_killed(lab: Lab, isolation: str, wait_gone: Callable[[int], None]) -> None:
    started, pids = begin(lab, "--isolation", isolation)
    os.kill(engine_of(started.pid), signal.SIGKILL)
    done = lab.finish(started)
    assert done.code == 137
    assert "the engine was killed by signal 9 (SIGKILL)" in done.err
    for pid in (pids[0], pids[2]):
        wait_gone(pid)


def test_ctrl_z_pauses_the_run(lab: Lab, wait_for: Callable[[Callable[[], bool]], None]) -> None:
    program = """
    def f(i, d, w):
        open(f"ran-{i}", "w").close()
        return False, time.sleep(0.05)
    """
    worker, tasks = lab.write(program), lab.tasks([0] * 100)
    # A group of its own, as a shell gives it: the system stops no orphaned one.
    started = lab.start(worker, "--task-file", tasks, "-j", "2", preexec_fn=os.setpgrp)
    wait_for(lambda: (lab.folder / "ran-t3").exists())
    engine = engine_of(started.pid)
    started.send_signal(signal.SIGTSTP)
    wait_for(lambda: state_of(started.pid) == state_of(engine) == "T")
    started.send_signal(signal.SIGCONT)
    done = lab.finish(started)
    assert (done.code, done.types()) == (0, {"task_completed": 100}), done.err


DAEMONS = {
    "with its environment": 'p = subprocess.Popen(["sleep", "600"], start_new_session=True).pid',
    "without": 'p = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, env={}).pid',
    "a fork": """
            p = os.fork()
            if p == 0: os.setsid(); time.sleep(600); os._exit(0)""",
}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_what_a_task_leaves_in_a_session_of_its_own(
    lab: Lab, daemon: str, wait_gone: Callable[[int], None]
) -> None:
    program = f"""
    import subprocess
    def f(i, d, w):
        if d == "leave":
            {DAEMONS[daemon]}
            print(p, flush=True)
        elif d == "nap": # it is seen while this runs, and may be of this
            time.sleep(1.5)
        else: # goes on, so that it is not the end of the run that clears up
            while not os.path.exists("go"): time.sleep(0.01)
        return False, None
    """
    worker, tasks = lab.write(program), lab.tasks(["leave", "nap", "stay"])
    started = lab.start(worker, "--task-file", tasks)
    assert started.stdout is not None
    wait_gone(int(started.stdout.readline()))
    (lab.folder / "go").touch()
    done = lab.finish(started)
    assert (done.code, done.types()) == (0, {"task_completed": 3}), done.err


@pytest.mark.parametrize("daemon", DAEMONS)
def test_no_daemon_outlives_the_run(
    lab: Lab, isolation: str, daemon: str, wait_gone: Callable[[int], None]
) -> None:
    program = f"""
    import subprocess
    def f(i, d, w):
        if True:
            {DAEMONS[daemon]}
        return False, p
    """
    done = lab.over(program, [0], "--isolation", isolation, stdin=subprocess.DEVNULL)
    wait_gone(int(done.of("t0")["result"]))


def test_the_fork_server_is_killed(lab: Lab, wait_gone: Callable[[int], None]) -> None:
    program = """
    def f(i, d, w):
        if d == 3: os.kill(os.getppid(), signal.SIGKILL)
        return False, time.sleep(0.2)
    """
    rounds = 3 if os.environ.get("CTWORKER_FULL") else 1
    for isolation in ("fork", "reuse") * rounds:
        done = lab.over(program, list(range(20)), "-j", "4", "--isolation", isolation)
        assert done.code == 1
        assert "the program that started ctworker has ended" in done.err
        # Nobody is told that the tasks which died with it had exited.
        assert set(done.types()) <= {"task_completed", "fatal_exception"}
        assert done.events[-1]["event_type"] == "fatal_exception"
        (lab.folder / "events.log").unlink()


@pytest.mark.parametrize("last", [False, True])
def test_the_fork_server_is_stopped(lab: Lab, last: bool) -> None:
    """A task that stops its parent ends the run within its limits, even as the last task."""
    program = """
    def f(i, d, w):
        if d == "stop": os.kill(os.getppid(), signal.SIGSTOP)
        return False, time.sleep(0.05)
    """
    data = ["stop"] if last else [0] * 4 + ["stop"] + [0] * 100
    for isolation in ("fork", "reuse"):
        flags = ("-j", "2", "--kill-delay", "0", "--max-runtime", "3", "--isolation", isolation)
        done = lab.over(program, data, *flags)
        if last and done.code == 0:  # the task was over, and the server was killed at the end
            assert done.types() == {"task_completed": 1}
        else:
            assert done.code == 1, done.err
            assert "was stopped by a signal" in done.err
            assert done.events[-1]["event_type"] == "fatal_exception"
            assert "must not send SIGSTOP to its parent" in done.events[-1]["exception"]
        (lab.folder / "events.log").unlink()


@pytest.mark.parametrize("stopped", ["itself", "its group", "its guard"])
def test_a_task_that_stops_something_of_its_own(
    lab: Lab, isolation: str, stopped: str, wait_gone: Callable[[int], None]
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
    done = lab.over(program, [stopped, 0], *flags)
    assert done.code == 0, done.err
    assert done.of("t1")["event_type"] == "task_completed"
    if stopped == "its guard":
        assert done.types() == {"task_completed": 2}
    else:
        assert done.of("t0")["event_type"] == "task_timed_out"


@pytest.mark.parametrize("killed", ["the program", "the program and the engine"])
@pytest.mark.parametrize("daemon", ["with its environment", "a fork"])
def test_no_daemon_outlives_a_program_that_is_killed(
    lab: Lab, isolation: str, daemon: str, killed: str, wait_gone: Callable[[int], None]
) -> None:
    program = f"""
    import subprocess
    def f(i, d, w):
        if True:
            {DAEMONS[daemon]}
        print("running", p, flush=True)
        time.sleep(600)
    """
    started, (pid, *_) = begin(lab, "--isolation", isolation, program=program)
    engine = engine_of(started.pid)
    if killed == "the program and the engine":
        os.kill(engine, signal.SIGSTOP)  # so that it sees nothing between the two kills
        os.kill(engine, signal.SIGKILL)
    started.kill()
    started.wait()
    wait_gone(pid)


@pytest.mark.parametrize("wait", ["os.kill(os.getpid(), signal.SIGSTOP)", "signal.pause()"])
def test_a_source_that_waits_ends_with_the_run(
    lab: Lab, wait: str, wait_gone: Callable[[int], None]
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
    worker = lab.write(program, main=main)
    started = lab.start(worker, "--event-log-to-file", "--shutdown-grace-period", "0.1")
    assert started.stdout is not None
    pid = int(started.stdout.readline().split()[1])
    started.terminate()
    done = lab.finish(started)
    assert done.code in (0, 143), done.err
    wait_gone(pid)


def test_slots_that_cannot_be_started_do_not_hold_up_the_end(lab: Lab) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))

    worker = lab.write("def f(i, d, w): return False, time.sleep(0.005)")
    tasks = lab.tasks([0] * 400)
    started = lab.start(
        worker, "--task-file", tasks, "-j", "100", "--isolation", "reuse", preexec_fn=few
    )
    started.communicate(timeout=15)  # it was 20 s and more
    assert (started.returncode, len(lab.events())) == (0, 400)


def test_closed_standard_streams(lab: Lab) -> None:
    worker = lab.write("def f(i, d, w): return False, [sys.stdin.read(), os.read(0, 9).decode()]")
    tasks = lab.tasks([0])
    command = f'exec "$0" {worker} --task-file {tasks} <&- >&- 2>&-'
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    code = subprocess.run(
        ["sh", "-c", command, __import__("sys").executable], cwd=lab.folder, env=environment
    ).returncode
    assert code == 0
    assert lab.events()[0].get("result") == ["", ""], lab.events()


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


def test_misuse(lab: Lab) -> None:
    done = lab.over(MISUSE, [0], main='\nif __name__ == "__main__": asyncio.run(twice())')
    assert (done.code, len(done.events)) == (1, 1)
    assert "RuntimeError: start() was called before" in done.err
    done = lab.over(MISUSE, [0], main='\nif __name__ == "__main__": elsewhere()')
    assert "start() must run on the main thread" in done.out
    done = lab.over("f = 5", [0])
    assert "TypeError: user_worker_function must be a function" in done.err


def test_two_workers_one_after_the_other(lab: Lab) -> None:
    program = """
    def f(i, d, w): return False, os.getppid()
    async def both():
        for _ in range(2): await Worker(f, args=sys.argv[1:]).start()
        print(len(os.listdir("/proc/self/fd")))
        for _ in range(5): await Worker(f, args=sys.argv[1:]).start()
        print(len(os.listdir("/proc/self/fd")))
    """
    done = lab.over(program, [0], main='\nif __name__ == "__main__": asyncio.run(both())')
    assert done.code == 0, done.err
    first, second = done.out.split()
    assert first == second


def test_strict(lab: Lab) -> None:
    assert lab.over("def f(i, d, w): raise ValueError", [0], "--strict").code == 3


def test_without_pidfd(lab: Lab) -> None:
    program = """
    import ctworker._poller as p, ctworker._supervisor as h, ctworker._forkserver as s
    h.new_poller = s.new_poller = p.SigchldPoller
    def f(i, d, w): return False, 1
    """
    done = lab.over(program, [0] * 200, "-j", "4")
    assert (done.code, done.types()) == (0, {"task_completed": 200}), done.err


def test_children_are_not_to_be_forgotten(lab: Lab) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    done = lab.over("def f(i, d, w): os._exit(7)", [0], preexec_fn=ignore)
    assert done.of("t0")["exit_code"] == 7


def test_forks_that_fail_are_tried_again(lab: Lab) -> None:
    program = """
    import errno
    fork, calls = os.fork, iter(range(10**9))
    def sometimes():
        if next(calls) % 2 == 0: raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return fork()
    os.fork = sometimes
    def f(i, d, w): return False, 1
    """
    done = lab.over(program, [0] * 5)
    assert (done.code, done.types()) == (0, {"task_completed": 5}), done.err
