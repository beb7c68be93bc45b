"""How often a calculator evaluates its model."""

from ase_srdft.calculator import model_runner
from ase_srdft.models.open_single_point import open_single_point


def counted(monkeypatch):
    """A list that grows by an entry for every structure evaluated alone: whether with a graph."""
    calls = []

    def evaluate(model, molecule, positions, graph):
        calls.append(graph)
        return open_single_point(model, molecule, positions, graph)

    monkeypatch.setattr(model_runner, "open_single_point", evaluate)
    return calls
