"""All imperfections of the simulated devices in one table, for README."""

import dataclasses

from pnn_utils.systems.circuit.device import CircuitParameters
from pnn_utils.systems.oscillators.device import OscillatorParameters
from pnn_utils.systems.plate.device import PlateParameters
from pnn_utils.systems.shg.device import SHGParameters

DEVICES = {"SHG": SHGParameters, "Plate": PlateParameters, "Circuit": CircuitParameters, "Oscillators": OscillatorParameters}


def imperfection_table():
    """Return every imperfection as a row of Markdown: device, name, default, unit, what it does and why that much."""
    rows = ["| device | knob | default | unit | what it is, and why that much |", "|---|---|---|---|---|"]
    for device, parameters in DEVICES.items():
        for field in dataclasses.fields(parameters):
            if field.metadata["ideal"] is not None:
                # References in brackets are those of the device's module.
                rows.append(f"| `{device}` | `{field.name}` | {field.default:g} | {field.metadata['unit']} | {field.metadata['source']} |")
    return "\n".join(rows)
