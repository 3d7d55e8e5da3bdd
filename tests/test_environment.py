"""environment.yml (conda, Binder) and requirements.txt (pip) name the same packages, and agree."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from pnn_utils import files

# Where a package's name is not that of the module that it brings.
PACKAGES = {"sklearn": "scikit-learn", "ruamel": "ruamel-yaml", "parselmouth": "praat-parselmouth"}
CONDA_NAMES = {"pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}
# What conda brings and pip does not: the interpreter, its tools, a program without a pip package.
CONDA_ONLY = {"python", "pip", "setuptools", "ngspice"}


def pinned():
    """Return {name: version} of what the project imports or calls, and of what those need."""
    direct, needed = (files.ROOT / "requirements.txt").read_text().split("# What those need")
    return [{canonicalize_name(name): Version(version)
             for name, version in re.findall(r"^([\w.-]+)==([\w.+]+)", part, re.M)}
            for part in (direct, needed)]


def conda():
    """Return {name as pip has it: allowed versions}; conda's ``=3`` is any that begins with 3."""
    found = {}
    for line in yaml.safe_load((files.ROOT / "environment.yml").read_text())["dependencies"]:
        name, rest = re.fullmatch(r"([\w.-]+)(.*)", line).groups()
        allowed = f"=={rest[1:]}.*" if re.match(r"=[\d.]+$", rest) else rest
        found[canonicalize_name(CONDA_NAMES.get(name, name))] = SpecifierSet(allowed)
    return found


def project():
    return tomllib.loads((files.ROOT / "pyproject.toml").read_text())["project"]


def test_both_files_name_the_same_packages():
    assert set(conda()) - CONDA_ONLY == set(pinned()[0])


def test_conda_allows_the_pinned_versions_and_no_other_major_one():
    direct, _ = pinned()
    for name, allowed in conda().items():
        if name in direct:
            versions = f"{name}: pip has {direct[name]}, environment.yml allows {allowed}"
            assert direct[name] in allowed, versions
            assert Version(f"{direct[name].major + 1}") not in allowed, versions


def test_python_of_conda_is_one_that_the_project_declares():
    declared = SpecifierSet(project()["requires-python"])
    wanted = str(conda()["python"]).removeprefix("==").removesuffix(".*")
    assert Version(wanted) in declared


def test_pip_install_brings_what_the_package_imports_and_in_the_versions_that_were_tested():
    imported = {"ipykernel"}  # by name: the kernel of a notebook
    for path in (files.ROOT / "pnn_utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported |= {name.split(".")[0] for name in names}
    extras = project()["optional-dependencies"].values()
    optional = {Requirement(one).name for extra in extras for one in extra}
    wanted = imported - sys.stdlib_module_names - {"pnn_utils"} - optional
    declared = {canonicalize_name(one.name): one.specifier
                for one in map(Requirement, project()["dependencies"])}
    assert set(declared) == {canonicalize_name(PACKAGES.get(name, name)) for name in wanted}
    versions = {**pinned()[1], **pinned()[0]}
    for name, allowed in declared.items():
        assert versions[name] in allowed, f"{name} {versions[name]}: pyproject has {allowed}"
        assert Version(f"{versions[name].major + 1}") not in allowed, f"{name}: {allowed}"


def test_an_installed_package_has_all_of_its_data():
    patterns = tomllib.loads((files.ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"]["pnn_utils"]
    folder = files.ROOT / "pnn_utils"
    taken = {path for pattern in patterns for path in folder.glob(pattern)}
    data = {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".py"
            and not {"__pycache__"} & {*path.parts}}
    assert data == taken


def test_a_relative_folder_for_trials_is_the_same_one_for_whoever_runs_elsewhere(tmp_path):
    code = "from pnn_utils import files; print(files.METRICS)"
    environment = {**os.environ, "PNN_SCRATCH": "trial", "PYTHONPATH": str(files.ROOT)}
    found = {subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True,
                            capture_output=True, text=True).stdout.strip()
             for folder in (tmp_path, files.ROOT, files.SOURCES)}
    assert found == {str(files.ROOT / "trial" / "data" / "metrics")}


def test_every_requirement_is_pinned():
    text = (files.ROOT / "requirements.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) == sum(map(len, pinned()))


def test_every_module_works_where_nothing_can_be_written(tmp_path):
    package = tmp_path / "pnn_utils"
    shutil.copytree(files.ROOT / "pnn_utils", package,
                    ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [package, *package.rglob("*/")]:
        (folder / "__pycache__").touch()  # a file: nobody, root neither, makes that folder
    code = """
import importlib, pkgutil, numpy, pnn_utils
for module in pkgutil.walk_packages(pnn_utils.__path__, "pnn_utils."):
    importlib.import_module(module.name)
from pnn_utils.systems.circuit.device import Circuit
from pnn_utils.systems.plate.device import Plate
for device in (Circuit(), Plate()):
    device(numpy.zeros((1, 196)), numpy.zeros(0))
print(pnn_utils.__file__)
"""
    nowhere = str(tmp_path / "file")  # neither a home folder nor anything in it can be made
    (tmp_path / "file").touch()
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                          text=True, env=environment | {
                              "HOME": nowhere, "XDG_CACHE_HOME": nowhere, "PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(tmp_path) in done.stdout
