"""README's first example where nothing could be compiled: torch computes, and says so once.

    python tests/tools/without_kernels.py

For a package that was installed without a compiler, run from outside of the repository.
"""

import sys
import warnings
from pathlib import Path

import ase_srdft
from ase_srdft.common.errors import KernelsUnavailable
from ase_srdft.dft.kernels.library import chosen

README = Path(__file__).resolve().parents[2] / "README.md"


def example():
    """Its lines down to the forces."""
    code = README.read_text().split("```python\n")[1].split("```")[0]
    lines = code.splitlines(keepends=True)
    last = next(i for i, line in enumerate(lines) if "get_forces" in line)
    return "".join(lines[: last + 1])


def main():
    """Run it.

    Raises:
        SystemExit: kernels are there, or it was warned of none or of several times.
    """
    if chosen().library is not None:
        raise SystemExit(f"kernels are in use: {ase_srdft.about()}")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        names = {}
        exec(example(), names)
    energy = names["atoms"].get_potential_energy()
    warned = [str(w.message) for w in said if issubclass(w.category, KernelsUnavailable)]
    if len(warned) != 1:
        raise SystemExit(f"{len(warned)} warnings that there are no kernels, not one: {warned}")
    print(f"{Path(ase_srdft.__file__).parent}: {energy:.6f} eV with {ase_srdft.about()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
