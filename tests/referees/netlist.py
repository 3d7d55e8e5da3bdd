"""The simulated transistor circuit as a SPICE netlist, and one run of ngspice on it: a referee."""

import pathlib
import shutil
import subprocess
import tempfile

import numpy as np

HOLD_EDGE = 1e-9  # s: the drive's steps as ramps, centred on the step: no shift to first order


def netlist(p, drive, reltol=1e-6):
    """Write the circuit driven by one waveform as an ngspice deck that runs in batch mode.

    Parameters
    ----------
    p : types.SimpleNamespace
        The circuit's own values; imperfections are ignored, as in the device's solver.
    drive : array_like, shape (samples,)
        Voltages held for one sample interval each; the circuit starts from rest.
    reltol : float
        Relative tolerance of ngspice.
    """
    edge, half = np.arange(len(drive)) * p.sample_interval, HOLD_EDGE / 2
    # Rest for one interval first, so that the first step is centred on its time like all others.
    times = np.column_stack([edge - half, edge + half]).ravel() + p.sample_interval
    levels = np.column_stack([np.append(0.0, drive[:-1]), drive]).ravel()
    points = "".join(f"\n+ {t:.12e} {u:.12e}" for t, u in zip(times, levels, strict=True))
    stop = (len(drive) + 1) * p.sample_interval
    celsius = p.temperature - 273.15
    channel = (f"VTO={p.threshold:.12e} KP={p.transconductance:.12e} "
               f"RS={p.source_resistance:.12e} RD={p.drain_resistance:.12e}")
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
.MODEL channel NMOS(LEVEL=1 {channel}
+ IS=1e-15 CBD={p.junction_capacitance:.12e} PB={p.junction_potential:.12e})
.MODEL body D(IS={p.diode_saturation_current:.12e} RS={p.diode_resistance:.12e})
.OPTIONS RELTOL={reltol:g} TEMP={celsius:g} TNOM={celsius:g}
.CONTROL
set wr_singlescale
set numdgt=12
tran {p.sample_interval / 10:g} {stop:.12e}
wrdata waveform.txt v(v)
.ENDC
.END
"""


def run_ngspice(p, drive, reltol=1e-6):
    """Voltage on the capacitor at the end of each hold interval, shape (samples,), in volts.

    Arguments as for `netlist`. Where ngspice fails or stops early, the error holds what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        deck, waveform = (pathlib.Path(folder, name) for name in ("circuit.cir", "waveform.txt"))
        deck.write_text(netlist(p, drive, reltol), encoding="ascii")
        run = subprocess.run(["ngspice", "-b", deck.name],
                             cwd=folder, capture_output=True, text=True, timeout=60)
        ends = (np.arange(len(drive)) + 2) * p.sample_interval
        table = np.loadtxt(waveform) if waveform.exists() else np.zeros((1, 2))
        if table[-1, 0] < ends[-1] * (1 - 1e-9):
            raise RuntimeError(f"ngspice stopped at {table[-1, 0]:g} s of {ends[-1]:g} s and "
                               f"said: {run.stdout[-500:]} {run.stderr[-500:]}")
    # ngspice steps onto every corner of the drive: the readings lie within ramps, a line serves.
    return np.interp(ends, table[:, 0], table[:, 1])


def ngspice_version():
    """Return the version of the installed ngspice, such as "39", or None if there is none."""
    if shutil.which("ngspice") is None:
        return None
    told = subprocess.run(["ngspice", "--version"], capture_output=True, text=True).stdout
    return next((word.removeprefix("ngspice-") for word in told.split()
                 if word.startswith("ngspice-")), "unknown")
