"""Pictures as files: the format that the name asks for, and nothing else."""

import pytest
from matplotlib import rcParams

from ase_srdft.common.errors import BadInput
from ase_srdft.runs.report.picture_file import PICTURES, write_picture

BEGINNINGS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


def draw(figure):
    figure.add_subplot().plot([0, 1], [1, 2])


@pytest.mark.parametrize("suffix", [*PICTURES, ".PNG"])
def test_the_name_chooses_the_format(suffix, tmp_path):
    before = dict(rcParams)
    path = tmp_path / f"a{suffix}"
    write_picture(path, (72.0, 144.0), draw)
    assert path.read_bytes().startswith(BEGINNINGS[suffix.lower()])
    assert dict(rcParams) == before


def test_the_same_drawing_is_the_same_file(tmp_path):
    for name in ("a.svg", "b.svg", "a.png", "b.png"):
        write_picture(tmp_path / name, (72.0, 72.0), draw)
    for suffix in (".svg", ".png"):
        first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
        assert first == second


def test_its_size_is_in_points(tmp_path):
    write_picture(tmp_path / "a.png", (72.0, 144.0), draw)
    content = (tmp_path / "a.png").read_bytes()
    width, height = (int.from_bytes(content[i : i + 4]) for i in (16, 20))
    assert (width, height) == (150, 300)


@pytest.mark.parametrize("name", ["a", "a.jpg", "png", "a.html"])
def test_other_names_are_refused(name, tmp_path):
    with pytest.raises(BadInput, match=r"\.png, \.svg, \.pdf"):
        write_picture(tmp_path / name, (72.0, 72.0), draw)
    assert list(tmp_path.iterdir()) == []


def test_what_fails_leaves_no_file(tmp_path):
    def fails(figure):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_picture(tmp_path / "a.png", (72.0, 72.0), fails)
    assert list(tmp_path.iterdir()) == []
