"""Give each fork its own random numbers.

A fork inherits the state of its parent's generators: without reseeding, every task would
draw the same numbers. Python reseeds the global generator of the module
random in a fork. This module does the same for every other generator: it gets a new seed
from the system, whatever its seed was before.

The fork server searches for generators once, among all objects of the garbage collector.
Each fork then reseeds those that were found.
"""

from __future__ import annotations

import gc
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

ADVICE = (
    "Create it in the task's function, or use --isolation spawn, which runs the whole program "
    "in each process"
)

_SYSTEM_ENTROPY_BITS = 96
"""A seed of at most this many bits was set by the program; numpy's own seeds have 128 bits."""


class Generators:
    """The random generators of the program that have to be reseeded in every fork."""

    def __init__(self) -> None:
        """Find the generators of random, numpy and torch, whatever object holds them."""
        self.warnings: list[str] = []
        self._reseeders: list[Callable[[], object]] = []
        # Import nothing: a module that was not imported needs no new seed in every fork.
        modules = sys.modules
        numpy: Any = modules.get("numpy.random")
        if numpy is not None and hasattr(numpy, "seed"):
            self._reseeders.append(_ignore_errors(numpy.seed))  # the functions of the module
        torch: Any = modules.get("torch")
        if (default := getattr(torch, "default_generator", None)) is not None:
            self._reseeders.append(_ignore_errors(default.seed))
        if self._reseeders or "random" in modules:
            self._find(_Types(modules.get("random"), numpy, torch))

    def reseed(self) -> None:
        """Give each generator a new seed, in a fork."""
        for reseeder in self._reseeders:
            reseeder()

    def _find(self, types: _Types) -> None:
        names = _Names(types)
        gc.unfreeze()  # get_objects omits frozen objects; the fork server freezes them again
        objects = [*gc.get_objects(), *names.objects()]
        kinds: dict[type, Callable[[Any], Callable[[], object]] | None] = {}
        found: dict[int, tuple[Any, Callable[[], object]]] = {}
        for item in objects:
            kind = type(item)
            if kind in kinds:
                new_reseeder = kinds[kind]
            else:
                kinds[kind] = new_reseeder = types.reseeder_of(kind)
            if new_reseeder is not None and id(item) not in types.handled:
                found[id(item)] = item, new_reseeder(item)
        # Reseeding a RandomState also reseeds its bit generator.
        for item, _ in list(found.values()):
            found.pop(id(getattr(item, "_bit_generator", None)), None)
        for item, reseeder in found.values():
            try:
                _try(item, reseeder)
            except Exception as error:
                what = f"{type(item).__module__}.{type(item).__qualname__}"
                self.warnings.append(
                    f"the random generator {names.of(item)} ({what}) cannot be reseeded "
                    f"({type(error).__name__}: {error}): its numbers are the same in every task. "
                    f"{ADVICE}"
                )
            else:
                self._reseeders.append(reseeder)
        self._warn_of_seeds(types, names)

    def _warn_of_seeds(self, types: _Types, names: _Names) -> None:
        seeded = []
        for name, item in names.items():
            kind = type(item)
            if types.is_a(kind, "SeedSequence"):
                self.warnings.append(
                    f"the numpy.random.SeedSequence {name} was created before the tasks: it "
                    f"spawns and generates the same values in every task. {ADVICE}"
                )
            elif types.is_a(kind, "Generator"):
                if _has_own_seed(item.bit_generator):
                    seeded.append(name)
            elif types.is_a(kind, "BitGenerator") and _has_own_seed(item):
                seeded.append(name)
        if seeded:
            self.warnings.append(
                f"the program seeded {', '.join(seeded)}; ctworker reseeds it in every task, so "
                "that no two tasks draw the same numbers. For reproducible numbers, create a "
                "generator in the task's function, such as "
                "numpy.random.default_rng([seed, n]), or use --isolation spawn"
            )


