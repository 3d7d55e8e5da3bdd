"""Execute notebooks: ``python -m pnn_utils.report.run [notebooks/NN_name.py] [--quick]``.

The py:percent source is converted in memory, given the parameters of its section in params.yaml,
executed by papermill from the project's root, stripped of everything that changes from run to run,
and written as ``notebooks/NN_name.ipynb``. With ``--quick`` the notebook's own defaults stay.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from ruamel.yaml import YAML, YAMLError

from pnn_utils import files

PARAMS = files.ROOT / "params.yaml"
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def run_notebook(source, quick=False, params=PARAMS, folder=files.NOTEBOOKS, **changes):
    """Execute a notebook; return the path of the .ipynb that is written into `folder`.

    `changes` are further parameters, which it must have. If a cell fails, papermill's error is
    raised, with a note where the failed notebook lies; an older .ipynb stays as it was.
    """
    import jupytext
    import nbformat
    import papermill

    source, notebook = Path(source), jupytext.read(source)
    values = ({} if quick else read_parameters(source.stem, params)) | changes
    declared = papermill.inspect_notebook(notebook)
    for name in values.keys() - declared.keys():
        raise ValueError(f"{source} has no parameter {name!r}; it has {', '.join(declared)}")
    scratch = Path(tempfile.mkdtemp(prefix=f"{source.stem}-"))
    executed = scratch / f"{source.stem}.ipynb"
    isolate(scratch)
    try:
        papermill.execute_notebook(notebook, executed, values, kernel_name="python3",
                                   cwd=str(files.ROOT), progress_bar=False,
                                   coalesce_streams=True)  # where one is cut depends on timing
    except papermill.PapermillExecutionError as error:
        error.add_note(f"{source} failed; the notebook as far as it went: {executed}")
        raise
    target = Path(folder) / executed.name
    files.write_text(target, nbformat.writes(normalise(nbformat.read(executed, 4))) + "\n")
    shutil.rmtree(scratch)
    return target


def read_parameters(name, params=PARAMS):
    """Read one notebook's section of params.yaml, a dict with the types that YAML 1.2 gives.

    Raises
    ------
    ValueError
        If the file is not YAML, or has no section of this name made of names and values.
    """
    try:
        return dict(YAML(typ="safe").load(Path(params))[name] or {})
    except (YAMLError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{params} has no section {name!r} of names and values, or is not YAML: "
                         f"{error}") from error


def read_change(text):
    """Read name=value, the value as in params.yaml."""
    name, _, value = text.partition("=")
    if not name.isidentifier() or not value.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    return name, YAML(typ="safe").load(value)


def isolate(scratch):
    """Give a kernel this project's environment and settings, and none of the user's."""
    os.environ.update(
        # No progress bars in outputs; sums in BLAS depend on the number of threads.
        JUPYTER_PATH="", MPLBACKEND="", PYTHONSTARTUP="", TQDM_DISABLE="1", OMP_NUM_THREADS="1",
        PYTHONPATH=f"{files.ROOT}{os.pathsep}{os.environ.get('PYTHONPATH') or files.ROOT}",
        # This environment's kernel, not a namesake of the user's.
        JUPYTER_PREFER_ENV_PATH="1", IPYTHONDIR=str(scratch), MATPLOTLIBRC=os.devnull,
        # glibc's malloc gives large arrays back at once, which costs the next one its page faults:
        # two thirds of a pass through the simulated crystal. Others do not read these.
        MALLOC_TRIM_THRESHOLD_=str(2**25), MALLOC_MMAP_THRESHOLD_=str(2**22))


def normalise(notebook):
    """Drop what differs between two equal runs: timings, random ids, versions of tools."""
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:03d}"
        cell.metadata = {name: cell.metadata[name] for name in ("jupyter", "tags")
                         if cell.metadata.get(name)}  # what the source says, or papermill's tag
        if cell.cell_type == "code":  # widgets are dead without their kernel
            cell.outputs = [output for output in cell.outputs
                            if WIDGET not in output.get("data", {})]
    return notebook


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pnn_utils.report.run")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all, in order")
    parser.add_argument("--quick", action="store_true", help="run at the notebooks' defaults")
    parser.add_argument("--set", action="append", default=[], type=read_change,
                        metavar="NAME=VALUE", help="a parameter of this run; the value is YAML")
    options = parser.parse_args(arguments)
    for source in options.notebooks or sorted(files.SOURCES.glob("[0-9]*.py")):
        print(f"{source.stem} ...", flush=True)
        print(f"  wrote {run_notebook(source, options.quick, **dict(options.set))}", flush=True)


if __name__ == "__main__":
    main()
