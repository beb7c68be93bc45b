"""What the estimate of the forces' error is made of, on the molecule that needs most of it."""

import correction
import pytest
from throughput import parsed_level

from ase_srdft.models.corrected_state import FORCE_ERROR_PER_RESIDUAL


@pytest.mark.slow
def test_errors_of_forces_are_below_what_the_residual_says():
    variants = dict(correction._variants("g2:H2O"))
    asked = correction.Question.of(variants["compressed"], parsed_level("LDA/sto-3g"), None)
    found = list(correction.ratios(asked))
    assert len(found) > 1
    residuals = [residual for _, residual, _ in found]
    assert residuals == sorted(residuals, reverse=True)
    largest = max(ratio for *_, ratio in found)
    assert 1.0 < largest < FORCE_ERROR_PER_RESIDUAL


def test_promises_are_in_the_units_of_ase():
    promise = correction.promised(1e-3, 5e-3)
    assert promise.error == pytest.approx(3.675e-5, rel=1e-3)
    assert promise.force_error == pytest.approx(9.723e-5, rel=1e-3)
