"""The simulated transistor circuit as a SPICE netlist, and one run of ngspice on it (the referee of the tests)."""

import pathlib
import shutil
import subprocess
import tempfile

import numpy as np

from pnn_utils.systems.base import check_number

HOLD_EDGE = 1e-9  # s: the drive's steps as ramps, centred on the step; shifts nothing to first order


def netlist(p, drive, reltol=1e-6, results="waveform.txt"):
    """Write the circuit driven by one waveform as an ngspice deck that runs in batch mode.

    Parameters
    ----------
    p : CircuitParameters
        The circuit's own values; imperfections are ignored, as in `pnn_utils.systems.circuit.solver.simulate`.
    drive : array_like, shape (samples,)
        Voltages held for one sample interval each; the circuit starts from rest.
    reltol : float
        Relative tolerance of ngspice.
    results : str
        File, in the folder where ngspice runs, to which it writes time and v(node), in seconds and volts.

    Returns
    -------
    str

    Raises
    ------
    TypeError
        If `reltol` is not a number, or the drive not of numbers.
    ValueError
        If `reltol` is not between 0 and 1, or the drive is not one row of finite voltages, at least one.
    """
    check_number(1e-15, 1, reltol=reltol)
    drive = np.asarray(drive)
    if drive.dtype.kind not in "fiu":
        raise TypeError(f"drive has dtype {drive.dtype}; expected real numbers")
    if drive.ndim != 1 or not drive.size or not np.isfinite(drive).all():
        raise ValueError(f"drive has shape {drive.shape}; expected (samples,), at least one, all finite")
    drive = drive.astype(float)
    edge, half = np.arange(len(drive)) * p.sample_interval, HOLD_EDGE / 2
    # Rest for one interval first, so that the first step is centred on its time like all the others.
    times = np.column_stack([edge - half, edge + half]).ravel() + p.sample_interval
    levels = np.column_stack([np.append(0.0, drive[:-1]), drive]).ravel()
    points = "".join(f"\n+ {t:.12e} {u:.12e}" for t, u in zip(times, levels, strict=True))
    stop = (len(drive) + 1) * p.sample_interval
    return f"""Series R-L into C, loaded by a diode-connected BS170 through a resistor
Vdac dac 0 PWL(0 0{points})
R1 dac a {p.resistance:.12e}
R2 a b {p.coil_resistance:.12e}
L1 b v {p.inductance:.12e}
C1 v 0 {p.capacitance:.12e}
R3 v drain {p.load_resistance:.12e}
X1 drain drain 0 BS170
.SUBCKT BS170 d g s
M1 d gate s s channel W=100u L=100u
RG g gate {p.gate_resistance:.12e}
RL d s {p.leakage_resistance:.12e}
CGS gate s {p.gate_source_capacitance:.12e}
CGD d gate {p.gate_drain_capacitance:.12e}
D1 s d body
.ENDS
.MODEL channel NMOS(LEVEL=1 VTO={p.threshold:.12e} KP={p.transconductance:.12e} RS={p.source_resistance:.12e} RD={p.drain_resistance:.12e}
+ IS=1e-15 CBD={p.junction_capacitance:.12e} PB={p.junction_potential:.12e})
.MODEL body D(IS={p.diode_saturation_current:.12e} RS={p.diode_resistance:.12e})
.OPTIONS RELTOL={reltol:g} TEMP={p.temperature - 273.15:g} TNOM={p.temperature - 273.15:g}
.CONTROL
set wr_singlescale
set numdgt=12
tran {p.sample_interval / 10:g} {stop:.12e}
wrdata {results} v(v)
.ENDC
.END
"""


def run_ngspice(p, drive, reltol=1e-6):
    """Voltage on the capacitor at the end of each hold interval by ``ngspice -b``, shape (samples,), in volts.

    Parameters
    ----------
    p, drive, reltol
        See `netlist`.

    Raises
    ------
    FileNotFoundError
        If there is no ngspice.
    TypeError, ValueError
        If `netlist` refuses the drive or the tolerance.
    RuntimeError
        If ngspice fails or stops early; the message holds what it said.
    """
    program = shutil.which("ngspice")
    if program is None:
        raise FileNotFoundError("ngspice was not found on PATH (Debian and Ubuntu: apt-get install ngspice; conda-forge: ngspice)")
    with tempfile.TemporaryDirectory() as folder:
        deck, waveform = pathlib.Path(folder, "circuit.cir"), pathlib.Path(folder, "waveform.txt")
        deck.write_text(netlist(p, drive, reltol), encoding="ascii")
        run = subprocess.run([program, "-b", deck.name], cwd=folder, capture_output=True, text=True, timeout=60)
        ends = (np.arange(len(drive)) + 2) * p.sample_interval
        table = np.loadtxt(waveform) if waveform.exists() else np.zeros((1, 2))
        if table[-1, 0] < ends[-1] * (1 - 1e-9):
            raise RuntimeError(f"ngspice stopped at {table[-1, 0]:g} s of {ends[-1]:g} s and said: {run.stdout[-500:]} {run.stderr[-500:]}")
    # ngspice steps onto every corner of the drive, so the readings lie within the ramps and a straight line serves.
    return np.interp(ends, table[:, 0], table[:, 1])


def ngspice_version():
    """Return the version of the installed ngspice, such as "39", or None if there is none."""
    program = shutil.which("ngspice")
    if program is None:
        return None
    words = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.split()
    return next((word.removeprefix("ngspice-") for word in words if word.startswith("ngspice-")), "unknown")
