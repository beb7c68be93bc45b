"""Tables of levels and of the worst molecules, of the saved model, and logs without them."""

import re

from ase_srdft.runs.report.held_out import held_out_tables
from ase_srdft.runs.report.history import read_history
from tests.runs.report.run_log import SEVERAL, put, realistic_run

LEVELS = [
    {
        "level": "PBE/def2-svp",
        "nvalidation": 5,
        "bracket_width_uEh": 50.0,
        "bracket_width_max_uEh": 90.5,
    },
    {
        "level": "B3LYP/6-31g*",
        "nvalidation": 3,
        "bracket_width_uEh": 70.0,
        "bracket_width_max_uEh": None,
    },
]
WORST = [
    {"molecule": "CHN (isomer 2) PBE/def2-svp", "bracket_width_uEh": 81.0},
    {"molecule": "C2H6O B3LYP/6-31g*", "bracket_width_uEh": 80.0},
]


def tables(tmp_path, lines):
    return held_out_tables(read_history(put(tmp_path, lines)))


def test_levels_and_worst_of_the_saved_model(tmp_path):
    lines = realistic_run(SEVERAL, steps=1500)
    validations = [line for line in lines if line["kind"] == "validation"]
    for line in validations:
        line |= {"best": False, "levels": [], "worst": [{"molecule": "no", "x": 1}]}
    validations[-2] |= {"best": True, "levels": LEVELS, "worst": WORST}
    section = tables(tmp_path, lines)
    rows = re.findall(r"<tr><th>([^<]*)</th><td>(.*?)</td></tr>", section)
    assert rows == [
        ("PBE/def2-svp", "5</td><td>50</td><td>90.5"),
        ("B3LYP/6-31g*", "3</td><td>70</td><td>not finite"),
        ("HCN (isomer 2) PBE/def2-svp", "81"),
        ("C₂H₆O B3LYP/6-31g*", "80"),
    ]
    assert f"step {validations[-2]['step']:,}" in section


def test_nothing_where_nothing_is_logged(tmp_path):
    assert tables(tmp_path, realistic_run(steps=600)) == ""
    assert tables(tmp_path, realistic_run(steps=600)[:3]) == ""
