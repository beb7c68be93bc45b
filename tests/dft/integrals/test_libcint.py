"""Every integral against PySCF, every vector-Jacobian product against finite differences."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from pyscf import df
from pyscf.scf import hf

from ase_srdft.common.elements import chemical_symbols
from ase_srdft.dft.basis.guess_tables import atomic_potential
from ase_srdft.dft.integrals.provider import Integrals, evaluate_integrals
from ase_srdft.dft.kernels.library import thread_count, threads
from ase_srdft.dft.reference_scf import mean_field
from tests.tools.molecules import assert_gradient, system

#: Molecule, level and guess of each integral; p and d functions, atoms of one and of many kinds.
FITTED = {"name": "H2CO", "basis": "def2-svp"}
CASES = {
    "overlap": FITTED,
    "core_hamiltonian": FITTED,
    "guess_overlap": FITTED | {"guess": "minao"},
    "guess_potential": FITTED | {"guess": "sap"},
    "three_center": FITTED,
    "metric": FITTED | {"xc": "PBE0"},
    "four_center": {"name": "H2O", "basis": "6-31g*", "density_fitting": False},
}


def with_f_functions(kinds):
    """The cases of integrals, each also of water in a triple-zeta basis."""
    cases = []
    for kind in kinds:
        marks = [pytest.mark.slow] if kind == "four_center" else []
        triple_zeta = CASES[kind] | {"name": "H2O", "basis": "def2-tzvp"}
        cases.append(pytest.param(kind, CASES[kind], id=kind))
        cases.append(pytest.param(kind, triple_zeta, id=f"{kind}, f functions", marks=marks))
    return cases


def evaluated(name, **options):
    molecule, positions = system(name, **options)
    coordinates = positions[0].numpy()
    arrays = molecule.provider.evaluate(coordinates)
    return molecule, coordinates, arrays, mean_field(molecule, coordinates).mol


def in_pyscf(kind, molecule, mol):
    if kind == "overlap":
        return mol.intor("int1e_ovlp")
    if kind == "core_hamiltonian":
        return mol.intor("int1e_kin") + mol.intor("int1e_nuc")
    if kind == "guess_potential":
        symbols = {chemical_symbols[n]: n for n in molecule.numbers}
        tables = {s: np.array(atomic_potential(n)) for s, n in symbols.items()}
        return hf.make_sap(mol, tables)
    if kind == "four_center":
        return mol.intor("int2e")
    auxiliary = df.make_auxmol(mol, molecule.level.auxiliary_basis)
    if kind == "metric":
        return auxiliary.intor("int2c2e")
    assert kind == "three_center"
    return df.incore.aux_e2(mol, auxiliary, "int3c2e", aosym="s2ij")


@pytest.mark.parametrize(
    ("kind", "case"), with_f_functions([k for k in CASES if k != "guess_overlap"])
)
def test_integral_is_pyscfs(kind, case):
    molecule, _, arrays, mol = evaluated(**case)
    expected = in_pyscf(kind, molecule, mol)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(arrays[kind], expected, rtol=0, atol=1e-11)


def test_guess_overlap_gives_pyscfs_minimal_density():
    molecule, _, arrays, mol = evaluated(**CASES["guess_overlap"])
    orbitals = np.linalg.solve(arrays["overlap"], arrays["guess_overlap"])
    density_matrix = (orbitals * molecule.guess_occupations.numpy()) @ orbitals.T
    expected = hf.init_guess_by_minao(mol)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(density_matrix, expected, atol=1e-11)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"guess": "minao"}, {"guess_overlap", "three_center", "metric"}),
        ({"guess": "sap"}, {"guess_potential", "three_center", "metric"}),
        ({"guess": "core"}, {"three_center", "metric"}),
        ({"guess": "core", "density_fitting": False}, {"four_center"}),
    ],
)
def test_only_what_is_needed_is_evaluated(options, names):
    molecule, positions = system("H2", **options)
    always = {"overlap", "core_hamiltonian"}
    integrals = evaluate_integrals(positions.requires_grad_(), molecule.provider)
    given = {name for name, value in vars(integrals).items() if value is not None}
    beside = {"metric_factor", "cotangent_slots"}
    assert set(molecule.provider.names) == given - beside == always | names
    assert ("metric_factor" in given) == ("metric" in names)
    values = vars(evaluate_integrals(positions.detach(), molecule.provider))
    assert values["metric"] is values["cotangent_slots"] is None


def pulled(kind, molecule, coordinates, cotangent):
    return molecule.provider.pull_back(coordinates, {kind: cotangent})


@pytest.mark.parametrize(("kind", "case"), with_f_functions(CASES))
def test_vector_jacobian_product_by_finite_differences(kind, case):
    molecule, coordinates, arrays, _ = evaluated(**case)
    # no symmetry that the integral has is asked of the cotangent
    cotangent = np.random.default_rng(1).standard_normal(arrays[kind].shape)

    def contraction(x):
        return (molecule.provider.evaluate(x.numpy())[kind] * cotangent).sum()

    gradient = pulled(kind, molecule, coordinates, cotangent)
    x = torch.tensor(coordinates)
    assert_gradient(contraction, torch.tensor(gradient), x, rtol=2e-8, step=2e-3)


@pytest.mark.parametrize("kind", CASES)
def test_moving_everything_changes_nothing(kind):
    molecule, coordinates, arrays, _ = evaluated(**CASES[kind])
    moved = molecule.provider.evaluate(coordinates + np.array([1.0, -2.0, 0.5]))[kind]
    np.testing.assert_allclose(moved, arrays[kind], atol=1e-11)
    cotangent = np.random.default_rng(2).standard_normal(arrays[kind].shape)
    gradient = pulled(kind, molecule, coordinates, cotangent)
    assert np.abs(gradient).max() > 0.1
    np.testing.assert_allclose(gradient.sum(0), np.zeros(3), atol=1e-9 * np.abs(gradient).max())


@pytest.mark.parametrize("kind", CASES)
def test_a_single_atom_feels_no_force(kind):
    molecule, coordinates, arrays, mol = evaluated(**(CASES[kind] | {"name": "Ne"}))
    if kind != "guess_overlap":
        np.testing.assert_allclose(arrays[kind], in_pyscf(kind, molecule, mol), atol=1e-11)
    assert np.abs(arrays[kind]).max() > 0.1
    cotangent = np.random.default_rng(3).standard_normal(arrays[kind].shape)
    gradient = pulled(kind, molecule, coordinates, cotangent)
    assert gradient.shape == (1, 3)
    np.testing.assert_allclose(gradient, np.zeros((1, 3)), atol=1e-9)


def test_products_add_up():
    molecule, coordinates, arrays, _ = evaluated("H2O", guess="minao")
    rng = np.random.default_rng(4)
    cotangents = {name: rng.standard_normal(array.shape) for name, array in arrays.items()}
    together = molecule.provider.pull_back(coordinates, cotangents)
    one_by_one = [pulled(kind, molecule, coordinates, c) for kind, c in cotangents.items()]
    assert min(np.abs(gradient).max() for gradient in one_by_one) > 0.1
    np.testing.assert_allclose(together, sum(one_by_one), atol=1e-9)


def test_autograd_pulls_every_member_of_a_batch_back():
    molecule, positions = system("H2O", guess="minao")
    positions = torch.cat([positions, 1.1 * positions]).requires_grad_()
    integrals = evaluate_integrals(positions, molecule.provider)
    (gradient,) = torch.autograd.grad(
        integrals.overlap.sum() + integrals.three_center.square().sum(), positions
    )
    for i in range(2):
        coordinates = positions[i].detach().numpy()
        cotangents = {
            "overlap": np.ones(integrals.overlap.shape[1:]),
            "three_center": 2.0 * integrals.three_center[i].detach().numpy(),
        }
        expected = molecule.provider.pull_back(coordinates, cotangents)
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(gradient[i], expected, atol=1e-12)


def test_evaluation_leaves_nothing_behind():
    molecule, coordinates, arrays, _ = evaluated("H2O")
    molecule.provider.evaluate(coordinates + 0.5 * np.arange(9.0).reshape(3, 3))
    again = molecule.provider.evaluate(coordinates)
    assert set(again) == set(arrays) <= set(Integrals.__dataclass_fields__)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)


def test_screening_charges_add_up_to_the_nucleus():
    for number in (1, 6, 8, 17):
        charges = np.array(atomic_potential(number))[:, 1]
        # PySCF gives the electrons' charge its sign
        assert abs(charges.sum()) == pytest.approx(number, abs=1e-6)


def test_order_of_orbitals_is_pyscfs():
    molecule, positions = system("H2CO", basis="def2-svp")
    mol = mean_field(molecule, positions[0].numpy()).mol
    ends = [rows.stop for rows in molecule.basis.atom_slices]
    assert ends == mol.aoslice_by_atom()[:, 3].tolist()


def test_a_backward_pass_in_another_thread_has_the_callers_threads(monkeypatch):
    """As that of a GPU's tensors is."""
    molecule, positions = system("H2O")
    counts = []
    pull_back = type(molecule.provider).pull_back

    def noted(*arguments):
        counts.append(thread_count())
        return pull_back(*arguments)

    monkeypatch.setattr(type(molecule.provider), "pull_back", noted)
    start = positions.clone().requires_grad_()
    with threads(3):
        total = evaluate_integrals(start, molecule.provider).overlap.sum()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(total.backward).result()
    assert counts == [3]
    assert float(start.grad.abs().max()) > 1e-3
