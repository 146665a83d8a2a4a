"""Tests of the process of a task, which is independent of its parent and of earlier tasks."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable

import pytest

from conftest import Runner, alive


@pytest.mark.parametrize(
    "body",
    [
        "import multiprocessing as m\nwith m.Pool(2) as p: return False, p.map(abs, [-1, -2])",
        "import multiprocessing as m\nq = m.Queue(); p = m.Process(target=q.put, args=([1, 2],)); p.start()\nr = q.get(); p.join(); return False, r",
        "import concurrent.futures as c\nwith c.ProcessPoolExecutor(2) as p: return False, list(p.map(abs, [-1, -2]))",
        "import concurrent.futures as c\nwith c.ThreadPoolExecutor(2) as p: return False, list(p.map(abs, [-1, -2]))",
        "async def g(): return await asyncio.gather(asyncio.sleep(0, 1), asyncio.to_thread(abs, -2))\nreturn False, asyncio.run(g())",
        "async def g(): p = await asyncio.create_subprocess_exec('true'); return [1, 2 + await p.wait()]\nreturn False, asyncio.run(g())",
        "loop = asyncio.new_event_loop(); asyncio.set_event_loop(loop)\nreturn False, [loop.run_until_complete(asyncio.sleep(0, i)) for i in (1, 2)]",
        "import subprocess\nreturn False, [int(n) for n in subprocess.check_output(['echo', '1 2']).split()]",
    ],
)
def test_task_can_start_processes_threads_and_loops(
    runner: Runner, isolation: str, body: str
) -> None:
    event = runner.run_body(body, "--isolation", isolation)
    assert event.get("result") == [1, 2], event.get("exception")


def test_multiprocessing_in_the_program_and_in_tasks(runner: Runner) -> None:
    main = """
if __name__ == "__main__":
    import multiprocessing as m, concurrent.futures, tempfile
    with m.Pool(1) as pool, tempfile.TemporaryDirectory() as folder:
        q = m.Queue(); q.put(1); lock = m.Lock()
        keep = concurrent.futures.ThreadPoolExecutor(1); keep.submit(abs, 1).result()
        asyncio.run(Worker(f, args=sys.argv[1:]).start())
        print("still there:", os.path.isdir(folder), pool.apply(abs, [-3]))
"""
    program = """
    def f(i, d, w):
        import multiprocessing as m, concurrent.futures, tempfile
        assert not m.active_children()
        kept = tempfile.TemporaryDirectory(); print("kept", kept.name)
        globals()["keep"] = kept
        with m.Pool(1) as p, concurrent.futures.ThreadPoolExecutor(1) as t:
            return False, [p.apply(abs, [-1]), t.submit(abs, -2).result()]
    """
    done = runner.run_tasks(program, [0, 0], main=main)
    assert done.code == 0, done.err
    assert [e.get("result") for e in done.events] == [[1, 2]] * 2, done.events
    assert "still there: True 3" in done.out
    kept = [line.split()[1] for line in done.out.splitlines() if line.startswith("kept")]
    assert len(kept) == 2
    assert not [name for name in kept if os.path.exists(name)]
    assert "the program has started threads" in done.err


def test_warning_names_the_threads(runner: Runner) -> None:
    program = """
    import threading
    def f(i, d, w): return False, threading.active_count()
    """
    main = """
if __name__ == "__main__":
    stop = threading.Event()
    threading.Thread(target=stop.wait, name="my-thread").start()
    asyncio.run(Worker(f, args=sys.argv[1:]).start())
    stop.set()
