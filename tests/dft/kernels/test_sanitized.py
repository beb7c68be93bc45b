"""The tests of the kernels once more, under AddressSanitizer and UndefinedBehaviorSanitizer."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ase_srdft.dft.kernels.library import FOLDER, INSTRUCTION_SETS, chosen

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[3]
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1", "-O1", "-fPIC"]
#: Writes all of the metric into half of its array.
OVERFLOW = """
import ctypes, sys
import numpy as np
from ase_srdft.dft.kernels import library
from ase_srdft.dft.integrals.libcint import LibcintProvider
from ase_srdft.dft.level_of_theory import LevelOfTheory
library.FOLDER = library.Path(sys.argv[1])
kernels = LibcintProvider((8,), LevelOfTheory(basis="sto-3g"), "core")._kernels
empty, whole = np.empty, kernels.metric(np.zeros((1, 3)))
np.empty = lambda shape: empty(whole.size // 2)
kernels.metric(np.zeros((1, 3)))
"""


def runtimes():
    """What must be in a process before anything else; skips where there is none."""
    if COMPILER is None:
        pytest.skip("no C++ compiler here")
    names = ("libasan.so", "libstdc++.so")  # what is thrown is caught by the first, found in both
    found = [
        subprocess.run(
            [COMPILER, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in names
    ]
    if not all(Path(path).is_absolute() for path in found):
        pytest.skip("no AddressSanitizer here")
    return " ".join(found)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """A folder with the portable build and the best for this machine, and their environment."""
    best = chosen().instruction_set
    if best is None:
        pytest.skip("no compiled kernels here")
    preloaded = runtimes()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    arguments = {
        module["name"].rpartition("._")[2]: module["extra-compile-args"]
        for module in project["tool"]["setuptools"]["ext-modules"]
    }
    folder = tmp_path_factory.mktemp("sanitized")
    for name in {INSTRUCTION_SETS[0], best}:
        target = [str(FOLDER / "source" / "kernels.cpp"), "-o", str(folder / f"_{name}.so")]
        flags = [*arguments[name], *FLAGS, "-shared", "-pthread"]
        subprocess.run([COMPILER, *flags, *target], check=True, timeout=1800)
    environment = {
        "ASAN_OPTIONS": "detect_leaks=0",
        "LD_PRELOAD": preloaded,
        "OMP_NUM_THREADS": "1",
        "SANITIZED_KERNELS": str(folder),
    }
    return folder, os.environ | environment


def run(command, environment, name):
    return subprocess.run(
        [sys.executable, *command],
        env=environment | {"ASE_SRDFT_KERNELS": name},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


def assert_nothing_is_found(environment, name, folder, rooms, *options):
    tests = [f"tests/dft/kernels/test_{room}.py" for room in rooms]
    # a sanitizer ends the process where there is too little memory
    chosen_ones = ["-k", "not memory", "-n", "0", "--basetemp", str(folder / "inside"), "-q"]
    chosen_ones += options
    plugin = ["-p", "tests.tools.sanitized_kernels", "-p", "no:cacheprovider"]
    done = run(["-m", "pytest", *plugin, *chosen_ones, *tests], environment, name)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("which", ["portable", "best"])
def test_nothing_is_found(sanitized, which, tmp_path):
    _, environment = sanitized
    name = INSTRUCTION_SETS[0] if which == "portable" else chosen().instruction_set
    assert_nothing_is_found(environment, name, tmp_path, ("becke", "coulomb", "quadrature"))


def test_nothing_is_found_by_the_slow_tests_of_the_quadrature(sanitized, tmp_path):
    _, environment = sanitized
    name = chosen().instruction_set
    assert_nothing_is_found(environment, name, tmp_path, ("quadrature",), "-m", "slow")


def test_an_overflow_is_found(sanitized):
    folder, environment = sanitized
    done = run(["-c", OVERFLOW, str(folder)], environment, INSTRUCTION_SETS[0])
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
