"""Companion to "Deep physical neural networks trained with backpropagation" (Nature 601, 549, 2022).

Import the modules by name, for instance ``from pnn_utils.pat import physics_aware``; the package
itself imports nothing, so that it adds nothing to the start of a program.
"""

__version__ = "0.1.0"
