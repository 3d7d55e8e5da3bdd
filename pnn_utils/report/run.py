"""Execute one notebook: ``python -m pnn_utils.report.run notebooks/NN_name.py``.

The py:percent source is converted in memory, given the parameters of its section in params.yaml, executed by
papermill from the project's root, stripped of everything that changes from run to run, and written as
``notebooks/NN_name.ipynb``. With ``--quick`` no parameter is given: the notebook's own defaults are the quick
setting.
"""

import argparse
import ast
import os
import sys
import tempfile
from pathlib import Path

from pnn_utils import paths
from pnn_utils.files import write_text

PARAMS = paths.ROOT / "params.yaml"
WIDGET = "application/vnd.jupyter.widget-view+json"


def declared_parameters(notebook):
    """Return the names that the one cell tagged ``parameters`` assigns.

    Raises
    ------
    ValueError
        If there is no such cell, or more than one, or it is not Python.
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"the notebook has {len(cells)} cells tagged 'parameters'; expected 1")
    try:
        body = ast.parse(cells[0].source).body
    except SyntaxError as error:
        raise ValueError(f"the cell tagged 'parameters' is not Python: {error}") from error
    targets = [t for node in body if isinstance(node, ast.Assign | ast.AnnAssign)
               for t in (node.targets if isinstance(node, ast.Assign) else [node.target])]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def read_parameters(name, declared, params=PARAMS):
    """Read one notebook's section of params.yaml, with the types that YAML 1.2 gives.

    Parameters
    ----------
    name : str
        The section, the notebook's name without suffix.
    declared : list of str
        Names that the notebook has.
    params : path

    Raises
    ------
    ValueError
        If the file is not YAML or not made of sections, the section is missing, or it sets a parameter that the notebook does not have.
    """
    from ruamel.yaml import YAML, YAMLError

    try:
        sections = YAML(typ="safe").load(Path(params)) or {}
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{params} is not YAML: {error}") from error
    if not isinstance(sections, dict) or not isinstance(sections.get(name) or {}, dict):
        raise ValueError(f"{params} is not made of sections of names and values, or its section {name!r} is not")
    if name not in sections:
        raise ValueError(f"{params} has no section {name!r}; it has {', '.join(map(str, sections)) or 'none'}")
    section = sections[name] or {}
    unknown = sorted(set(section) - set(declared), key=str)
    if unknown:
        raise ValueError(f"{params}, section {name!r}: the notebook has no parameter {unknown[0]!r}; "
                         f"it has {', '.join(declared)}")
    return section


def normalise(notebook):
    """Drop what differs between two equal runs: timings, random cell and widget ids, tool versions. Returns the notebook."""
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}}
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:03d}"
        tags = [tag for tag in cell.metadata.get("tags", []) if tag in ("parameters", "injected-parameters")]
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            # A stored widget is dead without its kernel, and named at random.
            cell.outputs = _merged(output for output in cell.outputs if WIDGET not in output.get("data", {}))
    return notebook


def _merged(outputs):
    """Join neighbouring chunks of one stream: where a stream is cut depends on timing."""
    merged = []
    for output in outputs:
        if merged and output.output_type == "stream" and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def run_notebook(source, quick=False, params=PARAMS, folder=None, scheduler=None):
    """Execute a py:percent notebook and write it, with outputs, as .ipynb.

    Parameters
    ----------
    source : path
        ``NN_name.py``
    quick : bool
        Run at the notebook's defaults; otherwise with its section of `params`.
    params : path
    folder : path, optional
        Where the .ipynb goes; default `paths.NOTEBOOKS`.
    scheduler : str, optional
        Where its sweeps run, see `pnn_utils.experiment.sweep`; for a notebook that has the parameter ``scheduler``.

    Returns
    -------
    pathlib.Path
        The written file. If a cell fails, papermill's error is raised, an older file stays as it was, and the
        failed notebook lies in the temporary folder that the message names.
    """
    # Set before jupyter is imported: this environment's kernel, not a namesake elsewhere on the machine.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ.pop("JUPYTER_PATH", None)  # searched before the environment, whatever the line above says
    os.environ["TQDM_DISABLE"] = "1"  # no progress bars in stored outputs
    # Sums in BLAS depend on the number of threads; with one, every number of cores gives the same results.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")]))
    import jupytext
    import nbformat
    import papermill

    source = Path(source)
    notebook = jupytext.read(source)
    declared = declared_parameters(notebook)
    values = {} if quick else read_parameters(source.stem, declared, params)
    if scheduler is not None:
        if "scheduler" not in declared:
            raise ValueError(f"{source} has no parameter 'scheduler': it makes no sweep; it has {', '.join(declared)}")
        values = {**values, "scheduler": scheduler}
    scratch = Path(tempfile.mkdtemp(prefix=f"{source.stem}-"))
    before, after = scratch / "input.ipynb", scratch / f"{source.stem}.ipynb"
    nbformat.write(notebook, before)
    try:
        papermill.execute_notebook(before, after, values, kernel_name="python3", cwd=str(paths.ROOT), progress_bar=False)
    except papermill.PapermillExecutionError:
        print(f"{source} failed; the notebook as far as it went: {after}", file=sys.stderr)
        raise
    target = Path(folder or paths.NOTEBOOKS) / f"{source.stem}.ipynb"
    write_text(target, nbformat.writes(normalise(nbformat.read(after, 4))) + "\n")
    for path in (before, after):
        path.unlink()
    scratch.rmdir()
    return target


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pnn_utils.report.run", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all, in order")
    parser.add_argument("--quick", action="store_true", help="run at the notebooks' defaults")
    parser.add_argument("--scheduler", help="where sweeps run: serial, processes, or a Dask scheduler's address, tcp://host:port")
    options = parser.parse_args(arguments)
    for source in options.notebooks or sorted(paths.SOURCES.glob("[0-9]*.py")):
        print(f"{source.stem} ...", flush=True)
        try:
            print(f"  wrote {run_notebook(source, options.quick, scheduler=options.scheduler)}", flush=True)
        except Exception as error:  # whatever a notebook raises ends here, with its traceback in the message
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
