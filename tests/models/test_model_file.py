"""Model files: the same weights and answers again, and one clear line for whatever is not right."""

import json
import resource

import pytest
import torch
from ase import units
from safetensors import safe_open
from safetensors.torch import save_file

from ase_srdft.common.errors import BadInput, DamagedFile
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.model_file import build_model, load_model, save_model
from ase_srdft.models.shipped_models import list_models, model_path
from ase_srdft.models.single_point import molecule_of, single_point
from tests.tools.small_models import small_model, water


@pytest.fixture
def model():
    return small_model(charge=0, grid_level=0)


@pytest.fixture
def path(model, tmp_path):
    save_model(
        tmp_path / "m.srdft", model, {"steps": 12, "note": "µ", "losses": {9: 0.1, 10: 1e-9}}
    )
    return tmp_path / "m.srdft"


def rewritten(path, change):
    """Write the file again with its metadata and tensors changed."""
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(metadata["header"])
    change(metadata, header, tensors)
    if "header" in metadata:
        metadata["header"] = json.dumps(header)
    save_file(tensors, path, metadata)


def test_the_same_weights_again(model, path):
    loaded = load_model(path)
    weights, found = model.state_dict(), loaded.model.state_dict()
    assert list(weights) == list(found)
    assert any(tensor.abs().max() > 0.0 for tensor in weights.values())
    for name, tensor in weights.items():
        assert torch.equal(found[name].to(tensor.dtype), tensor), name
    assert loaded.training == {"steps": 12, "note": "µ", "losses": {"9": 0.1, "10": 1e-9}}
    for name in ("family", "level", "elements", "config", "guess"):
        assert getattr(loaded.model, name) == getattr(model, name)
    assert not loaded.model.training
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float64}


def test_the_same_answers_again(model, path):
    positions = torch.tensor(water().positions / units.Bohr)[None]
    molecule = molecule_of(model, (8, 1, 1))
    energies = [
        single_point(m.double(), molecule, positions, forces=False).energy
        for m in (model, load_model(path).model)
    ]
    assert torch.equal(*energies)


def test_a_missing_file(tmp_path):
    with pytest.raises(BadInput, match=r"no model file .*ase-srdft-train"):
        load_model(tmp_path / "none.srdft")
    with pytest.raises(BadInput, match="no model file"):
        load_model(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, -1000, -1])
def test_truncated(keep, path):
    path.write_bytes(path.read_bytes()[:keep])
    assert_refused(path, "damaged")


def assert_refused(path, message):
    with pytest.raises(DamagedFile, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def flips(length):
    """Places all over the file: its length field, its header and its weights."""
    return [0, 5, 9, 40, 200, *range(length // 7, length, length // 7), length - 1]


def test_a_flipped_bit_anywhere_is_found(path):
    content = path.read_bytes()
    for place in flips(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 0x10
        path.write_bytes(bytes(flipped))
        with pytest.raises(DamagedFile):
            load_model(path)
    path.write_bytes(content)
    load_model(path)


@pytest.mark.parametrize("version", ["1", "3", "banana", None])
def test_unknown_versions(version, path):
    def change(metadata, *_):
        metadata.pop("format_version")
        if version is not None:
            metadata["format_version"] = version

    rewritten(path, change)
    assert_refused(path, f"format version {version}, this program reads 2")


def test_safetensors_of_others(path):
    save_file({"weight": torch.ones(3)}, path)
    assert_refused(path, "no ase_srdft model")
    save_file({"weight": torch.ones(3)}, path, {"format": "pt"})
    assert_refused(path, "no ase_srdft model")


@pytest.mark.parametrize(
    "change",
    [
        lambda metadata, header, tensors: metadata.pop("header"),
        lambda metadata, header, tensors: header.pop("level"),
        lambda metadata, header, tensors: header.pop("training"),
        lambda metadata, header, tensors: header.pop("sha256"),
        lambda metadata, header, tensors: header.update(family="nonsense"),
        lambda metadata, header, tensors: header.update(elements=[1, 6, 8]),
        lambda metadata, header, tensors: header.update(training={"steps": 13}),
        lambda metadata, header, tensors: header["level"].update(xc="nonsense"),
        lambda metadata, header, tensors: header["level"].update(grid_level=9),
        lambda metadata, header, tensors: header["config"].update(depth=3),
        lambda metadata, header, tensors: header["config"].update(cutoff_bohr=13.0),
        lambda metadata, header, tensors: tensors.popitem(),
        lambda metadata, header, tensors: next(iter(tensors.values())).mul_(1.5),
    ],
)
def test_altered(change, path):
    rewritten(path, lambda *_: None)
    load_model(path)
    rewritten(path, change)
    assert_refused(path, "damaged")


def test_no_pickle_is_read(path):
    torch.save({"weight": torch.ones(3)}, path)
    assert_refused(path, "no model file")


def test_a_failed_save_leaves_the_old_file(model, path, monkeypatch):
    content = path.read_bytes()

    def fail(tensors, beside, metadata):
        beside.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ase_srdft.models.model_file.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        save_model(path, model, {})
    assert path.read_bytes() == content
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_disk_that_is_really_full(model, path, monkeypatch):
    content = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            save_model(path, model, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(path)
    assert path.read_bytes() == content
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_record_that_is_not_plain_is_refused_before_writing(model, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        save_model(tmp_path / "m.srdft", model, {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_unknown_configurations():
    with pytest.raises(BadInput, match="unknown model family 'mlp'"):
        build_model("mlp", LevelOfTheory(), (1,), {})
    with pytest.raises(BadInput, match="depth"):
        build_model("fock", LevelOfTheory(), (1,), {"depth": 3})


def test_names_and_paths(path):
    assert model_path(path) == model_path(str(path)) == path
    with pytest.raises(BadInput, match="no model 'nobody'"):
        model_path("nobody")
    for name in list_models():
        assert model_path(name).is_file()
