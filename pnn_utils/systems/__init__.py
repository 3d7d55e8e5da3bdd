"""Simulated physical systems, one file each; ``base`` holds the contract that all of them keep."""
