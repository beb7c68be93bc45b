"""The log of a training run such as a real one leaves behind, and its files."""

import json
import math

import numpy as np
import yaml

from ase_srdft.common.units import HARTREE_PER_KELVIN
from ase_srdft.training.config import SamplingConfig, TrainingConfig

ETHANOL = {"molecules": ["C2H6O"], "energies": [-154.76], "modes": [21]}
SEVERAL = {
    "molecules": ["H2O", "C2H6O", "C2H4O2", "C3H8", "CH5N", "C2H2O2", "CH4O"],
    "energies": [-76.3, -154.8, -228.8, -118.9, -95.7, -227.4, -115.5],
    "modes": [3, 21, 18, 27, 15, 12, 12],
}


def start_line(molecules, step=0, elapsed_s=0.0):
    return {
        "kind": "start",
        "step": step,
        "elapsed_s": elapsed_s,
        "molecules": molecules,
        "level": "PBE/6-31g (def2-universal-jfit, grid level 1)",
        "nparameters": 199872,
        "nframes": 0,
        "nvalidation": 16,
        "version": "0.1.0",
    }


def training_line(step, molecules, energies, rng):
    """An average over twenty batches of eight: error falls as in a run of ethanol."""
    width = 45.0 + 1.2e5 * math.exp(-step / 45.0) + 2.5e3 * math.exp(-step / 500.0)
    width *= rng.lognormal(0.0, 0.12)
    energy = np.mean(rng.choice(energies, 160)) + 0.0172 + 0.0008 * rng.standard_normal()
    return {
        "kind": "training",
        "step": step,
        "elapsed_s": step / 4.1,
        "energy_hartree": energy + width * 1e-6,
        "bracket_width_uEh": width,
        "gradient_norm": 0.3,
        "learning_rate": 0.01 * min(step / 100, 0.5 + 0.5 * math.cos(math.pi * step / 5000)),
        "nsamples": 0,
        "steps_per_s": 4.1,
    }


def sampling_line(step, nsamples, run, rng, temperature_K=500.0):
    """Sixteen samples of harmonic molecules, cut as the guards would cut them."""
    which = [int(i) for i in np.arange(16) % len(run["molecules"])]
    thermal = HARTREE_PER_KELVIN * temperature_K
    return {
        "kind": "sampling",
        "step": step,
        "elapsed_s": step / 4.1,
        "nsamples": nsamples + 16,
        "energies_hartree": [
            run["energies"][i] + rng.gamma(run["modes"][i] / 2, thermal) for i in which
        ],
        "molecules": which,
        "bracket_width_uEh": (80.0 * rng.lognormal(0.0, 0.5, 16)).tolist(),
        "acceptance": 1.0,
        "temperature_K": temperature_K * (1.0 + 0.16 * rng.standard_normal()),
        "resets": {
            "not finite or too close": 0,
            "energy spike": int(rng.random() < 0.01),
            "bonds changed": int(rng.random() < 0.02),
        },
    }


def realistic_run(run=ETHANOL, steps=5000, seed=0):
    """The lines of a run."""
    rng = np.random.default_rng(seed)
    lines, nsamples, best = [start_line(run["molecules"])], 0, math.inf
    for step in range(1, steps + 1):
        if step % 16 == 0 and step >= 400:
            lines.append(sampling_line(step, nsamples, run, rng))
            nsamples += 16
        if step % 20 == 0:
            lines.append(training_line(step, run["molecules"], run["energies"], rng))
        if step % 250 == 0:
            width = 46.0 + 2.2e3 * math.exp(-step / 420.0) * rng.lognormal(0.0, 0.1)
            width *= rng.lognormal(0.0, 0.04)
            lines.append(
                {
                    "kind": "validation",
                    "step": step,
                    "elapsed_s": step / 4.1,
                    "energy_hartree": np.mean(run["energies"]) + 0.0163 + width * 1e-6,
                    "bracket_width_uEh": width,
                    "best": width < best,
                }
            )
            best = min(best, width)
    lines.append(
        {
            "kind": "end",
            "step": steps,
            "elapsed_s": steps / 4.1,
            "reason": "steps done",
            "best_bracket_width_uEh": best,
        }
    )
    return lines


def settings(**changes):
    return TrainingConfig(sampling=SamplingConfig(temperature_K=500.0), **changes).to_plain()


def put(directory, lines, config=None):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "metrics.jsonl").write_text(text)
    if config is not None:
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
    return directory
