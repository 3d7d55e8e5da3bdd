"""Simulated physical systems, one folder each; ``base`` holds the contract that all keep."""
