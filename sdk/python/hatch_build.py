"""Put the engine into the wheel, which makes it a wheel for one platform.

The engine is src/ctworker/bin/ctworker, or what CTWORKER_BUILD_BIN names. Without
either the wheel has Python alone, for any platform, and finds an engine by CTWORKER_BIN
or on the PATH.
"""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# The engine is static, so that it runs with the C library of any Linux.
LINUX = "manylinux_2_17_{0}.manylinux2014_{0}.musllinux_1_1_{0}"
TAGS = {
    ("linux", "x86_64"): LINUX.format("x86_64"),
    ("linux", "aarch64"): LINUX.format("aarch64"),
    ("darwin", "x86_64"): "macosx_11_0_x86_64",
    ("darwin", "arm64"): "macosx_11_0_arm64",
}


class EngineHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling as it builds a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the engine to a wheel; editable installs look for it in the source tree."""
        named = os.environ.get("CTWORKER_BUILD_BIN")
        engine = named or os.path.join(self.root, "src", "ctworker", "bin", "ctworker")
        if version == "editable" or (not named and not os.path.exists(engine)):
            return
        if not os.access(engine, os.X_OK):
            raise RuntimeError(f"CTWORKER_BUILD_BIN={engine} is no program")
        here = (sys.platform, platform.machine().lower().replace("amd64", "x86_64"))
        if here not in TAGS:
            raise RuntimeError(
                f"there is no wheel for {here}; it would need a tag in hatch_build.py"
            )
        build_data["force_include"][os.path.abspath(engine)] = "ctworker/bin/ctworker"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{TAGS[here]}"
