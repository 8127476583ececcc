"""The harness behind script/figures and script/bench: what holds, what falls short, what is written."""

import json
import math

import pytest

import measure
from measure import Row


@pytest.mark.parametrize(
    ("value", "bar", "holds"),
    [
        (35.0, ("≥", 35), True),
        (34.99, ("≥", 35), False),
        (2.0, ("≤", 2), True),
        (math.inf, ("≥", 35), True),
        (0, ("=", 0), True),
        (1, ("=", 0), False),
        (True, ("=", True), True),
        (math.nan, ("≥", 35), False),
        (math.nan, None, False),
        (None, None, False),
        (12.5, None, True),
    ],
)
def test_a_row_holds_only_for_a_number_that_meets_its_bar(value, bar, holds):
    assert Row("x", value, "dB", bar).holds is holds


def test_a_bar_reads_as_people_write_it():
    assert Row("fidelity", 36.2, "dB", ("≥", 35)).bar_text == "≥ 35 dB"
    assert Row("difference", 2e-7, "", ("≤", 1e-6)).bar_text == "≤ 1.00e-06"
    assert Row("size", 30, "MB").bar_text == ""


def test_a_measurement_that_breaks_falls_short_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def breaks():
        """Stops half way"""
        yield Row("first half", 1.0)
        raise OSError("cable pulled")

    def works():
        """Goes through"""
        yield Row("whole", 2.0, "ms", ("≤", 2))

    monkeypatch.setattr(measure, "ROOT", tmp_path)
    assert measure.run([breaks, works], tmp_path / "out" / "x.json") is False
    rows = json.loads((tmp_path / "out" / "x.json").read_text())
    assert [(r["name"], r["value"], r["bar"], r["holds"]) for r in rows] == [
        ("breaks", None, "", False),
        ("whole", 2.0, "≤ 2 ms", True),
    ]
    assert "cable pulled" in capsys.readouterr().err


def test_a_run_without_rows_proves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    assert measure.run([], tmp_path / "x.json") is False


def test_measurements_are_chosen_by_a_part_of_their_name():
    def stock_nerfstudio():
        yield Row("x", 1)

    def lens_check():
        yield Row("y", 1)

    assert measure.matching([stock_nerfstudio, lens_check], "stock-nerf") == [stock_nerfstudio]
    assert measure.matching([stock_nerfstudio, lens_check], None) == [stock_nerfstudio, lens_check]
