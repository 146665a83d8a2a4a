"""Tests of the wheel and the source distribution."""

from __future__ import annotations

import email
import os
import platform
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from conftest import HEAD, MAIN, Runner

ROOT = Path(__file__).parents[1]


def build(out: Path, *arguments: str, **env: str) -> Path:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CTWORKER_BUILD_")}
    environment |= env
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--no-isolation",
            "--outdir",
            str(out),
            *arguments,
            str(ROOT),
        ],
        env=environment,
        check=True,
        capture_output=True,
    )
    (made,) = out.iterdir()
    return made


ENGINE = os.environ.get("CTWORKER_BIN", "")


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collect the license texts of the engine, and return their folder."""
    folder = tmp_path_factory.mktemp("build") / "licenses"
    subprocess.run(
        ["go", "run", "./internal/licenses", ENGINE, str(folder)], cwd=ROOT.parents[1], check=True
    )
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="the test expects the name of a Linux wheel")
def test_wheel_contains_the_engine(runner: Runner, tmp_path: Path, texts: Path) -> None:
    wheel = build(
        tmp_path / "wheel",
        "--wheel",
        CTWORKER_BUILD_BIN=ENGINE,
        CTWORKER_BUILD_LICENSES=str(texts),
    )
    machine = platform.machine()
    assert wheel.name.endswith(
        f"-py3-none-manylinux_2_17_{machine}.manylinux2014_{machine}.musllinux_1_1_{machine}.whl"
    )
    with zipfile.ZipFile(wheel) as archive:
        check_licenses(archive)
        names = archive.namelist()
        site = tmp_path / "site"
        archive.extractall(site)
        engine = archive.getinfo("ctworker/bin/ctworker")
    assert engine.external_attr >> 16 & 0o111 == 0o111
    assert "ctworker/py.typed" in names
    assert "ctworker/_shim/cloud_tasks/worker/worker.py" in names
    assert not [n for n in names if n.startswith(("tests", "ctworker/__pycache__"))]
    (site / "ctworker/bin/ctworker").chmod(0o755)  # extractall does not set it, but installers do
    (runner.folder / "worker.py").write_text(HEAD + "def f(i, d, w): return False, 1" + MAIN)
    environment = {"PYTHONPATH": str(site), "CTWORKER_BIN": "", "PATH": ""}
    done = runner.run("worker.py", "--task-file", runner.write_tasks([0]), env=environment)
    assert (done.code, done.types()) == (0, {"task_completed": 1}), done.err


def check_licenses(wheel: zipfile.ZipFile) -> None:
    """Check that the wheel contains the licenses of ctworker, Go and each Go module.

    The metadata of the wheel must list them.
    """
    (info,) = {n.split("/")[0] for n in wheel.namelist() if ".dist-info/" in n}
    listed = email.message_from_bytes(wheel.read(f"{info}/METADATA")).get_all("License-File", [])
    files = {n.removeprefix(f"{info}/licenses/") for n in wheel.namelist() if "/licenses/" in n}
    assert files == set(listed)
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT.parents[1] / "LICENSE").read_bytes()
    assert b"The Go Authors" in wheel.read(f"{info}/licenses/licenses/go/LICENSE")
    linked = subprocess.check_output(["go", "version", "-m", ENGINE], text=True)
    modules = [line.split()[1] for line in linked.splitlines() if line.split()[0] in ("mod", "dep")]
    assert len(modules) > 50
    for module in modules:
        text = [n for n in files if re.fullmatch(f"licenses/{re.escape(module)}/LICENSE[^/]*", n)]
        assert text, f"no license of {module}"
        assert len(wheel.read(f"{info}/licenses/{text[0]}")) > 500


def test_build_fails_without_license_texts(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(subprocess.CalledProcessError) as raised:
        build(
            tmp_path / "wheel",
            "--wheel",
            CTWORKER_BUILD_BIN=ENGINE,
            CTWORKER_BUILD_LICENSES=str(tmp_path / "empty"),
        )
    assert b"does not have the license texts of the engine" in raised.value.stderr + (
        raised.value.stdout or b""
    )


def test_source_distribution_has_no_engine(tmp_path: Path) -> None:
    sdist = build(tmp_path / "sdist", "--sdist")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {
        "src/ctworker/worker.py",
        "src/ctworker/py.typed",
        "hatch_build.py",
        "README.md",
    } <= names
    assert not [n for n in names if "/bin/" in n or n.startswith("licenses/")]
    assert (ROOT / "LICENSE").read_bytes() == (ROOT.parents[1] / "LICENSE").read_bytes()
    assert "LICENSE" in names


def test_wheel_without_engine_is_for_any_platform(tmp_path: Path) -> None:
    assert build(tmp_path / "wheel", "--wheel").name.endswith("-py3-none-any.whl")


def test_build_fails_without_the_named_engine(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        build(tmp_path / "wheel", "--wheel", CTWORKER_BUILD_BIN="/nowhere/ctworker")
