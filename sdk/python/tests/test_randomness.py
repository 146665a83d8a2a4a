"""Tests of random numbers, which must differ between tasks for every kind of generator."""

from __future__ import annotations

import pytest

from conftest import Runner

# Maps the name of a case to a part of a program. The part creates a generator before the tasks run,
# and defines the function draw, which uses the generator.
GENERATORS = {
    "random.Random()": "G = random.Random()\ndef draw(): return G.random()",
    "a seeded random.Random": "G = random.Random(7)\ndef draw(): return G.random()",
    "the second normal deviate": "G = random.Random(); G.gauss()\ndef draw(): return G.gauss()",
    "the module random": "random.seed(7)\ndef draw(): return random.random()",
    "default_rng()": "G = np.random.default_rng()\ndef draw(): return G.random()",
    "a buffered half word": "G = np.random.default_rng(); G.integers(9, dtype=np.uint32)\n"
    "def draw(): return [int(n) for n in G.integers(2**32, size=3, dtype=np.uint32)]",
    "spawned seed sequences": "G = np.random.default_rng()\ndef draw(): return G.bit_generator.seed_seq.spawn(1)[0].generate_state(4).tolist()",
    "another bit generator": "G = np.random.Generator(np.random.Philox())\ndef draw(): return G.random()",
    "a bit generator": "G = np.random.SFC64()\ndef draw(): return int(G.random_raw())",
    "RandomState()": "G = np.random.RandomState()\ndef draw(): return G.random_sample()",
    "the second deviate of a RandomState": "G = np.random.RandomState(); G.randn()\ndef draw(): return G.randn()",
    "the second deviate of a RandomState with PCG64": "G = np.random.RandomState(np.random.PCG64()); G.randn()\ndef draw(): return [G.randn(), G.randn()]",
    "the functions of numpy.random": "np.random.seed(7); np.random.randn()\ndef draw(): return np.random.randn()",
    "a list of generators": "G = [{'a': random.Random()}]\ndef draw(): return G[0]['a'].random()",
    "an attribute": "class C:\n    def __init__(self): self.g = np.random.default_rng()\n"
    "G = C()\ndef draw(): return G.g.random()",
    "a class": "class C:\n    g = random.Random()\ndef draw(): return C.g.random()",
    "a default argument": "def draw(g=np.random.default_rng()): return g.random()",
    "a closure": "def outer():\n    g = random.Random()\n    return lambda: g.random()\ndraw = outer()",
    "a subclass": "class Mine(random.Random): pass\nG = Mine()\ndef draw(): return G.random()",
    "another module": "import sibling\ndef draw(): return sibling.rng.random()",
    "a frozen object": "import gc\nG = np.random.default_rng(); gc.freeze()\ndef draw(): return G.random()",
}


@pytest.mark.parametrize("isolation", ["fork", "reuse"])
def test_each_fork_draws_its_own_numbers(runner: Runner, isolation: str) -> None:
    (runner.folder / "sibling.py").write_text("import random\nrng = random.Random()\n")
    program = ""
    for i, code in enumerate(GENERATORS.values()):
        (runner.folder / f"part{i}.py").write_text(f"import random\nimport numpy as np\n{code}\n")
        program += f"import part{i}\n"
    program += f"""
def f(i, d, w): return False, [sys.modules[f"part{{n}}"].draw() for n in range({len(GENERATORS)})]
"""
    done = runner.run_tasks(program, [0] * 3, "--isolation", isolation, "--max-tasks-per-process=1")
    assert done.types() == {"task_completed": 3}, done.events
    for name, *drawn in zip(GENERATORS, *(e["result"] for e in done.events)):
        assert len({str(value) for value in drawn}) == 3, f"{name}: {drawn}"


def test_spawn_keeps_seeds(runner: Runner) -> None:
    program = """
    import random
    G = random.Random(7)
    def f(i, d, w): return False, G.random()
    """
    done = runner.run_tasks(program, [0] * 2, "--isolation", "spawn", "--max-tasks-per-process=1")
    assert len({e["result"] for e in done.events}) == 1, done.events


def test_task_source_has_the_generators_of_the_program(runner: Runner) -> None:
    program = """
    import random
    import numpy as np
    random.seed(7)
    G, H, K = random.Random(7), np.random.default_rng(7), np.random.RandomState(7)
    np.random.seed(7)
    def draw(): return [g() for g in (random.random, G.random, H.random, K.rand, np.random.rand)]
    def tasks(): yield {"task_id": "t0", "data": draw()}
    def f(i, data, w): return False, data
    """
    main = """
if __name__ == "__main__":
    asyncio.run(Worker(f, args=sys.argv[1:], task_source=tasks).start())
    print(draw())
"""
    done = runner.run(runner.write_program(program, main=main))
    assert done.code == 0, done.err
    assert str(done.event_of("t0")["result"]) == done.out.strip()


def test_warnings_about_repeating_and_seeded_generators(runner: Runner) -> None:
    program = """
    import random
    import numpy as np
    class Fixed(random.Random):
        def seed(self, *args):
            if not args: raise NotImplementedError("needs a seed")
            super().seed(*args)
    fixed = Fixed(1)
    sequence = np.random.SeedSequence()
    mine = np.random.default_rng(42)
    bits = np.random.PCG64([1, 2])
    unseeded = np.random.default_rng()
    spawned, = np.random.default_rng().spawn(1)
    system = random.SystemRandom()
    def f(i, d, w): return False, [fixed.random(), mine.random(), system.random()]
    """
    done = runner.run_tasks(program, [0] * 4, "-j", "2")
    assert done.types() == {"task_completed": 4}
    drawn = list(zip(*(e["result"] for e in done.events)))
    assert [len(set(values)) for values in drawn] == [1, 4, 4]
    assert done.err.count("__main__.fixed (__main__.Fixed) cannot be reseeded") == 1, done.err
    assert "NotImplementedError: needs a seed" in done.err
    assert done.err.count("numpy.random.SeedSequence __main__.sequence") == 1
    assert done.err.count("the program seeded __main__.mine, __main__.bits;") == 1
    assert "--isolation spawn" in done.err
    for name in ("unseeded", "spawned", "system"):
        assert f"__main__.{name}" not in done.err


def test_objects_that_fake_their_class_are_ignored(runner: Runner) -> None:
    program = """
    import random
    from unittest import mock
    class Lazy:
        @property
        def __class__(self): raise RuntimeError("touched")
        def __getattr__(self, name): raise RuntimeError("touched")
    lazy = Lazy()
    pretends = mock.MagicMock(spec=random.Random)
    def f(i, d, w): return False, pretends.seed.call_count
    """
    done = runner.run_tasks(program, [0])
    assert done.event_of("t0").get("result") == 0, done.events
    assert "cannot be reseeded" not in done.err


def test_torch_is_reseeded(runner: Runner) -> None:
    # The real torch is too large for a test, so the program defines the names that ctworker uses.
    program = """
    import types
    class Generator:
        seeded = 0
        def seed(self): self.seeded += 1
        def get_state(self): return self.seeded
        def set_state(self, seeded): self.seeded = seeded
    torch = types.ModuleType("torch")
    torch.Generator, torch.default_generator = Generator, Generator()
    sys.modules["torch"] = torch
    own = Generator()
    def f(i, d, w): return False, [torch.default_generator.seeded, own.seeded]
    """
    assert runner.run_tasks(program, [0]).event_of("t0")["result"] == [1, 1]
