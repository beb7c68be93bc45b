"""Settings by name: what the dataclass says of each, and plain values of every type."""

from dataclasses import dataclass, field, fields, is_dataclass

import numpy as np
import pytest

from ase_srdft.common.errors import BadInput
from ase_srdft.common.settings import convert, from_plain, nearest, settings_of


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Inside.

    Attributes:
        share: of it all,
            in two lines: and a colon.

    Raises:
        Nothing: at all.
    """

    share: float = 0.5

    def __post_init__(self):
        if self.share < 0:
            raise BadInput(f"share is {self.share}: use at least 0")


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Outside.

    Attributes:
        count: how many.
        fitting: by name, or whether.
        limit: may be absent.
    """

    count: int = 3
    fitting: bool | str = True
    limit: float | None = None
    names: tuple[str, ...] = ()
    inner: Inner = field(default_factory=lambda: Inner(share=0.25))


def test_settings_are_the_fields_with_their_defaults_and_words():
    found = {setting.path: setting for setting in settings_of(Outer())}
    assert list(found) == ["count", "fitting", "limit", "names", "inner.share"]
    assert [found[path].default for path in found] == [3, True, None, (), 0.25]
    assert found["inner.share"].text == "of it all, in two lines: and a colon."
    assert found["names"].text == ""
    assert found["limit"].choices == (float, type(None))
    assert found["names"].choices == (tuple,)


def test_a_class_without_a_docstring_has_settings_without_words():
    Bare = type("Bare", (Inner,), {"__doc__": None})
    assert is_dataclass(Bare)
    assert [setting.text for setting in settings_of(Bare())] == [""]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (float, 3, 3.0),
        (float, "1e-3", 0.001),
        (float, "1E-3", 0.001),
        (float, "1.e-3", 0.001),
        (float, " 500 ", 500.0),
        (float, np.float64(0.5), 0.5),
        (int, 1000.0, 1000),
        (int, "1e3", 1000),
        (int, "500", 500),
        (int, "1_000", 1000),
        (int, "-1", -1),
        (int, "010", 10),
        (int, 2**63 - 1, 2**63 - 1),
        (int, str(2**63 - 1), 2**63 - 1),
        (bool, "on", True),
        (bool, "No", False),
        (bool | str, "off", False),
        (bool | str, "def2-universal-jkfit", "def2-universal-jkfit"),
        (float | None, None, None),
        (float | None, "none", None),
        (float | None, "2", 2.0),
        (str, "1e-3", "1e-3"),
        (str, "off", "off"),
        (tuple[str, ...], ["cuda:0", "cpu"], ("cuda:0", "cpu")),
        (dict[str, int], {"a": 1}, {"a": 1}),
    ],
)
def test_values_of_a_type(kind, value, expected):
    found = convert(kind, value, "x")
    assert found == expected
    assert isinstance(found, type(expected))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (int, [2.5, "2.5", "ten", "", "inf", "nan", True, None, [1], "0x10", "1:30", np.inf]),
        (float, ["ten", "", True, None, [1], {}]),
        (bool, [1, 0, 1.0, "maybe", None]),
        (bool | str, [1, None, 2.5]),
        (float | None, ["long", True, [1]]),
        (str, [1, 2.5, True, None, ["a"]]),
        (tuple[str, ...], ["cuda:0", 1, None, [1], {"a": 1}]),
        (dict[str, int], [[1], "a", None]),
    ],
)
def test_values_of_another_type_are_refused(kind, values):
    for value in values:
        with pytest.raises(BadInput) as caught:
            convert(kind, value, "sampling.x")
        assert "sampling.x is " in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, ".inf", "nan", "inf", "-inf"])
def test_numbers_are_finite_where_the_class_does_not_say_so(value):
    with pytest.raises(BadInput, match=r"inner\.share is "):
        from_plain(Outer, {"inner": {"share": value}})


def test_what_a_class_refuses_is_named_by_its_place():
    with pytest.raises(BadInput, match=r"^inner\.share is -1\.0: "):
        from_plain(Outer, {"inner": {"share": -1}})
    with pytest.raises(BadInput, match=r"^share is -1\.0: "):
        from_plain(Inner, {"share": -1})


def test_what_is_not_given_keeps_the_default():
    assert from_plain(Outer, {"count": "4"}) == Outer(count=4)
    # a part that is given at all has the defaults of its own class
    assert from_plain(Outer, {"inner": {}}).inner == Inner()
    assert [f.name for f in fields(Outer)][-1] == "inner"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cuont", "count"),
        ("share", "inner.share"),
        ("inner.shore", "inner.share"),
        ("completely-else", ""),
    ],
)
def test_the_nearest_name(name, expected):
    words = nearest(name, [setting.path for setting in settings_of(Outer())])
    assert words == (f" (nearest: {expected})" if expected else "")


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(BadInput, match=r"'cuont'.*\(nearest: count\)"):
        from_plain(Outer, {"cuont": 1})
    with pytest.raises(BadInput, match=r"'inner\.shore'.*\(nearest: inner\.share\)"):
        from_plain(Outer, {"inner": {"shore": 1}})
    with pytest.raises(BadInput, match=r"'share'.*\(nearest: inner\.share\)"):
        from_plain(Outer, {"share": 1})
