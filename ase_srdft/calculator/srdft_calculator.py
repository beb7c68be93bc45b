"""The ASE calculator: eV and Angstrom on one side, Hartree and Bohr on the other."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotPresent, all_changes

from ase_srdft.calculator.answer_memory import Answer
from ase_srdft.calculator.ase_names import NAME, register
from ase_srdft.calculator.asked_atoms import AskedAtoms
from ase_srdft.calculator.electronic_outputs import BatchResults, ElectronicOutputs
from ase_srdft.calculator.learning import Learning
from ase_srdft.calculator.learning_outputs import LearningOutputs
from ase_srdft.calculator.model_runner import ModelRunner, naming
from ase_srdft.calculator.parameters import (
    as_ase_error,
    at_requested_level,
    check_nuclei,
    choose_model,
    fresh_model,
    memory_name,
    own_copy,
    plain_parameters,
    promise_of,
    successor,
)
from ase_srdft.calculator.trained_isomer import TrainedIsomer
from ase_srdft.calculator.written_parameters import WrittenParameters
from ase_srdft.common.devices import torch_device
from ase_srdft.common.nuclei import Nuclei, nuclei_of
from ase_srdft.common.promise_defaults import MAX_ERROR, MAX_FORCE_ERROR
from ase_srdft.common.torch_state import undisturbed
from ase_srdft.dft.level_of_theory import ANSWER_GRID_LEVEL
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.electronic_structure import ElectronicStructure
from ase_srdft.models.shipped_models import GENERAL_MODEL, UNTRAINED

__all__ = ["SRDFTCalculator"]


@register
class SRDFTCalculator(WrittenParameters, AskedAtoms, ElectronicOutputs, LearningOutputs):
    """Kohn-Sham energies and forces that begin with a model of the electronic state.

    The model, by default the general one for organic molecules at any level of theory, gives
    occupied orbitals for the nuclei, and the Kohn-Sham functional their energy, which is never
    below the SCF energy, and a bracket around that.  The state is corrected until
    the bracket is narrower than ``max_error`` and the forces' error below ``max_force_error``,
    which takes two Fock matrices of the level's grid where the model is good, and some more where
    it is not, or there is none; where that fails, PySCF's SCF takes over.  So the answers are
    those of the SCF whatever the model; what it decides is how fast they come.  `certificate`
    tells how each came about.

    >>> from ase.build import molecule
    >>> atoms = molecule("H2O")
    >>> atoms.calc = SRDFTCalculator(xc="PBE", basis="sto-3g")
    >>> energy = atoms.get_potential_energy()  # eV
    >>> lower, upper = atoms.calc.energy_bracket
    >>> lower <= energy == upper
    True
    >>> atoms.calc.certificate.error < 1e-3
    True

    =============================  ===========================================================
    property                       unit
    =============================  ===========================================================
    ``energy``, ``free_energy``    eV; equal, there is no smearing
    ``forces``                     eV/Å; computed only when asked for
    ``dipole``                     e·Å, towards the positive charge; of a charged molecule
                                   about the centre of mass
    ``charges``                    e, Mulliken's; Löwdin's by ``get_loewdin_charges``
    ``magmom``, ``magmoms``        0: closed shells
    ``energy_bracket``             eV, `energy_bracket`
    ``certificate``                eV and eV/Å, `certificate`; parts of it go to ``atoms.info``
    ``electronic_state``           Hartree and Bohr, `electronic_state`
    eigenvalues and so on          eV, by ASE's ``get_eigenvalues``, ``get_occupation_numbers``,
                                   ``get_fermi_level`` and ``get_homo_lumo``
    to look at                     ``write_molden``, ``write_cube``, ``get_density``,
                                   ``get_electrostatic_potential``, ``get_bond_orders``;
                                   ``to_pyscf`` to go on with
    =============================  ===========================================================

    The zero of energy is that of the level of theory: nuclei and electrons infinitely far apart.
    Not included: dispersion corrections, solvents, periodic cells, stress and open shells; and,
    with a model that belongs to a level of theory, any charge but the one it was trained at.

    A calculator may be shared by several ``Atoms``, copied, pickled and sent to other processes; a
    copy carries the weights with it.  ``results`` are those of the last atoms; the answers of the
    last 16 geometries are remembered, so that images of a band cost one evaluation each.  Forces
    after the energy of the same geometry cost the difference, from the second time on: until then
    it is not known that they will be asked for, and energies alone are cheaper.  What is asked of
    it without naming atoms (``atoms.calc.energy_bracket``, ``get_homo_lumo()``) is answered for
    the atoms that it was last asked about, where they are now: if they have moved, it is computed
    anew.  Only where that object is gone is it answered for the geometry that was evaluated.

    A calculator that learns (``learn``) trains on geometries whose bracket, of the model by itself,
    is wider than 1 meV and than ``max_error``, the widest first, but not on those that are near to
    one it had, as finite differences are.  It takes new weights between two geometries: energy and
    forces of one are of one version.  Corrected answers do not jump by more than the promise; for
    runs that conserve energy better there is ``calc.set(learn="pause")``.  With a further molecule
    the trainer begins anew, with all of them and the newest weights.  It ends with the program,
    with `close` and with the calculator; if it fails, a warning says so, and the answers go on.
    Copies and what comes from a pickle do not learn until told to.  `save` writes a file to go on
    from: ``SRDFTCalculator("mine.srdft", learn=True)``.

    torch's global state (gradient modes, default type and device, random numbers, threads) neither
    matters nor changes; see `ase_srdft.common.torch_state`, also for forked processes.

    Args:
        model: the name of a shipped model (`ase_srdft.list_models`), the path of a ``.srdft``
            file, or an electronic-state model object, of which the calculator takes a copy.  A
            calculator made from an object writes ``.traj`` and databases, but cannot be restored
            from its ``todict``: this needs a file.  None is the general model, ``"organics"``.
            ``"untrained"`` makes a model for the elements of the first atoms: its state is the
            guess's, some 0.1 Hartree above the SCF energy, as its bracket says.  It is of the
            family ``potential`` if it is to learn.
        charge: of the molecule (e); None for what the atoms say: the sum of their initial
            charges, or ``charge`` or ``total_charge`` in ``atoms.info`` (see
            `ase_srdft.common.charges`), which must agree.  It must be the charge that the model was
            trained at, unless it belongs to no level of theory (``xc``).
        multiplicity: 1, or None for what the atoms say, which must then be a closed shell: the
            sum of the initial magnetic moments must be zero (they are not used otherwise), and
            ``multiplicity`` in ``atoms.info`` one, as in `ase_srdft.common.charges`.
        device: of the network and the functional, ``cpu``, ``cuda``, ``cuda:1``.
        xc: functional; None for the default of the model: PBE of the general one and of an
            untrained one.  A model of the family ``potential``, as the general one, belongs to no
            level of theory and is asked at any; of another family it must be the one that the model
            was trained at.
        basis: likewise (def2-SVP).
        density_fitting: likewise (True); see `ase_srdft.dft.level_of_theory.LevelOfTheory`.
        grid_level: of PySCF's, any for every model; None for the one that the model was trained on,
            mostly 1, whose forces are off by several meV/Å: those of 2 by less than one.
        threads: all that an evaluation takes, whatever torch and PySCF are set to:
            `evaluate_batch` gives each some of the structures, and a structure alone gives each
            some of the kernels' work and of exact exchange.
        max_error: widest bracket around the SCF energy (eV).  None for the model's state as it is:
            forces are then the full derivative of its energy, and nothing is promised.
        max_force_error: largest estimate of the error of a component of the forces (eV/Å) of a
            corrected state.
        on_uncertain: what to do where the model's own bracket is wider than ``max_error``:
            "correct" (the default) corrects every state, "warn" takes the model's state as it is
            and warns (`ase_srdft.common.errors.UncertainAnswer`), "raise" refuses.
        learn: whether to train on the geometries that any driver asks for: "beside" it (or True),
            in a process that leaves it most of the processor; "in_turn" with it, in half of the
            time; "pause" for no new weights and no new geometries; False ends the trainer.

    Attributes:
        model_version: counts the changes of the model, `update_model` and ``set`` alike.

    Raises:
        ase.calculators.calculator.InputError: what cannot be computed: an unknown model, device
            or level of theory, another level or charge than the model's, a periodic cell, an
            open shell; an element that the model does not know, unless states are corrected.
        ase.calculators.calculator.CalculationFailed: positions that are not finite, atoms closer
            than 0.3 Å, an energy that is not a number, or forces where the highest occupied and
            the lowest empty orbital are degenerate (a gap below 1e-5 Hartree): no derivative.
        ase.calculators.calculator.SCFError: no state keeps the promise, not even PySCF's.
        ase.calculators.calculator.PropertyNotImplementedError: stress and other properties.

    Warns:
        ase_srdft.common.errors.OtherIsomer: a named model of one molecule is asked about another
            with the same formula (`ase_srdft.model_card` has its structure); once.
        ase_srdft.common.errors.UnknownElement: once for each composition: the model does not know
            an element, so that the correction begins with the guess.
    """

    implemented_properties = [
        *("energy", "free_energy", "forces", "dipole", "charges", "magmom", "magmoms")
    ]
    nolabel = True  # for ``ase run``: no names of files
    default_parameters = {
        "model": GENERAL_MODEL,
        "charge": None,
        "multiplicity": None,
        "device": "cpu",
        "xc": None,
        "basis": None,
        "density_fitting": None,
        "grid_level": ANSWER_GRID_LEVEL,
        "threads": 1,
        "max_error": MAX_ERROR,
        "max_force_error": MAX_FORCE_ERROR,
        "on_uncertain": "correct",
        "learn": False,
    }

    def __init__(
        self,
        model: str | Path | ElectronicStateModel | None = None,
        *,
        charge: int | None = None,
        multiplicity: int | None = None,
        device: str = "cpu",
        xc: str | None = None,
        basis: str | None = None,
        density_fitting: bool | str | None = None,
        grid_level: int | None = ANSWER_GRID_LEVEL,
        threads: int = 1,
        max_error: float | None = MAX_ERROR,
        max_force_error: float = MAX_FORCE_ERROR,
        on_uncertain: str = "correct",
        learn: bool | str = False,
    ) -> None:
        self.model_version = self._state_version = 0
        self._learning = Learning()
        self._runner: ModelRunner | None = None
        self._state: ElectronicStructure | None = None
        self._asked: weakref.ref[Atoms] | None = None
        self._isomer: TrainedIsomer | None = None
        self._turn = threading.RLock()
        super().__init__(  # type: ignore[no-untyped-call]
            model=model,
            charge=charge,
            multiplicity=multiplicity,
            device=device,
            xc=xc,
            basis=basis,
            density_fitting=density_fitting,
            grid_level=grid_level,
            threads=threads,
            max_error=max_error,
            max_force_error=max_force_error,
            on_uncertain=on_uncertain,
            learn=learn,
        )
        self.model_version = 0

    def _get_name(self) -> str:
        return NAME

    # the model

    @undisturbed
    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Change parameters; returns those that differ from before, as plain values.

        All or nothing: where one is refused, none is changed.  Naming a model loads it again.  All
        but ``learn`` let a trainer begin anew.

        Raises:
            InputError: a parameter that does not exist, or a value that cannot be used.
        """
        plain = plain_parameters(kwargs, known=self.default_parameters)
        wanted = {**self.parameters, **plain}
        with as_ase_error():
            current = None if self._runner is None else self._runner.model
            before = current, self._isomer
            model, isomer = choose_model(kwargs, self.parameters, wanted, before)
            chosen = at_requested_level(wanted, model)
            device = torch_device(wanted["device"])
        changed: dict[str, Any] = super().set(**plain)  # type: ignore[no-untyped-call]
        if changed.keys() - {"learn"} or "model" in kwargs:
            self._forget()
            self._isomer = isomer
            self._learning.close()  # it trains another model, or for another promise
            if model is not current:
                self.model_version += 1
                self._learning.begin_from(self.parameters["model"])
            self._runner = None if chosen is None else self._runner_of(chosen, device)
        if "learn" in changed:
            self._learning.switch(changed["learn"])
        return changed

    def _runner_of(self, model: ElectronicStateModel, device: torch.device) -> ModelRunner:
        wanted, promise = self.parameters, promise_of(self.parameters)
        return ModelRunner(model, device, wanted["threads"], promise, wanted["on_uncertain"])

    def _forget(self) -> None:
        self.results, self._state = {}, None

    @undisturbed
    def model_for(self, atoms: Atoms) -> ElectronicStateModel:
        """The model that answers for these atoms; an untrained one is made if there is none yet.

        It is the calculator's own, not to be trained: train a copy and hand it to
        `update_model`.

        Raises:
            InputError: atoms that the model cannot be asked about.
            CalculationFailed: positions that are not finite, or atoms on top of each other.
        """
        nuclei = self.nuclei_for(atoms)
        with as_ase_error():
            model = self._started_for(nuclei).model
            check_nuclei(nuclei, model)
        self._compare(nuclei)
        return model

    @undisturbed
    def nuclei_for(self, atoms: Atoms) -> Nuclei:
        """The nuclei of these atoms in Bohr, with the charge that the parameters or they state.

        Raises:
            InputError: atoms that are no closed-shell molecule in vacuum, or contradict the
                parameters.
            CalculationFailed: positions that are not finite, or atoms on top of each other.
        """
        with as_ase_error():
            return nuclei_of(atoms, self.parameters["charge"], self.parameters["multiplicity"])

    def _runner_for(self, nuclei: Nuclei) -> ModelRunner:
        with as_ase_error():
            runner = self._started_for(nuclei)
            runner.check(nuclei, trained=self.parameters["model"] != UNTRAINED)
        self._compare(nuclei)
        return runner

    def _compare(self, nuclei: Nuclei) -> None:
        if self._isomer is not None:
            self._isomer.compare(nuclei)

    def _started_for(self, nuclei: Nuclei) -> ModelRunner:
        if self._runner is None:
            device = torch_device(self.parameters["device"])
            model = fresh_model(self.parameters, nuclei)
            self._runner = self._runner_of(model, device)
        self._runner.version = self.model_version
        return self._runner

    @undisturbed
    def update_model(self, model: ElectronicStateModel) -> None:
        """Go on with a copy of these weights; what the old ones have computed is forgotten.

        The atoms of the last evaluation are kept: the next question about them is answered by the
        new weights.

        Raises:
            InputError: a model at another level of theory than the calculator's.
        """
        self._go_on_with(model)
        assert self._runner is not None
        self._runner.memory.forget()
        self._learning.begin_from(self.parameters["model"])

    def _go_on_with(self, model: ElectronicStateModel) -> None:
        runner = self._runner
        with as_ase_error():
            chosen = successor(self.parameters, model, None if runner is None else runner.model)
            device = torch_device(self.parameters["device"])
        if runner is not None and runner.fits(chosen):
            runner.take_weights(chosen)
        else:
            self._runner = self._runner_of(own_copy(chosen), device)
        self._forget()
        self._isomer = None  # nobody has said what the new ones were trained on
        self.model_version += 1
        self.parameters["model"] = memory_name(model)

    def reset(self) -> None:
        """Forget results and atoms, as if nothing had been asked."""
        super().reset()  # type: ignore[no-untyped-call]
        self._state = self._asked = None
        if self._runner is not None:
            self._runner.memory.forget()

    def __getstate__(self) -> dict[str, Any]:
        # atoms that are copied or sent together with their calculator stay the ones it tells of
        atoms = None if self._asked is None else self._asked()
        kept = {name: value for name, value in self.__dict__.items() if name != "_turn"}
        return kept | {
            "_asked": atoms if getattr(atoms, "calc", None) is self else None,
            # trainers are not copied
            "_learning": self._learning.past,
            "parameters": type(self.parameters)(self.parameters | {"learn": False}),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._turn = threading.RLock()
        asked = state["_asked"]
        self._asked = None if asked is None else weakref.ref(asked)

    # results

    @undisturbed
    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill ``results``; ASE calls this when something was asked for that is not there."""
        atoms = self._present_atoms(atoms)
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        self._forget()
        if self.atoms is None:
            raise PropertyNotPresent("no atoms: attach the calculator to some and ask them")
        nuclei = self.nuclei_for(self.atoms)
        is_new = not self._runner_for(nuclei).knows(self.atoms, nuclei)
        if is_new:  # energy and forces of one geometry are of one version
            self._take_new_weights()
        runner = self._started_for(nuclei)
        answer = runner.answer(self.atoms, nuclei, "forces" in properties)
        self.results, self._state, self._state_version = answer
        if is_new:
            self._learning.learn_from([nuclei], [answer], runner)

    @undisturbed
    def evaluate_batch(
        self, images: Sequence[Atoms], forces: bool = True, batch_size: int = 8
    ) -> list[BatchResults]:
        """The results of many structures, evaluated together; the calculator's own stay.

        Args:
            images: of any composition; those of one are batched.
            forces: whether to compute them.
            batch_size: how many at once; memory grows with it.

        Returns:
            For each image, in order, a dictionary like ``results``, with the ``energy_bracket``
            and the ``certificate`` beside them (`BatchResults`).

        Raises:
            InputError: what `atoms.calc` would refuse, or a ``batch_size`` below one.
            CalculationFailed: likewise; both name the image that is to blame.
        """
        return [
            BatchResults(results, state.energy_bracket, self._certificate(state, version))
            for results, state, version in self._evaluate(images, forces, batch_size)
        ]

    def _evaluate(self, images: Sequence[Atoms], forces: bool, batch_size: int) -> list[Answer]:
        with self._turn:
            nuclei: list[Nuclei] = []
            for index, atoms in enumerate(images):
                with naming(index, images):
                    nuclei.append(self.nuclei_for(atoms))
                    self._runner_for(nuclei[-1])
            if self._runner is None:
                return []
            self._take_new_weights()
            answers = self._runner.evaluate(images, nuclei, forces, batch_size)
            self._learning.learn_from(nuclei, answers, self._runner)
            return answers
