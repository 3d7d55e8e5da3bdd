"""The pipeline's stages name what their notebooks use; the runner finds kernel and parameters."""

import ast
import functools
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jupytext
import matplotlib
import nbformat
import numpy as np
import papermill
import pytest
import yaml

from pnn_utils import files
from pnn_utils.report import run

SOURCES = sorted(files.SOURCES.glob("[0-9]*.py"))
TOUR = files.SOURCES / "00_tour.py"
# Need not be listed in the stages: they write and find files, and what they hold cannot change a
# result. The data sets are a dependency as files.
UNLISTED = {"pnn_utils/__init__.py", "pnn_utils/files.py", "pnn_utils/datasets/fetch.py",
            "pnn_utils/datasets/__init__.py", "pnn_utils/systems/__init__.py",
            "pnn_utils/report/__init__.py", "pnn_utils/report/metrics.py"}
NOTEBOOK = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["parameters"]
rate: float = 0.5

# %%
import sys
print(sys.executable, rate)
"""


@pytest.fixture(autouse=True)
def environment():
    """Undo what a run sets for its kernel."""
    kept = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(kept)


def imported(source):
    """Return the project's modules that a file imports, as paths from the root."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pnn_utils"):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("pnn_utils")]
        else:
            continue
        for name in names:
            path = name.replace(".", "/")
            found |= {f"{path}.py", f"{path}/__init__.py"}
    return {name for name in found if (files.ROOT / name).is_file()}


@functools.cache
def stages():
    """Return the pipeline as DVC reads it: {stage: (paths it depends on, its outputs)}."""
    from dvc.repo import Repo

    with Repo(files.ROOT) as repo:
        return {stage.name: ([dep.def_path for dep in stage.deps], stage.outs)
                for stage in repo.index.stages}


def stage_of(source):
    found = [stage for stage in stages().values() if f"notebooks/{source.name}" in stage[0]]
    assert len(found) == 1, f"{len(found)} stages depend on {source.name}"
    return found[0]


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_stage_depends_on_the_modules_its_notebook_uses(source):
    used, waiting = set(), imported(source)
    while waiting:
        name = waiting.pop()
        used.add(name)
        waiting |= imported(files.ROOT / name) - used
    assert used, "the notebook uses nothing of pnn_utils; is the search broken?"
    listed, _ = stage_of(source)
    for name in used - UNLISTED:
        places = {name, *(str(folder) for folder in Path(name).parents)}
        assert places & set(listed), f"{source.stem} uses {name}, which its stage does not name"


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_stage_keeps_its_results_in_git(source):
    _, outputs = stage_of(source)
    names = {output.def_path for output in outputs}
    assert {f"notebooks/{source.stem}.ipynb", f"data/metrics/{source.stem}.json"} <= names
    assert ("save_figure" in source.read_text()) == (f"figures/{source.stem}" in names)
    assert not [output.def_path for output in outputs if output.use_cache]


def test_every_section_and_stage_has_its_notebook():
    assert set(yaml.safe_load(run.PARAMS.read_text())) == {source.stem for source in SOURCES}
    of_notebooks = [deps for deps, _ in stages().values()
                    if any(dep.startswith("notebooks/") for dep in deps)]
    assert len(of_notebooks) == len(SOURCES)


def test_data_sets_outlive_a_rebuild():
    """`dvc repro --force` empties an output's folder before its stage runs, unless told not to."""
    data = [output for _, outputs in stages().values() for output in outputs
            if output.def_path.startswith("data/raw/")]
    assert len(data) == 4 and all(output.persist for output in data)


def assigned(notebook):
    """Return the names that the cell tagged ``parameters`` assigns, as Python itself reads it."""
    cell, = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    return [target.id for node in ast.parse(cell.source).body
            for target in getattr(node, "targets", None) or [node.target]]


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_papermill_finds_every_parameter_of_a_notebook(source):
    notebook = jupytext.read(source)
    assert list(papermill.inspect_notebook(notebook)) == assigned(notebook)


def test_papermill_finds_parameters_of_every_kind():
    cell = """\
n: int = 3  # with a comment
rates: list[float] = [0.1, 0.2]
flag = True
name = "quick"
nothing = None
many = [
    1,
    2,  # the last
]
settings = {"a": 1}
"""
    notebook = jupytext.reads(NOTEBOOK.replace("rate: float = 0.5\n", cell), fmt="py:percent")
    names = ["n", "rates", "flag", "name", "nothing", "many", "settings"]
    assert list(papermill.inspect_notebook(notebook)) == names == assigned(notebook)


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_cells_fit_a_screen(source):
    for cell in jupytext.read(source).cells:
        lines = [line for line in cell.source.splitlines()
                 if line.strip() and not line.strip().startswith("#")]
        assert cell.cell_type != "code" or len(lines) <= 25, lines[0]


def folded(cells):
    """Return the sources of the cells that a reader does not see until they are unfolded."""
    return [cell.source for cell in cells
            if cell.metadata.get("jupyter", {}).get("source_hidden")]


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_cells_folded_in_the_source_are_folded_in_the_committed_notebook(source):
    executed = nbformat.read(files.NOTEBOOKS / f"{source.stem}.ipynb", 4)
    assert folded(executed.cells) == folded(jupytext.read(source).cells)


