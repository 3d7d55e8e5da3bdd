"""Where things live, independent of the working directory.

Results (notebooks as executed, figures, metrics, models) go to their committed places, or, when the
environment variable ``PNN_SCRATCH`` names a folder, to the same places below that folder, so that a
trial run touches nothing that is committed. Raw data, sources and the weights of long trainings always stay in the project.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "notebooks"
RAW = ROOT / "data" / "raw"

RESULTS = Path(os.environ["PNN_SCRATCH"]).resolve() if os.environ.get("PNN_SCRATCH") else ROOT
NOTEBOOKS = RESULTS / "notebooks"
TWINS = RESULTS / "data" / "twins"
METRICS = RESULTS / "data" / "metrics"
WEIGHTS = ROOT / "data" / "weights"  # of long trainings; committed
SWEEPS = RESULTS / "data" / "sweeps"  # of sweeps under way, not committed
FIGURES = RESULTS / "figures"