class _Types:
    """The types of generators, and how to reseed each."""

    def __init__(self, random: Any, numpy: Any, torch: Any) -> None:
        self._random = random
        self._numpy = numpy
        self._torch: Any = getattr(torch, "Generator", None)
        kept = [
            getattr(random, "_inst", None),  # Python reseeds it
            getattr(getattr(numpy, "mtrand", None), "_rand", None),
            getattr(torch, "default_generator", None),
        ]
        self.handled = {id(item) for item in kept if item is not None}
        global_state: Any = kept[1]
        if (bits := getattr(global_state, "_bit_generator", None)) is not None:
            self.handled.add(id(bits))

    def is_a(self, kind: type, name: str) -> bool:
        """Whether kind is numpy.random's class of this name, or derived from it."""
        wanted = getattr(self._numpy, name, None)
        return isinstance(wanted, type) and issubclass(kind, wanted)

    def reseeder_of(self, kind: type) -> Callable[[Any], Callable[[], object]] | None:
        """Return a factory of reseeding functions for objects of this type; None if it has none."""
        random = self._random
        if random is not None and issubclass(kind, random.Random):
            return None if issubclass(kind, random.SystemRandom) else lambda item: item.seed
        if self.is_a(kind, "RandomState"):
            return lambda item: lambda: _reseed_state(item)
        if self.is_a(kind, "BitGenerator"):
            return lambda item: lambda: _reseed_bits(item)
        if self._torch is not None and issubclass(kind, self._torch):
            return lambda item: item.seed
        return None


def _reseed_bits(bits: Any) -> None:
    """Reseed a numpy BitGenerator, and the SeedSequence from which it spawns others."""
    fresh = type(bits)()
    bits.state = fresh.state
    try:
        bits.__setstate__(fresh.__getstate__())
    except (AttributeError, TypeError):
        pass  # before numpy 1.26 the state does not include the SeedSequence


def _reseed_state(state: Any) -> None:
    """Reseed a numpy RandomState; its seed() works with the default bit generator only."""
    try:
        state.seed()
    except TypeError:
        _reseed_bits(state._bit_generator)
        kept = state.get_state(legacy=False)
        kept["has_gauss"] = 0  # drop the cached second value of a pair of normal deviates
        state.set_state(kept)


def _try(item: Any, reseeder: Callable[[], object]) -> None:
    """Check that a generator can be reseeded, and restore its state.

    The state is restored because the task source may use the generator.
    """
    for get, put in (
        ("getstate", "setstate"),  # random
        ("__getstate__", "__setstate__"),  # numpy's bit generators
        ("get_state", "set_state"),  # numpy's RandomState, torch
    ):
        if hasattr(item, get) and hasattr(item, put):
            state = getattr(item, get)()
            reseeder()
            getattr(item, put)(state)
            return
    reseeder()


def _ignore_errors(seed: Callable[[], object]) -> Callable[[], None]:
    def reseed() -> None:
        try:
            seed()
        except Exception:
            pass  # the program has replaced the generator with one that cannot be reseeded

    return reseed


def _has_own_seed(bits: Any) -> bool:
    entropy = getattr(getattr(bits, "seed_seq", None), "entropy", None)
    if isinstance(entropy, int):
        return entropy.bit_length() <= _SYSTEM_ENTROPY_BITS
    return entropy is not None


class _Names:
    """The variables of the program's own modules."""

    def __init__(self, types: _Types) -> None:
        self._variables = [
            (f"{module.__name__}.{name}", item)
            for module in _own_modules()
            for name, item in list(vars(module).items())
        ]
        self._bits = [
            (name, item.bit_generator)
            for name, item in self._variables
            if types.is_a(type(item), "Generator")
        ]

    def items(self) -> list[tuple[str, Any]]:
        return self._variables

    def objects(self) -> Iterator[Any]:
        """Return the values of the variables, as the collector does not track all types."""
        return (item for _, item in [*self._variables, *self._bits])

    def of(self, item: Any) -> str:
        """Return the name of the first variable that holds item."""
        for name, held in [*self._variables, *self._bits]:
            if held is item:
                return name
        return "that is not a variable of a module"


def _own_modules() -> list[ModuleType]:
    """Return the program's modules: not the standard library, installed packages or ctworker."""
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    roots = tuple(root + os.sep for root in (*paths, os.path.dirname(__file__)) if root)
    own = []
    for name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType):
            continue
        file = getattr(module, "__file__", None)
        if name == "__main__" or (
            isinstance(file, str)
            and not file.startswith(roots)
            and f"{os.sep}site-packages{os.sep}" not in file
            and f"{os.sep}dist-packages{os.sep}" not in file
        ):
            own.append(module)
    return own
