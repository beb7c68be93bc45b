"""A run by compiled kernels and one by torch agree within rounding, and each says what it is."""

import json
import os
import subprocess
import sys

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from ase_srdft.dft.kernels.library import loaded
from tests.tools.processes import PATIENCE, checkpoint

pytestmark = pytest.mark.slow

SETTINGS = "level: {basis: 6-31g}\nmodel_config: {features: 16, layers: 2}\n"
ARGUMENTS = (
    "water.xyz --engine sync --threads 1 --steps 10 --pretraining-frames 16 "
    "--batch-size 4 --validate-every 5"
)


def trained(directory, **variables):
    """A run in a process of its own; its log, and the arrays of its checkpoint."""
    command = [sys.executable, "-m", "ase_srdft.cli.train", *ARGUMENTS.split()]
    environment = {k: v for k, v in os.environ.items() if k != "ASE_SRDFT_KERNELS"}
    done = subprocess.run(
        [*command, "--config", "settings.yaml", "-o", str(directory)],
        env=environment | {"OMP_NUM_THREADS": "1"} | variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines], checkpoint(directory)[0]


@pytest.mark.skipif(loaded() is None, reason="there are no compiled kernels")
def test_kernels_and_torch_train_the_same_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("water.xyz", molecule("H2O"))
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    log, arrays = trained(tmp_path / "kernels")
    other_log, other_arrays = trained(tmp_path / "torch", ASE_SRDFT_KERNELS="off")
    assert log[0]["computing"].startswith("compiled kernels")
    assert other_log[0]["computing"].startswith("torch")
    assert log[0]["threads"] == other_log[0]["threads"] == 1

    for kind in ("training", "validation"):
        own, others = ([r for r in each if r["kind"] == kind] for each in (log, other_log))
        assert len(own) >= 1
        for one, other in zip(own, others, strict=True):
            assert one["step"] == other["step"]
            # rounding, which single precision has made larger; seen: 1e-10 Eh and 2e-4 uEh
            assert one["energy_hartree"] == pytest.approx(other["energy_hartree"], abs=1e-8)
            assert one["bracket_width_uEh"] == pytest.approx(other["bracket_width_uEh"], abs=0.02)
            assert one["bracket_width_uEh"] > 100.0
    names = [name for name in arrays if name.startswith("weights/model/")]
    start = {name: arrays[name.replace("/model/", "/kept/")] for name in names}  # kept at step 0
    assert max(np.abs(arrays[name] - start[name]).max() for name in names) > 1e-3
    assert max(np.abs(arrays[name] - other_arrays[name]).max() for name in names) < 1e-6
