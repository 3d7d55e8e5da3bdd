"""Coupled pendulums, as in the authors' public notebooks."""
