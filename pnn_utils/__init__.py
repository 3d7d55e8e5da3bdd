"""Companion to "Deep physical neural networks trained with backpropagation", Nature 601, 549.

Import the modules by name, for instance ``from pnn_utils.pat import physics_aware``; the package
itself imports nothing, so that it adds nothing to the start of a program.
"""

import sys

__version__ = "0.1.0"

if sys.platform == "win32":
    raise ImportError("pnn_utils runs on Linux and macOS; on Windows, use WSL "
                      "(Windows Subsystem for Linux).")
