"""Give each fork its own random numbers.

A fork inherits the state of its parent's random generators, so every task would draw the same
numbers. Python itself reseeds only the global generator of the module random in a fork. This
module reseeds all other generators of random, numpy and torch. The new seed comes from the
system, even if the program has set a fixed seed.

The fork server searches for generators once, in the list of objects that the garbage collector
keeps. Each fork then reseeds the generators found.
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
    "again in each process"
)

_SYSTEM_ENTROPY_BITS = 96
"""A seed of at most this number of bits is assumed to be set by the program.

A seed that numpy takes from the system is a random number of 128 bits, which is practically never
below 2^96."""


class Generators:
    """The random generators of the program that every fork must reseed."""

    def __init__(self) -> None:
        """Find the generators of random, numpy and torch, and fill self.warnings."""
        self.warnings: list[str] = []
        self._reseeders: list[Callable[[], object]] = []
        # Do not import the modules. A module that the program has not imported has no generators.
        modules = sys.modules
        numpy: Any = modules.get("numpy.random")
        if numpy is not None and hasattr(numpy, "seed"):
            self._reseeders.append(_ignore_errors(numpy.seed))  # the module's global generator
        torch: Any = modules.get("torch")
        if (default := getattr(torch, "default_generator", None)) is not None:
            self._reseeders.append(_ignore_errors(default.seed))
        if self._reseeders or "random" in modules:
            self._find(_Types(modules.get("random"), numpy, torch))

    def reseed(self) -> None:
        """Give each generator a new seed. It is called in a fork."""
        for reseeder in self._reseeders:
            reseeder()

    def _find(self, types: _Types) -> None:
        names = _Names(types)
        # get_objects omits objects that an earlier gc.freeze has excluded from garbage collection.
        # The fork server calls gc.freeze later.
        gc.unfreeze()
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
        # A RandomState is reseeded together with its bit generator, so omit the bit generator.
        for item, _ in list(found.values()):
            found.pop(id(getattr(item, "_bit_generator", None)), None)
        for item, reseeder in found.values():
            try:
                _try(item, reseeder)
            except Exception as error:
                what = f"{type(item).__module__}.{type(item).__qualname__}"
                self.warnings.append(
                    f"the random generator {names.of(item)} ({what}) cannot be reseeded "
                    f"({type(error).__name__}: {error}), so it returns the same numbers in every "
                    f"task. {ADVICE}"
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
                    f"the numpy.random.SeedSequence {name} was created before the tasks, so it "
                    f"returns the same values in every task. {ADVICE}"
                )
            elif types.is_a(kind, "Generator"):
                if _has_own_seed(item.bit_generator):
                    seeded.append(name)
            elif types.is_a(kind, "BitGenerator") and _has_own_seed(item):
                seeded.append(name)
        if seeded:
            self.warnings.append(
                f"the program seeded {', '.join(seeded)}; ctworker replaces the seed in every "
                "forked process, because all tasks would draw the same numbers otherwise. For "
                "reproducible numbers, create a generator in the task's function, such as "
                "numpy.random.default_rng([seed, n]) with the task's number n, or use "
                "--isolation spawn"
            )


class _Types:
    """The types of generators, and how to reseed each."""

    def __init__(self, random: Any, numpy: Any, torch: Any) -> None:
        self._random = random
        self._numpy = numpy
        self._torch: Any = getattr(torch, "Generator", None)
        kept = [
            getattr(random, "_inst", None),  # the global generator, which Python reseeds
            getattr(getattr(numpy, "mtrand", None), "_rand", None),
            getattr(torch, "default_generator", None),
        ]
        self.handled = {id(item) for item in kept if item is not None}
        global_state: Any = kept[1]
        if (bits := getattr(global_state, "_bit_generator", None)) is not None:
            self.handled.add(id(bits))

    def is_a(self, kind: type, name: str) -> bool:
        """Return whether kind is the class of numpy.random with this name, or a subclass of it."""
        wanted = getattr(self._numpy, name, None)
        return isinstance(wanted, type) and issubclass(kind, wanted)

    def reseeder_of(self, kind: type) -> Callable[[Any], Callable[[], object]] | None:
        """Return a function that maps an object of type kind to a function that reseeds the object.

        Return None if objects of this type need not be reseeded.
        """
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
    """Reseed a numpy BitGenerator and its SeedSequence, which seeds generators spawned from it."""
    fresh = type(bits)()
    bits.state = fresh.state
    try:
        bits.__setstate__(fresh.__getstate__())
    except (AttributeError, TypeError):
        pass  # before numpy 1.26 the state of a BitGenerator does not include the SeedSequence


def _reseed_state(state: Any) -> None:
    """Reseed a numpy RandomState.

    The method seed works only if the RandomState has the default bit generator.
    """
    try:
        state.seed()
    except TypeError:
        _reseed_bits(state._bit_generator)
        kept = state.get_state(legacy=False)
        kept["has_gauss"] = 0  # normal deviates are computed in pairs; drop the cached second one
        state.set_state(kept)


def _try(item: Any, reseeder: Callable[[], object]) -> None:
    """Check that a generator can be reseeded. Raises an exception if it cannot.

    Afterwards restore the generator's state, because the task source, which runs in another fork,
    may use the generator with the seed that the program has set.
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
            pass  # the program has replaced the function with one that fails

    return reseed


def _has_own_seed(bits: Any) -> bool:
    entropy = getattr(getattr(bits, "seed_seq", None), "entropy", None)
    if isinstance(entropy, int):
        return entropy.bit_length() <= _SYSTEM_ENTROPY_BITS
    return entropy is not None


class _Names:
    """The variables of the program's own modules, to name generators in warnings."""

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
        """Return the values of the variables.

        The search includes these values, because the garbage collector does not list objects of
        all types.
        """
        return (item for _, item in [*self._variables, *self._bits])

    def of(self, item: Any) -> str:
        """Return the name of the first variable that holds item.

        If there is none, return a clause that can replace the name in a warning.
        """
        for name, held in [*self._variables, *self._bits]:
            if held is item:
                return name
        return "that is not a variable of a module"


def _own_modules() -> list[ModuleType]:
    """Return the program's own modules.

    They do not include the standard library, installed packages and ctworker.
    """
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
