"""The comparison behind ``make reproduce``: what it must not let pass, and not stop."""

import json
import os
import subprocess
import sys

import pytest
import reproduced

from pnn_utils import files
from pnn_utils.report import figures, metrics

SEEDS = [0.92, 0.94, 0.96, 0.93, 0.95, 0.94, 0.91, 0.97, 0.93, 0.95]


@pytest.fixture
def write(tmp_path, monkeypatch):
    def _write(folder, values=SEEDS, method="pat", profile="full", data="Hillenbrand 1995",
               **extra):
        monkeypatch.setattr(files, "METRICS", tmp_path / folder)
        results = {method: {"accuracy": metrics.summary(values)}}
        metrics.write_metrics("02_shg_vowels", profile, results,
                              data={"name": data, "sha256": "0"}, **extra)
        return tmp_path / folder
    return _write


@pytest.mark.parametrize(("difference", "resolved", "n", "words"), [
    (0.031, True, 5, "ahead (+3.1 ± 1.0 points, n = 5)"),
    (-0.031, True, 5, "behind (-3.1 ± 1.0 points, n = 5)"),
    (0.031, False, 5, "no difference is resolved (+3.1 ± 1.0 points, n = 5)"),
    (-1e-9, False, 1, "no difference is resolved (+0.0 points, n = 1)")])
def test_a_difference_in_words(difference, resolved, n, words):
    one = {"difference": difference, "standard_error": 0.01, "n": n, "resolved": resolved}
    assert figures.told(one, "ahead", "behind") == words


def verdicts(old, new):
    return [row[-1] for row in reproduced.compare(old, new)]


