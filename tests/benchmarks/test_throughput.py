"""What the table of costs is made of."""

import json

import pytest
import throughput

from ase_srdft.dft.kernels import library

SIDES = {throughput.TORCH} | ({throughput.KERNELS} if library.loaded() else set())
PYSCF = {throughput.COLD, throughput.WARM}


def timed(tmp_path, *arguments):
    """The rows of the cheapest table there is."""
    path = tmp_path / "times.json"
    words = ["--molecules", "water", "--levels", "LDA/sto-3g", "--repeats", "1"]
    assert throughput.main([*words, "--json", str(path), *arguments]) == 0
    return json.loads(path.read_text())


def test_energies_of_all_sides(tmp_path, capsys):
    rows = timed(tmp_path, "--work", "energy")
    assert {row["side"] for row in rows} == SIDES | PYSCF
    assert all(row["nao"] == 7 and 0.0 < row["cpu_ms"] < 1e5 for row in rows)
    assert "water, 3 atoms, 7 orbitals, LDA/sto-3g, 1 thread(s)" in capsys.readouterr().out


@pytest.mark.slow
def test_training_and_sampling(tmp_path):
    rows = timed(tmp_path, "--work", "training", "sampling", "--no-pyscf")
    works = {row["work"] for row in rows}
    assert works == {"training step, 8 new", "training step, 8 revisited", "sampler step"}
    for work in works:
        assert {row["side"] for row in rows if row["work"] == work} == SIDES


def test_exponents_are_slopes():
    def timing(nao, cpu_ms):
        return throughput.Timing(
            molecule="", natoms=1, nao=nao, level="PBE/6-31g", work="energy", side="kernels",
            threads=1, cpu_ms=cpu_ms, wall_ms=1.0,
        )  # fmt: skip

    fitted = throughput.exponents([timing(10, 3.0), timing(20, 12.0), timing(40, 48.0)])
    assert fitted == {("PBE/6-31g", "energy", "kernels", 1): pytest.approx(2.0)}
    assert throughput.exponents([timing(10, 3.0), timing(10, 4.0)]) == {}
