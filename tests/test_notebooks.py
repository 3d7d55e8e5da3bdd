"""The pipeline's stages name the modules that their notebooks use; the runner takes this environment's kernel."""

import ast
import json
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml

from pnn_utils import paths
from pnn_utils.report import run

SOURCES = sorted(paths.SOURCES.glob("[0-9]*.py"))
# Not listed in the stages: they write and find files, and what they hold cannot change a result. The data sets are a
# dependency as files, so the modules that fetch them belong to the data stages.
UNLISTED = {f"pnn_utils/{name}.py" for name in ("metrics", "files", "paths", "data", "sources")}
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
        found |= {name.replace(".", "/") + ".py" for name in names}
    return {name for name in found if (paths.ROOT / name).is_file()}


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_stage_depends_on_the_modules_its_notebook_uses(source):
    used, waiting = set(), imported(source)
    while waiting:
        name = waiting.pop()
        used.add(name)
        waiting |= imported(paths.ROOT / name) - used
    assert used, "the notebook uses nothing of pnn_utils; is the search broken?"
    stage = yaml.safe_load((paths.ROOT / "dvc.yaml").read_text())["stages"][source.stem]
    listed = {dep for dep in stage["deps"] if dep.startswith("pnn_utils")} - {"pnn_utils/run.py"}
    assert listed == used - UNLISTED


def test_kernel_is_this_interpreter_whatever_the_machine_has(tmp_path, monkeypatch):
    fake = tmp_path / "share" / "kernels" / "python3"
    fake.mkdir(parents=True)
    fake.joinpath("kernel.json").write_text(json.dumps(
        {"argv": ["/bin/false", "{connection_file}"], "display_name": "another", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    source, params = tmp_path / "99_kernel.py", tmp_path / "params.yaml"
    source.write_text(NOTEBOOK)
    params.write_text("99_kernel:\n  rate: 1e-3\n")  # an annotated parameter is one, too
    executed = nbformat.read(run.run_notebook(source, params=params, folder=tmp_path), 4)
    shown, rate = executed.cells[-1].outputs[0].text.split()
    assert Path(shown) == Path(sys.executable) and rate == "0.001"


def test_scheduler_goes_to_notebooks_that_have_one(tmp_path):
    source = tmp_path / "99_kernel.py"
    source.write_text(NOTEBOOK)
    with pytest.raises(ValueError, match="no parameter 'scheduler'"):
        run.run_notebook(source, quick=True, folder=tmp_path, scheduler="serial")
    source.write_text(NOTEBOOK.replace("rate: float = 0.5", "rate: float = 0.5\nscheduler = 'processes'").replace("rate)", "scheduler)"))
    executed = nbformat.read(run.run_notebook(source, quick=True, folder=tmp_path, scheduler="tcp://there:8786"), 4)
    assert executed.cells[-1].outputs[0].text.split()[1] == "tcp://there:8786"


def test_annotated_and_plain_parameters_are_both_declared():
    notebook = jupytext.reads(NOTEBOOK.replace("0.5\n", "0.5\nflag = True\n"), fmt="py:percent")
    assert run.declared_parameters(notebook) == ["rate", "flag"]
