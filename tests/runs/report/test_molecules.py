"""Names, geometries and drawings of the molecules of a run."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from ase.build import molecule
from ase.io.trajectory import Trajectory

from ase_srdft.common.elements import hill_formula
from ase_srdft.runs.report.formula import chemists_formula
from ase_srdft.runs.report.history import read_history
from ase_srdft.runs.report.molecules import molecule_svg, summarise_molecules
from tests.runs.report.run_log import put, realistic_run

RUN = {"molecules": ["CHN", "H3N"], "energies": [-93.3, -56.5], "modes": [4, 6]}


@pytest.fixture
def run(tmp_path):
    """A directory with a log of two molecules and their frames, and the index of the lowest."""
    lines = [line for line in realistic_run(RUN, steps=500) if line["step"] <= 500]
    put(tmp_path, lines)
    rng = np.random.default_rng(0)
    rounds = [line for line in lines if line["kind"] == "sampling"]
    samples = [s for r in rounds for s in zip(r["molecules"], r["energies_hartree"], strict=True)]
    frames = []
    with Trajectory(tmp_path / "samples.traj", "w") as trajectory:
        for which, _ in samples:
            atoms = molecule(("HCN", "NH3")[which])
            atoms.positions += 0.03 * rng.standard_normal(atoms.positions.shape)
            frames.append(atoms)
            trajectory.write(atoms)
    return tmp_path, samples, frames


def test_each_molecule_has_its_lowest_sample_and_its_numbers(run):
    directory, samples, frames = run
    history = read_history(directory)
    summaries = summarise_molecules(history, directory)
    assert [summary.name for summary in summaries] == ["HCN", "NH3"]
    for index, summary in enumerate(summaries):
        own = {place: e for place, (which, e) in enumerate(samples) if which == index}
        lowest = min(own, key=own.get)
        assert summary.energy_hartree == own[lowest]
        assert summary.nsamples == len(own) == len(samples) / 2
        np.testing.assert_allclose(summary.atoms.positions, frames[lowest].positions)
        assert summary.widths_uEh == tuple(history.late_widths_uEh()[index])


@pytest.mark.parametrize("content", [None, b"", b"- of Ulm, torn"])
def test_samples_that_cannot_be_read_leave_the_numbers(run, content):
    directory, samples, _ = run
    (directory / "samples.traj").unlink()
    if content is not None:
        (directory / "samples.traj").write_bytes(content)
    summaries = summarise_molecules(read_history(directory), directory)
    assert [summary.name for summary in summaries] == ["HCN", "NH3"]
    assert [summary.atoms for summary in summaries] == [None, None]
    assert sum(summary.nsamples for summary in summaries) == len(samples)
    assert molecule_svg(0, summaries[0]) == ""


def test_drawing_has_an_atom_at_each_place(run):
    summary = summarise_molecules(read_history(run[0]), run[0])[1]
    tree = ElementTree.fromstring(molecule_svg(1, summary))
    symbols = [element for element in tree.iter() if element.tag.endswith("text")]
    assert sorted(element.text for element in symbols) == ["H", "H", "H", "N"]
    places = [(float(element.get("x")), float(element.get("y"))) for element in symbols]
    assert min(np.hypot(*np.subtract(a, b)) for a in places for b in places if a != b) > 10.0
    assert molecule_svg(1, summary) == molecule_svg(1, summary)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        *((name, name) for name in ("HCN", "H2O", "NH3", "OCS", "HOCl", "CO2", "SO2", "HF", "LiH")),
        *((name, name) for name in ("SiH4", "H2O2", "CH4", "C2H6")),
        ("CH3CH2OH", "C2H6O"),
        ("CH3CN", "C2H3N"),
    ],
)
def test_formula_is_as_chemists_write_it(name, formula):
    atoms = molecule(name)
    hill = hill_formula(atoms.numbers.tolist())
    assert chemists_formula(hill, atoms) == formula
    if name != "HOCl":  # whose chain only the geometry tells
        assert chemists_formula(hill) == formula


def test_isomers_of_a_chain_differ():
    atoms = molecule("HCN")
    carbon, nitrogen = (int(atoms.symbols.search(symbol)[0]) for symbol in "CN")
    atoms.numbers[[carbon, nitrogen]] = 7, 6
    assert chemists_formula("CHN", atoms) == "HNC"
    assert chemists_formula("no formula <&>") == "no formula <&>"
