"""Which library is chosen, and what is said where there is none."""

import ctypes
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import EXTENSION_SUFFIXES

import pytest
import torch
from pyscf import lib

from ase_srdft.common.errors import BadInput, KernelsUnavailable
from ase_srdft.dft.kernels import library
from ase_srdft.dft.kernels.arrays import call
from ase_srdft.dft.kernels.library import (
    FOLDER,
    INSTRUCTION_SETS,
    Choice,
    choose,
    chosen,
    computing_threads,
    description,
    loaded,
    thread_count,
    threads,
    using_torch,
    wide_loops,
)

SOURCES = FOLDER / "source"


def file_of(name):
    return f"_{name}{EXTENSION_SUFFIXES[0]}"


def built():
    return [name for name in INSTRUCTION_SETS if (FOLDER / file_of(name)).is_file()]


needs_build = pytest.mark.skipif(not built(), reason="no compiled kernels here")


@pytest.fixture
def unwarned(monkeypatch):
    monkeypatch.setenv(library._WARNED, "")


@needs_build
def test_the_best_that_this_processor_runs_is_chosen():
    highest = int(choose("portable", FOLDER).library.srdft_supported_instruction_set())
    runs = [name for name in built() if INSTRUCTION_SETS.index(name) <= highest]
    assert choose(None, FOLDER).instruction_set == runs[-1]


@needs_build
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_each_can_be_asked_for(name):
    if name not in built():
        pytest.skip(f"not built for {name}")
    highest = int(choose("portable", FOLDER).library.srdft_supported_instruction_set())
    if INSTRUCTION_SETS.index(name) <= highest:
        assert choose(name, FOLDER).instruction_set == name
    else:
        with pytest.raises(BadInput, match=f"this processor does not run {name}"):
            choose(name, FOLDER)


@needs_build
def test_a_missing_best_leaves_the_next(tmp_path):
    shutil.copy(FOLDER / file_of("portable"), tmp_path)
    assert choose(None, tmp_path).instruction_set == "portable"
    with pytest.raises(BadInput, match=r"ASE_SRDFT_KERNELS is avx2"):
        choose("avx2", tmp_path)


def test_off_is_no_library_and_no_warning():
    choice = choose("off", FOLDER)
    assert choice.library is None
    assert choice.wanted


