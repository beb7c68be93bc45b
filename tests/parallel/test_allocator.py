"""The allocator of processes of ours: freed memory stays, unless the user says otherwise."""

import os
import platform
import subprocess
import sys

import pytest

# the pages that the system must hand out for three arrays of 64 MB, one after the other
PROGRAM = """
import resource, sys
import numpy as np
from ase_srdft.parallel.allocator import keep_freed_memory
wanted = sys.argv[1] == "kept"
done = keep_freed_memory() if wanted else False
held = np.ones(2**23 + 2**12)
del held
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    np.ones(2**23)
print(int(done), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_T"))}
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, word],
        env=environment | variables,
        check=True,
        capture_output=True,
        text=True,
    )
    return tuple(int(number) for number in output.stdout.split())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again():
    done, kept = faults("kept")
    assert done == 1
    assert kept < 100
    assert faults("usual")[1] > 10 * max(kept, 1)


def test_the_environment_wins():
    assert faults("kept", MALLOC_ARENA_MAX="2")[0] == 0
    assert faults("kept", GLIBC_TUNABLES="glibc.malloc.arena_max=2")[0] == 0