"""
    done = runner.run_tasks(program, [0, 0], main=main)
    assert [e["result"] for e in done.events] == [1, 1]
    assert done.err.count("my-thread") == 1, done.err


def test_other_coroutines_continue(runner: Runner) -> None:
    program = """
    def f(i, d, w):
        while not os.path.exists("ticked"): time.sleep(0.01)
        return False, "seen"
    async def tick():
        await asyncio.sleep(0.05)
        open("ticked", "w").close()
    async def both():
        await asyncio.gather(Worker(f, args=sys.argv[1:]).start(), tick())
    """
    done = runner.run_tasks(program, [0], main='\nif __name__ == "__main__": asyncio.run(both())')
    assert (done.code, done.event_of("t0")["result"]) == (0, "seen")


def test_exit_hooks_and_output(runner: Runner) -> None:
    program = """
    import atexit, weakref, threading, logging
    logging.basicConfig(filename="task.log", level="INFO")
    print("loaded")
    class Thing: pass
    thing = Thing()
    weakref.finalize(thing, print, "parent's finalizer")
    atexit.register(print, "parent's hook")
    print("half a line", end="")
    sys.stderr.write("half an error")
    def slow():
        time.sleep(0.05)
        print("thread's end")
    def f(task_id, data, worker):
        atexit.register(print, "task's hook")
        weakref.finalize(globals().setdefault("other", Thing()), print, "task's finalizer")
        threading.Thread(target=slow).start()
        logging.info("logged")
        print("printed")
        sys.exit(3) if data else None
        return False, sys.stdin.read() + str(os.read(0, 9))
    """
    done = runner.run_tasks(program, [0, 1])
    assert done.event_of("t0")["result"] == "b''"
    assert done.event_of("t1")["exit_code"] == 3
    for once in ("loaded", "half a line", "parent's hook", "parent's finalizer"):
        assert done.out.count(once) == 1, done.out
    for twice in ("printed", "thread's end", "task's hook", "task's finalizer"):
        assert done.out.count(twice) == 2, done.out
    assert done.out.index("thread's end") < done.out.index("task's hook")
    assert done.err.count("half an error") == 1
    assert (runner.folder / "task.log").read_text().count("logged") == 2


def test_random_numbers_differ(runner: Runner) -> None:
    program = """
    import random, uuid
    def f(i, d, w): return False, [random.random(), str(uuid.uuid4()), os.urandom(8).hex()]
    """
    done = runner.run_tasks(program, [0] * 5)
    for values in zip(*(e["result"] for e in done.events)):
        assert len(set(values)) == 5


def test_numpy_is_reseeded(runner: Runner) -> None:
    program = """
    import types
    numpy_random = types.ModuleType("numpy.random")
    numpy_random.seed = lambda: setattr(numpy_random, "seeded", True)
    sys.modules["numpy.random"] = numpy_random
    def f(i, d, w): return False, getattr(numpy_random, "seeded", False)
    """
    done = runner.run_tasks(program, [0])
    assert done.event_of("t0")["result"] is True


def test_signals_and_descriptors_are_reset(runner: Runner) -> None:
    program = """
    def kinds():
        for name in os.listdir("/proc/self/fd"):
            try: yield os.readlink(f"/proc/self/fd/{name}").split(":")[0]
            except OSError: pass  # the descriptor of listdir, which has been closed
    def f(i, d, w):
        handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        assert handlers == [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert os.getpgid(0) == os.getpid()
        fds = list(kinds())
        return False, [fds.count("socket"), fds.count("anon_inode")]
    """
    done = runner.run_tasks(program, [0] * 4, "-j", "2")
    # Three sockets and one anonymous inode: the task socket, and the socket pair and the epoll of
    # the program's event loop.
    assert [e.get("result") for e in done.events] == [[3, 1]] * 4, done.events


def test_children_do_not_inherit_the_connection(runner: Runner, isolation: str) -> None:
    program = """
    import subprocess
    def f(i, d, w):
        names = [n for n in os.environ if n in ("CTWORKER_FD", "CTWORKER_CLAIM_FD", "CTWORKER_CONTROL_FD")]
        fds = subprocess.check_output(["ls", "-l", "/proc/self/fd"], close_fds=False, text=True)
        try: Worker(f)
        except RuntimeError as error: return False, [names, "socket" in fds, str(error)[:13]]
    """
    done = runner.run_tasks(program, [0], "--isolation", isolation)
    assert done.event_of("t0").get("result") == [[], False, "a task cannot"], done.events


def test_slot_and_process_variables(runner: Runner, isolation: str) -> None:
    program = """
    def f(i, d, w): return False, [os.environ["CTWORKER_SLOT"] == str(w.slot), w.slot, bool(os.environ["CTWORKER_PROCESS"])]
    """
    done = runner.run_tasks(program, [0] * 6, "-j", "2", "--isolation", isolation)
    for event in done.events:
        assert event["result"] == [True, event["slot"], True]


def test_each_task_has_a_fresh_process(runner: Runner) -> None:
    program = (
        "def f(i, d, w): global n; n = globals().get('n', 0) + 1; return False, [n, os.getpid()]"
    )
    done = runner.run_tasks(program, [0] * 20)
    results = [e["result"] for e in done.events]
    assert {n for n, _ in results} == {1}
    assert len({pid for _, pid in results}) == 20


def test_killed_prefork_loses_no_task(runner: Runner, wait_gone: Callable[[int], None]) -> None:
    # Each task with data 1 kills the process that the fork server has forked for the next task.
    program = """
    def forked():
        with open(f"/proc/{os.getppid()}/task/{os.getppid()}/children") as f:
            return {int(p) for p in f.read().split()} - {os.getpid()}
    def f(i, d, w):
        if d:
            while not (preforked := forked()): time.sleep(0.001)
            for p in preforked: os.kill(p, signal.SIGKILL)
            return False, [os.getpid(), *preforked]
        return False, [os.getpid()]
    """
    done = runner.run_tasks(program, [1, 1, 1, 0], "-j", "1")
    assert done.types() == {"task_completed": 4}, done.err
    pids = [pid for e in done.events for pid in e["result"]]
    assert len(set(pids)) == len(pids) == 7
    for pid in pids:
        wait_gone(pid)


def test_reuse_runs_many_tasks_per_process(runner: Runner) -> None:
    program = "def f(i, d, w): sys.exit(3) if d else None; global n; n = globals().get('n', 0) + 1; return False, n"
    done = runner.run_tasks(program, [0] * 500 + [1] + [0] * 500, "--isolation", "reuse")
    assert done.types() == {"task_completed": 1000, "task_exited": 1}
    assert done.event_of("t500")["exit_code"] == 3
    assert max(e.get("result", 0) for e in done.events) > 100


def test_max_tasks_per_process(runner: Runner, isolation: str) -> None:
    program = "def f(i, d, w): global n; n = globals().get('n', 0) + 1; return False, n"
    done = runner.run_tasks(
        program, [0] * 10, "--isolation", isolation, "--max-tasks-per-process", "5"
    )
    assert sorted(e["result"] for e in done.events) == sorted([1, 2, 3, 4, 5] * 2)


def test_processes_left_by_a_task_are_killed(
    runner: Runner, isolation: str, wait_gone: Callable[[int], None]
) -> None:
    program = """
    import subprocess
    def f(i, d, w): return False, subprocess.Popen(["sleep", "600"]).pid
    """
    done = runner.run_tasks(program, [0], "--isolation", isolation)
    wait_gone(done.event_of("t0")["result"])
    assert not alive(done.event_of("t0")["result"])


def test_time_out_kills_a_task_that_ignores_sigterm(runner: Runner, isolation: str) -> None:
    program = """
    def f(i, d, w):
        if d: return False, 1
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True: signal.pause()
    """
    done = runner.run_tasks(
        program, [0, 1], "--max-runtime", "0.3", "--kill-delay", "0.1", "--isolation", isolation
    )
    assert done.event_of("t0")["event_type"] == "task_timed_out"
    assert done.event_of("t1")["event_type"] == "task_completed"


def test_time_out_terminates_the_process_group(runner: Runner) -> None:
    program = """
    import subprocess
    def f(i, d, w):
        code = "import signal, sys; signal.signal(15, lambda *a: (open('terminated', 'w').close(), sys.exit())); print(flush=True); signal.pause()"
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE).stdout.readline()
        signal.pause()
    """
    done = runner.run_tasks(program, [0], "--max-runtime", "2", "--kill-delay", "10")
    assert done.event_of("t0")["event_type"] == "task_timed_out"
    assert (runner.folder / "terminated").exists()


def test_fork_that_returns_sends_no_reply(runner: Runner, isolation: str) -> None:
    program = """
    def f(i, d, w):
        if d == "fork": os.fork()
        return False, d
    """
    done = runner.run_tasks(program, ["fork", "a", "fork", "b"], "--isolation", isolation)
    assert (done.code, done.types()) == (0, {"task_completed": 4}), done.err
    assert done.event_of("t1")["result"] == "a"


def test_worker_inside_a_task(runner: Runner, isolation: str) -> None:
    """A worker that a task starts ignores the settings of the outer run. So do its tasks."""
    inner = runner.folder / "inner.py"
    inner.write_text(
        textwrap.dedent(
            """
            import asyncio, os, sys
            from ctworker import Worker
            def f(i, d, w):
                return False, [os.environ.get(n) for n in sys.argv[1:3]] + [w.max_num_tasks]
            if __name__ == "__main__":
                names, flags = sys.argv[1:3], sys.argv[3:]
                asyncio.run(Worker(f, args=flags).start())
            """
        )
    )
    program = """
    import subprocess
    def f(i, d, w):
        command = [sys.executable, "inner.py", "RMS_CLOUD_TASKS_TO_SKIP", "CTWORKER_OUTSIDE",
            "--task-file", "tasks.json", "--event-log-file", "inner"]
        subprocess.run(command, check=True, env={**os.environ, "CTWORKER_OUTSIDE": "left over"})
        return False, open("inner").read()
    """
    flags = ("--isolation", isolation, "--tasks-to-skip", "2", "--max-num-tasks", "1")
    done = runner.run_tasks(program, [0] * 4, *flags)
    (event,) = [e for e in done.events if e["event_type"] == "task_completed"]
    inner_events = [json.loads(line) for line in event["result"].splitlines()]
    assert [e["result"] for e in inner_events] == [["0", None, None]] * 4, inner_events