@pytest.mark.parametrize("folder", ["empty", "absent"])
def test_nothing_to_compare_with_is_a_failure(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no metrics"):
        reproduced.compare(tmp_path / folder)


@pytest.mark.parametrize(("shift", "status"), [(0, 0), (0.1, 1)])
def test_the_command_fails_where_a_number_differs(write, tmp_path, shift, status):
    old, _ = write("old"), write("data/metrics", [v + shift for v in SEEDS])
    command = [sys.executable, ".ci/reproduced.py", old]
    there = os.environ | {"PNN_SCRATCH": str(tmp_path)}
    assert subprocess.run(command, cwd=files.ROOT, env=there).returncode == status


def test_the_spread_of_a_bad_run_does_not_excuse_it(write):
    # Two of ten seeds at chance: the mean falls by 0.16, its own standard error is as large.
    old, new = write("old"), write("new", [1 / 7, 1 / 7, *SEEDS[2:]])
    assert verdicts(old, new) == ["DIFFERS"]


@pytest.mark.parametrize(("shift", "verdict"), [(0.009, "reproduced"), (-0.009, "reproduced"),
                                                (0.03, "DIFFERS"), (-0.03, "DIFFERS")])
def test_tolerance_of_an_accuracy(write, shift, verdict):
    # sd 0.0183, n 10: t sd sqrt(2 / n) = 0.0172 with t = 2.10 of Student's table, 18 degrees
    old, new = write("old"), write("new", [v + shift for v in SEEDS])
    assert reproduced.compare(old, new)[0][4] == pytest.approx(0.0172, abs=1e-4)
    assert verdicts(old, new) == [verdict]


def test_three_seeds_may_move_further_than_two_standard_errors(write):
    # sd 0.02, n 3: 2.78 of Student's table, 4 degrees of freedom
    old = write("old", [0.58, 0.6, 0.62])
    assert reproduced.compare(old, old)[0][4] == pytest.approx(0.0453, abs=1e-4)


def test_an_accuracy_with_little_spread_may_move_by_one_percent(write):
    old = write("old", [0.9, 0.9001])
    assert reproduced.compare(old, old)[0][4] == 0.01
    assert verdicts(old, write("near", [0.908, 0.9081])) == ["reproduced"]
    assert verdicts(old, write("far", [0.912, 0.9121])) == ["DIFFERS"]


def test_a_single_fit_may_move_as_far_and_other_numbers_without_spread_not_at_all(write):
    old, new = write("old", [0.9264]), write("new", [0.9266])
    assert verdicts(old, new) == ["reproduced"]
    assert verdicts(old, write("far", [0.9366])) == ["DIFFERS"]
    old = write("exact", error=metrics.summary([0.5]))
    new = write("moved", error=metrics.summary([0.500001]))
    assert verdicts(old, new) == ["reproduced", "DIFFERS"]


def test_summaries_anywhere_are_compared_more_widely(write):
    def maps(shift):
        return {"maps": {"noise": [{"pat_accuracy": metrics.summary([v + shift for v in SEEDS])}]}}

    old = write("old", **maps(0))
    assert verdicts(old, write("near", **maps(0.02))) == ["reproduced", "reproduced"]
    assert verdicts(old, write("far", **maps(0.03))) == ["reproduced", "DIFFERS"]
    assert reproduced.compare(old, old)[1][1] == "maps.noise.0.pat_accuracy"


@pytest.mark.parametrize(("factor", "verdict"), [(1.04, "reproduced"), (1.06, "DIFFERS"),
                                                 (0.94, "DIFFERS")])
def test_quality_of_a_fit_may_move_by_five_percent(write, factor, verdict):
    old, new = write("old", twin={"r2": 0.9}), write("new", twin={"r2": 0.9 * factor})
    assert verdicts(old, new) == ["reproduced", verdict]


def test_a_quick_run_does_not_reproduce_a_full_one(write, capsys):
    rows = reproduced.compare(write("old"), write("new", profile="quick"))
    assert [row[-1] for row in rows] == ["OTHER PROFILE"]
    assert reproduced.print_comparison(rows) == 1


def test_what_a_missing_program_leaves_out_is_named_and_no_failure(write, capsys):
    old = write("old", method="pat_circuit")
    reason = {"circuit": "the program ngspice is not on PATH"}
    left_out = write("new", method="pat_function", skipped=reason)
    rows = reproduced.compare(old, left_out)
    assert [row[-1] for row in rows] == ["not compared: the program ngspice is not on PATH"]
    assert reproduced.print_comparison(rows) == 0 and "1 not compared" in capsys.readouterr().out
    assert verdicts(old, write("silent", method="pat_function")) == ["MISSING"]
    worse = write("worse", [v - 0.1 for v in SEEDS], method="pat_circuit", skipped=reason)
    assert verdicts(old, worse) == ["DIFFERS"]


def test_other_data_neither_fail_nor_count_as_reproduced(write, capsys):
    # The fallback's file lacks "pat" altogether: still other data, not a missing result.
    fallback = write("new", method="in_silico", data="Peterson & Barney 1952 (fallback)")
    rows = reproduced.compare(write("old"), fallback)
    assert [row[-1] for row in rows] == ["not compared: other data"]
    assert reproduced.print_comparison(rows) == 0
    assert "0 of 1 metrics reproduced, 1 not compared" in capsys.readouterr().out


def test_committed_metrics_agree_with_themselves():
    assert {row[-1] for row in reproduced.compare(files.METRICS, files.METRICS)} == {"reproduced"}
    assert json.loads((files.METRICS / "01_toy.json").read_text())["gaps"]["n"] == [1, 5, 10, 20]


@pytest.mark.parametrize(("old", "new", "words"), [
    ('"paper"', '"papers"', "paper"), ('"sd"', '"ds"', "sd"), ('"mean": ', '"mean": "x', "JSON"),
    ('"seeds": []', '"seeds": 3', "seeds is not a list")])
def test_a_damaged_file_is_named(write, old, new, words):
    path = write("damaged") / "02_shg_vowels.json"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match="02_shg_vowels.json is damaged") as error:
        reproduced.read_metrics(path)
    assert words in str(error.value)


def test_what_is_not_finite_is_not_written(write):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write("new", [float("nan")])


def test_a_summary_has_the_sample_deviation_and_one_value_none():
    assert metrics.summary([1, 3]) == {"mean": 2.0, "sd": 2**0.5, "n": 2, "values": [1.0, 3.0]}
    assert metrics.summary([0.5])["sd"] == 0


@pytest.mark.parametrize("part", ["mean", "sd", "n"])
def test_a_summary_that_lost_a_part_is_damaged_not_skipped(tmp_path, part):
    summary = metrics.summary([0.5, 0.6])
    content = dict(metrics.FIELDS, notebook="99_x", profile="full",
                   results={"pat": {"accuracy": summary}})
    path = tmp_path / "99_x.json"
    path.write_text(json.dumps(content))
    assert len(reproduced.compare(tmp_path, tmp_path)) == 1
    path.write_text(json.dumps(content).replace(f'"{part}"', f'"{part}x"'))
    with pytest.raises(ValueError, match="99_x.json is damaged"):
        reproduced.compare(tmp_path, tmp_path)
