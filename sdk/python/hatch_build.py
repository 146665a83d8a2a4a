"""Add the engine, the program ctworker, and its license texts to the wheel.

A wheel with an engine is for one platform. The environment variable CTWORKER_BUILD_BIN is the path
of the engine. It defaults to src/ctworker/bin/ctworker. If the variable is not set and this file
does not exist, the wheel contains only Python code, and is for any platform. At run time, the
package then uses the engine in CTWORKER_BIN or on the PATH.

CTWORKER_BUILD_LICENSES is the folder of the license texts, which `make licenses` collects. It
defaults to the folder licenses next to the engine.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

# The engine is linked statically. It therefore runs on any Linux, whatever its C library.
LINUX = "manylinux_2_17_{0}.manylinux2014_{0}.musllinux_1_1_{0}"
TAGS = {
    ("linux", "x86_64"): LINUX.format("x86_64"),
    ("linux", "aarch64"): LINUX.format("aarch64"),
    ("darwin", "x86_64"): "macosx_11_0_x86_64",
    ("darwin", "arm64"): "macosx_11_0_arm64",
}


def find_engine(root: str) -> str | None:
    """Return the absolute path of the engine, or None if there is no engine to add."""
    named = os.environ.get("CTWORKER_BUILD_BIN")
    engine = named or os.path.join(root, "src", "ctworker", "bin", "ctworker")
    if not named and not os.path.exists(engine):
        return None
    if not os.access(engine, os.X_OK):
        raise RuntimeError(
            f"the engine {engine} is not an executable file; build it with `make build`, or set "
            "CTWORKER_BUILD_BIN to its path"
        )
    return os.path.abspath(engine)


class LicenseHook(MetadataHookInterface):
    """Adds license files to the metadata. hatchling calls update when it reads the metadata."""

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
                f"the folder {texts} does not have the license texts of the engine; collect them "
                "with `make licenses`, or set CTWORKER_BUILD_LICENSES to their folder"
            )
        # Copy the texts, because hatchling accepts only license files in the root folder.
        inside = os.path.join(self.root, "licenses")
        shutil.rmtree(inside, ignore_errors=True)
        shutil.copytree(texts, inside)
        for folder, _, names in os.walk(inside):
            relative = os.path.relpath(folder, self.root)
            metadata["license-files"] += [os.path.join(relative, name) for name in names]


class EngineHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the engine to a wheel. hatchling calls initialize when it builds a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the engine, unless this is an editable install, which uses the source folder."""
        engine = find_engine(self.root)
        if version == "editable" or engine is None:
            return
        here = (sys.platform, platform.machine().lower().replace("amd64", "x86_64"))
        if here not in TAGS:
            raise RuntimeError(
                f"hatch_build.py does not know the wheel tag of the platform {here}; add it to TAGS"
            )
        build_data["force_include"][engine] = "ctworker/bin/ctworker"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{TAGS[here]}"
