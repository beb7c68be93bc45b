"""``benchmarks/shipped_models.py``: what its models are called, and what it refuses to ship."""

import pytest

from ase_srdft.cli import train
from tests.tools.campaigns import benchmark


def test_names_are_those_of_molecule_functional_and_basis():
    shipped, systems = benchmark("shipped_models").SHIPPED, benchmark("runs").SYSTEMS
    for name, how in shipped.items():
        system = systems[how.molecule]
        assert name == f"{how.molecule}-{system.xc.lower()}-{system.basis}"


def test_runs_sample_and_repeat_whatever_else_the_machine_does(tmp_path):
    module = benchmark("shipped_models")
    for name, how in module.SHIPPED.items():
        campaign = module.campaign_of(name, tmp_path, tmp_path)
        words = benchmark("runs").train_command(campaign, how.run)
        options = train._parser().parse_args(words[3:])
        assert (getattr(options, "engine.name"), options.threads) == ("sync", 1)
        assert (options.seed, options.steps, options.minutes) == (0, how.steps, None)
        assert options.self_refine is not False


def test_a_model_is_installed_unless_it_is_too_large(tmp_path, monkeypatch):
    module = benchmark("shipped_models")
    monkeypatch.setattr(module, "shipped_folder", lambda: tmp_path / "shipped")
    (tmp_path / "model.srdft").write_bytes(b"x" * module.LARGEST)
    module.install("small", tmp_path / "model.srdft")
    assert (tmp_path / "shipped" / "small.srdft").stat().st_size == module.LARGEST
    (tmp_path / "model.srdft").write_bytes(b"x" * (module.LARGEST + 1))
    with pytest.raises(benchmark("runs").CampaignError, match="2,000,001 bytes: at most 2,000,000"):
        module.install("large", tmp_path / "model.srdft")
    assert [path.name for path in (tmp_path / "shipped").iterdir()] == ["small.srdft"]
