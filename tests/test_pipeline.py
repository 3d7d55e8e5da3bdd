"""The notebook runner, the metrics files, and the notebooks themselves."""

import json

import jupytext
import nbformat
import pytest
import yaml

from pnn_utils import paths
from pnn_utils.report import metrics
from pnn_utils.report import run

HEADER = "# ---\n# jupyter:\n#   kernelspec:\n#     display_name: Python 3\n#     language: python\n#     name: python3\n# ---\n\n"
NOTEBOOK = HEADER + '# %% tags=["parameters"]\nrate = 0.5\nflag = True\n\n# %%\nprint(type(rate).__name__, rate, flag)\n'
SOURCES = sorted(paths.SOURCES.glob("[0-9]*.py"))


@pytest.fixture
def small(tmp_path):
    source, params = tmp_path / "99_small.py", tmp_path / "params.yaml"
    source.write_text(NOTEBOOK)
    params.write_text("99_small:\n  rate: 1e-3\n  flag: false\n")
    return source, params


def test_runner_injects_types_and_repeats_its_bytes(small, tmp_path):
    source, params = small
    target = run.run_notebook(source, params=params, folder=tmp_path)
    first = target.read_bytes()
    notebook = nbformat.read(target, 4)
    assert notebook.cells[-1].outputs[0].text == "float 0.001 False\n"
    assert "papermill" not in first.decode() and "execution\"" not in first.decode()
    assert run.run_notebook(source, params=params, folder=tmp_path).read_bytes() == first


def test_failing_cell_leaves_the_old_notebook(small, tmp_path, capsys):
    source, params = small
    (tmp_path / "99_small.ipynb").write_text("old")
    source.write_text(NOTEBOOK + "\n# %%\nraise RuntimeError('the lamp went out')\n")
    with pytest.raises(Exception, match="the lamp went out"):
        run.run_notebook(source, params=params, folder=tmp_path)
    assert (tmp_path / "99_small.ipynb").read_text() == "old"
    assert "as far as it went" in capsys.readouterr().err


def test_unknown_parameter_and_section_are_errors(tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text("99_small:\n  rat: 1\n")
    with pytest.raises(ValueError, match="no parameter 'rat'; it has rate, flag"):
        run.read_parameters("99_small", ["rate", "flag"], params)
    with pytest.raises(ValueError, match="no section 'other'"):
        run.read_parameters("other", [], params)


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_notebook_source_and_its_executed_copy(source):
    notebook = jupytext.read(source)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    run.read_parameters(source.stem, run.declared_parameters(notebook))
    executed = nbformat.read(source.with_suffix(".ipynb"), 4)
    kept = [c for c in executed.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    assert [c.source for c in kept] == [c.source for c in notebook.cells], f"run: dvc repro {source.stem}"
    outputs = [o for c in executed.cells for o in c.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error"]
    assert not [o for o in outputs if "application/vnd.jupyter.widget-view+json" in o.get("data", {})], "a progress bar was stored"


def test_every_section_and_stage_has_its_notebook():
    names = {source.stem for source in SOURCES}
    assert set(yaml.safe_load((paths.ROOT / "params.yaml").read_text())) == names
    stages = yaml.safe_load((paths.ROOT / "dvc.yaml").read_text())["stages"]
    assert {name for name in stages if not name.startswith("data-")} == names


def test_metrics_are_checked_and_compared(tmp_path, monkeypatch, capsys):
    new, old = tmp_path / "new", tmp_path / "old"
    results = {"pat": {"accuracy": metrics.summary([0.9, 0.94, 0.92])}}

    def write(folder, results, name="Hillenbrand 1995"):
        monkeypatch.setattr(paths, "METRICS", folder)
        metrics.write_metrics("02_shg_vowels", "full", results, data={"name": name, "sha256": "0"}, gaps={
            "n": [1], "forward": [0.005], "in_silico": [0.005], "pat": [0.005]})

    write(old, results)
    write(new, results)
    assert {row[-1] for row in metrics.compare(old, new)} == {"reproduced"}
    write(new, {"pat": {"accuracy": metrics.summary([0.7, 0.74, 0.72])}})
    rows = metrics.compare(old, new)
    assert [row[-1] for row in rows] == ["DIFFERS"] + ["reproduced"] * 3
    assert metrics.print_comparison(rows) == 1 and "DO NOT" in capsys.readouterr().out
    write(new, {"pat": {"accuracy": metrics.summary([0.7])}}, "Peterson & Barney 1952 (fallback)")
    rows = metrics.compare(old, new)
    assert {row[-1] for row in rows} == {"other data, not compared"} and metrics.print_comparison(rows) == 0
    (new / "02_shg_vowels.json").unlink()
    assert {row[-1] for row in metrics.compare(old, new)} == {"MISSING"}
    with pytest.raises(ValueError, match=r"fractions in \[0, 1\]"):
        write(new, {"pat": {"accuracy": metrics.summary([93.0])}})
    with pytest.raises(ValueError, match="all finite"):
        metrics.summary([float("nan")])


def test_committed_metrics_have_the_fixed_fields():
    for source in SOURCES:
        content = json.loads((paths.METRICS / f"{source.stem}.json").read_text())
        assert content["profile"] == "full"
        assert {"notebook", "results", "paper", "baselines", "cost", "seeds", "data"} <= set(content)
