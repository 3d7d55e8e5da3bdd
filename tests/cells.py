"""What a notebook's cells define, without a run of the notebook."""

import ast

import jupytext

from pnn_utils import files


def defined(notebook, *names):
    """Return functions, classes and constants of a notebook, given its imports."""
    space = {}
    for cell in jupytext.read(files.SOURCES / f"{notebook}.py").cells:
        if cell.cell_type == "code":
            kept = [node for node in ast.parse(cell.source).body
                    if isinstance(node, ast.Import | ast.ImportFrom)
                    or getattr(node, "name", None) in names
                    or {target.id for target in getattr(node, "targets", ())
                        if isinstance(target, ast.Name)} & {*names}]
            exec(compile(ast.Module(kept, []), notebook, "exec"), space)
    return [space[name] for name in names]
