"""Add the engine and its license texts to the wheel, which is then specific to one platform.

The engine is the program in CTWORKER_BUILD_BIN, by default src/ctworker/bin/ctworker.
Without an engine the wheel has only Python code, for any platform; at run time it finds an
engine with CTWORKER_BIN or on the PATH.

The license texts are those in the folder CTWORKER_BUILD_LICENSES, by default the folder
licenses next to the engine. `make licenses` collects them.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

# The engine is static, so that it runs with the C library of any Linux.
LINUX = "manylinux_2_17_{0}.manylinux2014_{0}.musllinux_1_1_{0}"
TAGS = {
    ("linux", "x86_64"): LINUX.format("x86_64"),
    ("linux", "aarch64"): LINUX.format("aarch64"),
    ("darwin", "x86_64"): "macosx_11_0_x86_64",
    ("darwin", "arm64"): "macosx_11_0_arm64",
}


def find_engine(root: str) -> str | None:
    """Return the engine's path; None if there is no engine to add."""
    named = os.environ.get("CTWORKER_BUILD_BIN")
    engine = named or os.path.join(root, "src", "ctworker", "bin", "ctworker")
    if not named and not os.path.exists(engine):
        return None
    if not os.access(engine, os.X_OK):
        raise RuntimeError(f"CTWORKER_BUILD_BIN={engine} is not an executable file")
    return os.path.abspath(engine)


class LicenseHook(MetadataHookInterface):
    """Called by hatchling as it reads the metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """List the project's license and the license texts of the engine."""
        metadata["license-files"] = ["LICENSE"]
        engine = find_engine(self.root)
        if engine is None:
            return
        texts = os.environ.get("CTWORKER_BUILD_LICENSES") or os.path.join(
            os.path.dirname(engine), "licenses"
        )
        if not os.path.isfile(os.path.join(texts, "go", "LICENSE")):
            raise RuntimeError(
                f"{texts} does not have the license texts of the engine: collect them with "
                "`make licenses`, or set CTWORKER_BUILD_LICENSES to their folder"
            )
        # Listed files must be below the root.
        inside = os.path.join(self.root, "licenses")
        shutil.rmtree(inside, ignore_errors=True)
        shutil.copytree(texts, inside)
        for folder, _, names in os.walk(inside):
            relative = os.path.relpath(folder, self.root)
            metadata["license-files"] += [os.path.join(relative, name) for name in names]


class EngineHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling as it builds a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the engine to a wheel; editable installs look for it in the source tree."""
        engine = find_engine(self.root)
        if version == "editable" or engine is None:
            return
        here = (sys.platform, platform.machine().lower().replace("amd64", "x86_64"))
        if here not in TAGS:
            raise RuntimeError(
                f"there is no wheel for {here}; it would need a tag in hatch_build.py"
            )
        build_data["force_include"][engine] = "ctworker/bin/ctworker"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{TAGS[here]}"