@pytest.mark.parametrize("name", ["sse", "AVX2", "1"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(BadInput, match=f"ASE_SRDFT_KERNELS is '{name}': use one of portable"):
        choose(name, FOLDER)


def test_a_library_that_does_not_load_is_a_reason(tmp_path):
    (tmp_path / file_of("portable")).write_bytes(b"not a library")
    choice = choose(None, tmp_path)
    assert choice.library is None
    assert "does not load" in choice.reason
    with pytest.raises(BadInput):
        choose("portable", tmp_path)


def test_none_is_warned_of_once(tmp_path, monkeypatch, unwarned):
    monkeypatch.setattr(library, "chosen", lambda: choose(None, tmp_path))
    with pytest.warns(KernelsUnavailable, match="not built for portable"):
        assert loaded() is None
    with warnings.catch_warnings(action="error"):
        assert loaded() is None
    assert "not built" in description()


def test_none_that_is_wanted_is_not_warned_of(monkeypatch, unwarned):
    monkeypatch.setattr(library, "chosen", lambda: Choice(reason="off", wanted=True))
    with warnings.catch_warnings(action="error"):
        assert loaded() is None


@needs_build
def test_torch_can_be_asked_for_in_all_threads():
    if chosen().library is None:
        pytest.skip("kernels are off")
    assert isinstance(loaded(), ctypes.CDLL)
    with using_torch(), ThreadPoolExecutor(1) as pool:
        assert loaded() is None
        assert pool.submit(loaded).result() is None
        with using_torch():
            pass
        assert loaded() is None
    assert loaded() is chosen().library


def test_threads_are_those_of_the_calling_thread():
    assert thread_count() == 1
    with threads(3), ThreadPoolExecutor(1) as pool:
        assert thread_count() == 3
        assert pool.submit(thread_count).result() == 1
        with threads(2):
            assert thread_count() == 2
        assert thread_count() == 3
    assert thread_count() == 1


def of_torch_and_pyscf():
    return torch.get_num_threads(), lib.num_threads()


@pytest.fixture
def three_each():
    """Numbers of threads as somebody may have set them, for torch and PySCF."""
    before = of_torch_and_pyscf()
    torch.set_num_threads(3)
    lib.num_threads(3)  # the same OpenMP may serve both
    yield (3, 3)
    torch.set_num_threads(before[0])
    lib.num_threads(before[1])


@pytest.mark.skipif(chosen().library is None, reason="no compiled kernels in use")
def test_only_wide_loops_have_the_threads_of_the_kernels(three_each):
    with computing_threads(2):
        assert (thread_count(), *of_torch_and_pyscf()) == (2, 1, 1)
        with wide_loops(500):
            assert of_torch_and_pyscf() == (2, 2)
        with wide_loops(20):
            assert of_torch_and_pyscf() == (1, 1)
    with computing_threads(1), wide_loops(500):
        assert of_torch_and_pyscf() == (1, 1)
    assert (thread_count(), *of_torch_and_pyscf()) == (1, *three_each)
    with wide_loops(500):  # of somebody who does not count threads
        assert of_torch_and_pyscf() == three_each


def test_where_torch_computes_its_loops_have_all_threads(three_each):
    with using_torch(), computing_threads(2):
        assert of_torch_and_pyscf() == (2, 2)
    with pytest.raises(RuntimeError), computing_threads(2):
        raise RuntimeError
    assert of_torch_and_pyscf() == three_each


@pytest.mark.parametrize("count", [0, -1])
def test_no_thread_is_too_few(count):
    with pytest.raises(BadInput, match=f"threads {count}: use at least 1"), threads(count):
        pass


@pytest.mark.parametrize(("value", "said"), [("off", "torch"), ("sse", "use one of")])
def test_the_variable_is_read(value, said):
    code = "from ase_srdft.dft.kernels.library import description; print(description())"
    environment = {"ASE_SRDFT_KERNELS": value, "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert said in done.stdout + done.stderr
    assert done.returncode == (0 if value == "off" else 1)


def test_every_source_is_in_the_build():
    setuptools = tomllib.loads((FOLDER.parents[2] / "pyproject.toml").read_text())["tool"]
    modules = setuptools["setuptools"]["ext-modules"]
    assert [module["name"].rpartition("._")[2] for module in modules] == list(INSTRUCTION_SETS)
    for module in modules:
        assert module["sources"] == ["ase_srdft/dft/kernels/source/kernels.cpp"]
        assert module["optional"]
    # no build tells from that one file whether another has changed
    assert setuptools["distutils"]["build_ext"]["force"]
    assert "dft/kernels/source/*" in setuptools["setuptools"]["package-data"]["ase_srdft"]
    reached, todo = set(), ["kernels.cpp"]
    while todo:
        name = todo.pop()
        reached.add(name)
        included = re.findall(r'#include "(.*)"', (SOURCES / name).read_text())
        todo += [other for other in included if other not in reached]
    assert sorted(reached) == sorted(path.name for path in SOURCES.iterdir())


@needs_build
def test_a_kernel_without_memory_is_an_error_and_no_crash():
    library = chosen().library
    if library is None:
        pytest.skip("kernels are off")
    none = ctypes.c_void_p()
    # so many atoms that their separations have no room
    arguments = [ctypes.c_int(2**31 - 1), ctypes.c_int(1), *[none] * 5, ctypes.c_int(1), none]
    with pytest.raises(MemoryError, match="srdft_becke_weights"):
        call(library, "srdft_becke_weights", *arguments)
