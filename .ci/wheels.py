"""Is there a wheel of every pinned package for each Python and platform? ``make wheels``.

The registry is asked as an installation would ask it; nothing is installed. Exits with 1 if a
wheel is missing.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

GLIBC = (28, 27, 26, 24, 17, 12, 5)  # 2.x
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# What an installation there calls the machine and the system, and the wheels that it accepts.
PLATFORMS = {
    "Linux x86-64": ("x86_64", "linux", [f"manylinux_2_{n}_x86_64" for n in GLIBC]),
    "Linux aarch64": ("aarch64", "linux", [f"manylinux_2_{n}_aarch64" for n in GLIBC]),
    "macOS arm64": ("arm64", "darwin", ["macosx_14_0_arm64"]),
}
PURE_SOURCE = "antlr4-python3-runtime"  # published without wheels; pure Python, built anywhere


def wanted(machine, system, python):
    """Return the requirements that hold there, without their markers."""
    here = {"platform_machine": machine, "sys_platform": system, "python_version": python}
    lines = (Path(__file__).parents[1] / "requirements.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [f"{r.name}{r.specifier}" for r in found
            if r.name != PURE_SOURCE and (r.marker is None or r.marker.evaluate(here))]


def missing(requirements, python, tags):
    """Return what pip says if a package has no wheel for this Python and these platform tags."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps",
                   "--ignore-installed", "--only-binary=:all:", "--target", folder,
                   "--implementation", "cp", "--python-version", python, *requirements]
        for tag in tags:
            command += ["--platform", tag]
        done = subprocess.run(command, capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


def main():
    failed = 0
    for platform, (machine, system, tags) in PLATFORMS.items():
        for python in PYTHONS:
            said = missing(wanted(machine, system, python), python, tags)
            failed += bool(said)
            print(f"{platform:<14} Python {python}  {said or 'all wheels there'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