def test_runner_keeps_cells_folded():
    source = NOTEBOOK.replace("# %%\nimport", '# %% jupyter={"source_hidden": true}\nimport')
    notebook = jupytext.reads(source, fmt="py:percent")
    assert folded(run.normalise(notebook).cells) == [notebook.cells[-1].source]


def test_tour_shows_pictures_and_text():
    cells = [cell for cell in jupytext.read(TOUR).cells if cell.cell_type == "code"]
    hidden = folded(cells)
    for cell in cells:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= 12 or cell.source in hidden, lines[0]
        assert "plt." not in cell.source or cell.source in hidden, lines[0]


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """The names that the tour's first section makes, and the processor time it takes."""
    matplotlib.use("Agg")
    names, start = {}, time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "FIGURES", tmp_path_factory.mktemp("figures"))
        for cell in jupytext.read(TOUR).cells:
            if "parameters" in cell.metadata.get("tags", []):
                break  # the second section
            if cell.cell_type == "code":
                exec(cell.source, names)
    return names, time.process_time() - start


def test_sliders_of_the_tour_answer_at_once(tour):
    names, preparation = tour
    assert preparation < 20
    for control in [*names["knobs"], names["at"]]:
        before, start = names["screen"].value, time.process_time()
        control.value = {"noise": 10, "rate": 0.012, "step": 30}.get(control.description, 4.0)
        assert time.process_time() - start < 0.2, control.description
        assert names["screen"].value != before, control.description


def test_ball_of_pat_goes_down_where_the_slopes_are_within_90_degrees(tour):
    """Without noise and in small steps: to first order the loss falls by |g_d| |step| cos."""
    choose, errors = tour[0]["choose"], tour[0]["errors"]
    seen = []
    for error in errors:
        view = choose(error, 0, 0.003)
        inside = (view["path"]["pat"].abs() < tour[0]["border"]).all(1)
        moved = view["height"]["pat"].diff()[inside[1:]]
        angle = view["angle"][:-1][inside[1:]]
        clear = (angle - 90).abs() > 15
        assert ((moved[clear] < 0) == (angle[clear] < 90)).all(), error
        seen += [bool(angle[0] > 90)]
    assert any(seen) and not all(seen)


def test_a_netlist_in_another_encoding_is_read(tmp_path):
    """Editors of circuits write degrees and micro signs as one byte."""
    notebook = jupytext.read(files.SOURCES / "10_your_own_system.py")
    cell = next(cell.source for cell in notebook.cells if "def deck(" in cell.source)
    edited = b"* by hand, at 27 \xb0C, 3 \xb5A\n" + (
        files.SOURCES / "10_your_own_system.cir").read_bytes()
    (tmp_path / "10_your_own_system.cir").write_bytes(edited)
    scope = {"files": SimpleNamespace(SOURCES=tmp_path), "NAME": "10_your_own_system", "np": np}
    exec(cell, scope)
    assert ".subckt device" in scope["deck"](np.zeros((2, 16)), np.zeros((2, 16)), copy=0, step=0)


def test_perfect_model_makes_the_two_trainings_one(tour):
    view = tour[0]["choose"](0.0, 0)
    pat, in_silico = view["path"]["pat"], view["path"]["in_silico"]
    assert (pat - in_silico).abs().max() < 1e-3
    assert view["angle"].max() < 0.1


def test_kernel_is_this_interpreter_whatever_the_machine_has(tmp_path, monkeypatch):
    fake = tmp_path / "share" / "kernels" / "python3"
    fake.mkdir(parents=True)
    fake.joinpath("kernel.json").write_text(json.dumps(
        {"argv": ["/bin/false", "{connection_file}"], "display_name": "another",
         "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    source, params = tmp_path / "99_kernel.py", tmp_path / "params.yaml"
    source.write_text(NOTEBOOK)
    params.write_text("99_kernel:\n  rate: 1e-3\n")  # an annotated parameter is one, too
    executed = nbformat.read(run.run_notebook(source, params=params, folder=tmp_path), 4)
    shown, rate = executed.cells[-1].outputs[0].text.split()
    assert Path(shown) == Path(sys.executable) and rate == "0.001"


def test_command_line_sets_parameters_that_the_notebook_has(tmp_path, monkeypatch):
    source = tmp_path / "99_kernel.py"
    source.write_text(NOTEBOOK.replace("rate: float = 0.5", "scheduler = 'serial'\nagain = False")
                      .replace("rate)", "scheduler, again)"))
    monkeypatch.setattr(run.run_notebook, "__defaults__", (False, run.PARAMS, tmp_path))
    arguments = ["--quick", "--set", "scheduler=tcp://there:8786", "--set", "again=true"]
    run.main([str(source), *arguments])
    executed = nbformat.read(tmp_path / "99_kernel.ipynb", 4)
    assert executed.cells[-1].outputs[0].text.split()[1:] == ["tcp://there:8786", "True"]
    with pytest.raises(ValueError, match="no parameter 'rat'; it has scheduler, again"):
        run.main([str(source), "--quick", "--set", "rat=1"])
