"""The shape of the house: who may import whom, how long a file may be, where numbers stand."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import pnn_utils
from pnn_utils.systems.base import make_parameters, parameter_table

PACKAGE = Path(pnn_utils.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
SYSTEMS = [path for path in FILES if path.is_relative_to(PACKAGE / "systems")]
TABLES = sorted(PACKAGE.glob("systems/*/parameters.csv"))
HEADER, ROW = "name,value,unit,off,low,high,source", "noise,0.1,V,0,0,1,chosen"


def named(path):
    return str(path.relative_to(PACKAGE))


def imported(path):
    """Full names of all that a file imports, wherever in the file it does."""
    package = ".".join(path.relative_to(PACKAGE.parent).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(module, package)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def below(name, *packages):
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def test_the_reader_of_imports_sees_them_all(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "pnn_utils")
    path = tmp_path / "pnn_utils" / "systems" / "a.py"
    path.parent.mkdir(parents=True)
    path.write_text("import os.path, torch\nfrom .. import pat\ndef f():\n from .b import c\n")
    assert set(imported(path)) == {"os.path", "torch", "pnn_utils.pat", "pnn_utils.systems.b.c"}
    assert below("torch.nn", "torch") and not below("torchvision", "torch")


@pytest.mark.parametrize("path", SYSTEMS, ids=named)
def test_systems_import_nothing_of_the_rest(path):
    own = "pnn_utils.systems"
    allowed = [f"{own}.base", f"{own}.compiled"]
    if path.parent.name != "systems":
        allowed.append(f"{own}.{path.parent.name}")
    ours = [name for name in imported(path) if below(name, "pnn_utils")]
    assert [name for name in ours if not below(name, *allowed)] == []


@pytest.mark.parametrize("path", [p for p in FILES if p not in SYSTEMS], ids=named)
def test_the_rest_knows_no_device(path):
    ours = [name for name in imported(path) if below(name, "pnn_utils.systems")]
    assert [name for name in ours if not below(name, "pnn_utils.systems.base")] == []


@pytest.mark.parametrize("path", [p for p in SYSTEMS if p.name != "model.py"], ids=named)
def test_only_models_import_torch(path):
    assert not [name for name in imported(path) if below(name, "torch")]
    system = f"pnn_utils.systems.{path.parent.name}"
    assert not [name for name in imported(path) if below(name, f"{system}.model")]


def test_no_device_loads_torch():
    modules = [f"pnn_utils.systems.{path.parent.name}.device" for path in TABLES]
    program = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent).returncode == 0


def test_no_file_is_longer_than_250_lines():
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 250} == {}


def test_every_device_has_a_table():
    assert {path.parent for path in TABLES} == {p.parent for p in SYSTEMS if p.name == "device.py"}
    assert len(TABLES) >= 4


@pytest.mark.parametrize("path", TABLES, ids=named)
def test_every_table_checks_itself(path):
    rows = parameter_table(path)
    assert vars(make_parameters(path)) == {row.name: row.value for row in rows}
    assert all(len(row.source) > 5 for row in rows)


@pytest.mark.parametrize("path", TABLES, ids=named)
def test_a_table_that_lost_a_field_is_refused_wherever_it_did(path, tmp_path):
    damaged, lines = tmp_path / path.name, path.read_text(encoding="utf-8").splitlines()
    for number in range(2, len(lines) + 1):
        shorter = lines[number - 1].split(",", 1)[1]
        damaged.write_text("\n".join([*lines[:number - 1], shorter, *lines[number:]]))
        with pytest.raises(ValueError, match=rf"{damaged}, line {number}: "):
            parameter_table(damaged)


@pytest.mark.parametrize("row", [
    "noise,0.1,V,0,0,1",
    "noise,0.1,V,0,0,1,chosen,twice",
    "",
    "more noise,0.1,V,0,0,1,chosen",
    "noise,much,V,0,0,1,chosen",
    "noise,,V,0,0,1,chosen",
    "noise,2.0,V,0,0,1,chosen",
    "noise,-0.1,V,0,0,1,chosen",
    "noise,nan,V,0,0,1,chosen",
    "noise,inf,V,0,0,inf,chosen",
    "noise,0.1,,0,0,1,chosen",
    "noise,0.1,V,-1,0,1,chosen",
    "noise,0.1,V,0,1,0,chosen",
    "noise,0.1,V,0,0,much,chosen",
    "noise,0.1,V,0,0,1,",
    "offset,0.1,V,0,0,1,a second one of this name",
])
def test_a_damaged_row_is_refused_by_path_and_line(row, tmp_path):
    path = tmp_path / "parameters.csv"
    path.write_text(f"{HEADER}\n{ROW.replace('noise', 'offset')}\n{row}\n{ROW}\n")
    with pytest.raises(ValueError, match=f"{path}, line 3: "):
        parameter_table(path)


@pytest.mark.parametrize("text", [
    b"", b"\n", b"noise,0.1\n", HEADER.encode() + b",remark\n", HEADER.encode() + b"\n\xff\n",
    HEADER.replace("off", "ideal").encode(), f"{HEADER}\n{ROW}".encode("utf-16")])
def test_what_is_no_table_is_refused_by_path(text, tmp_path):
    path = tmp_path / "parameters.csv"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=str(path)):
        parameter_table(path)
