"""The notebook runner, the notebooks' committed copies and metrics, and the package's import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import papermill
import pytest

from pnn_utils import files
from pnn_utils.report import metrics, run

HEADER = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

"""
NOTEBOOK = HEADER + """\
# %% tags=["parameters"]
rate = 0.5
flag = True

# %%
print(type(rate).__name__, rate, flag)
"""
FIGURE = HEADER + """\
# %%
from matplotlib import pyplot as plt

plt.plot([0, 1, 4], label="as drawn at home")
plt.legend();
"""
# What a user may have set: LaTeX for all text, other sizes, a backend without a screen.
RC = "text.usetex: true\nfigure.figsize: 1, 1\nfont.size: 30\nbackend: Agg\n"
STARTUP = "print('good morning')\nimport matplotlib\nmatplotlib.rcParams['lines.linewidth'] = 20\n"
SOURCES = sorted(files.SOURCES.glob("[0-9]*.py"))


@pytest.fixture(autouse=True)
def environment():
    """Undo what a run sets for its kernel."""
    kept = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(kept)


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


def test_failing_cell_leaves_the_old_notebook(small, tmp_path):
    source, params = small
    (tmp_path / "99_small.ipynb").write_text("old")
    source.write_text(NOTEBOOK + "\n# %%\nraise RuntimeError('the lamp went out')\n")
    with pytest.raises(papermill.PapermillExecutionError, match="the lamp went out") as failed:
        run.run_notebook(source, params=params, folder=tmp_path)
    assert (tmp_path / "99_small.ipynb").read_text() == "old"
    far = Path(failed.value.__notes__[0].split("as far as it went: ")[1])
    assert "the lamp went out" in far.read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "99_figure.py").write_text(FIGURE)
    return run.run_notebook(folder / "99_figure.py", quick=True, folder=folder)


def with_variables(home, monkeypatch):
    """Settings that environment variables name."""
    (home / "profile_default" / "startup").mkdir(parents=True)
    (home / "profile_default" / "startup" / "00.py").write_text(STARTUP)
    (home / "matplotlibrc").write_text(RC)
    (home / "startup.py").write_text(STARTUP)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("MATPLOTLIBRC", str(home))
    monkeypatch.setenv("IPYTHONDIR", str(home))
    monkeypatch.setenv("PYTHONSTARTUP", str(home / "startup.py"))


def with_home(home, monkeypatch):
    """Settings in a home folder."""
    (home / ".ipython" / "profile_default" / "startup").mkdir(parents=True)
    (home / ".ipython" / "profile_default" / "startup" / "00.py").write_text(STARTUP)
    (home / ".config" / "matplotlib").mkdir(parents=True)
    (home / ".config" / "matplotlib" / "matplotlibrc").write_text(RC)
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # the list of fonts
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("HOME", str(home))
    for name in ("MPLBACKEND", "MATPLOTLIBRC", "MPLCONFIGDIR", "IPYTHONDIR", "PYTHONSTARTUP"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("settings", [with_variables, with_home])
def test_a_users_settings_change_no_byte_of_a_figure(undisturbed, settings, tmp_path, monkeypatch):
    cell = nbformat.read(undisturbed, 4).cells[-1]
    assert ["image/png" in output.get("data", {}) for output in cell.outputs] == [True]
    (tmp_path / "home").mkdir()
    settings(tmp_path / "home", monkeypatch)
    source = undisturbed.with_name("99_figure.py")
    again = run.run_notebook(source, quick=True, folder=tmp_path)
    assert again.read_bytes() == undisturbed.read_bytes()


def test_unknown_parameter_and_section_are_errors(small, tmp_path):
    source, params = small
    params.write_text("99_small:\n  rat: 1\n")
    with pytest.raises(ValueError, match="99_small.py has no parameter 'rat'; it has rate, flag"):
        run.run_notebook(source, params=params, folder=tmp_path)
    with pytest.raises(ValueError, match="99_small.py has no parameter 'scheduler'"):
        run.run_notebook(source, quick=True, folder=tmp_path, scheduler="serial")
    with pytest.raises(ValueError, match="params.yaml has no section 'other'"):
        run.read_parameters("other", params)


def test_parameters_of_one_run_have_the_types_of_yaml(small, monkeypatch):
    source, given = small[0], []
    monkeypatch.setattr(run, "run_notebook", lambda source, quick, **values: given.append(values))
    run.main([str(source), "--set", "rate=1e-3", "--set", "flag=true"])
    run.main([str(source), "--set", "rates=[1, 2]", "--set", "scheduler=tcp://there:1"])
    assert given == [{"rate": 0.001, "flag": True},
                     {"rates": [1, 2], "scheduler": "tcp://there:1"}]
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has no parameter 'rat'; it has rate, flag"):
        run.main([str(source), "--quick", "--set", "rat=1"])


@pytest.mark.parametrize("change", ["flag", "flag=", "=true"])
def test_a_damaged_parameter_of_one_run_is_named(change, capsys):
    with pytest.raises(SystemExit):
        run.main(["--set", change])
    assert f"argument --set: '{change}' is not name=value" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a: [", "", "- a", "a", "a: 3", "a: [1, 2]", "b: {}"])
def test_damaged_params_are_named(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ValueError, match="params.yaml has no section 'a'.*or is not YAML"):
        run.read_parameters("a", tmp_path / "params.yaml")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_notebook_source_and_its_executed_copy(source):
    notebook = jupytext.read(source)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert set(run.read_parameters(source.stem)) <= set(papermill.inspect_notebook(notebook))
    executed = nbformat.read(source.with_suffix(".ipynb"), 4)
    kept = [c for c in executed.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    assert [c.source for c in kept] == [c.source for c in notebook.cells], "run: dvc repro"
    outputs = [o for c in executed.cells for o in c.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error"]
    assert not [o for o in outputs if run.WIDGET in o.get("data", {})], "a progress bar was stored"


def test_committed_metrics_have_the_fixed_fields():
    for source in SOURCES:
        content = json.loads((files.ROOT / "data/metrics" / f"{source.stem}.json").read_text())
        assert content["profile"] == "full"
        assert set(metrics.FIELDS) <= set(content)


def test_windows_is_told_of_wsl():
    code = "import sys; sys.platform = 'win32'; import pnn_utils"
    found = subprocess.run([sys.executable, "-c", code], cwd=files.ROOT, capture_output=True,
                           text=True)
    assert found.returncode == 1
    assert "ImportError: pnn_utils runs on Linux and macOS; on Windows, use WSL" in found.stderr


def test_import_is_quick_and_needs_nothing():
    code = "import sys; import pnn_utils.files; print({'torch', 'numpy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=files.ROOT, capture_output=True,
                           text=True)
    assert found.stdout == "set()\n"
