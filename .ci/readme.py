"""README's tables, of results, methods and imperfections: ``python .ci/readme.py [--check]``.

Writes them from data/metrics and from the devices' parameter tables, or checks that they are in
step.
"""

import argparse
import sys

from reproduced import read_metrics

from pnn_utils import files
from pnn_utils.report.figures import percent
from pnn_utils.systems.base import parameter_table

# Which figure of the paper each notebook answers to.
FIGURES = {"00_tour": "Fig. 1, tour, half-moons",
           "01_toy": "Supplement, toy example",
           "02_shg_vowels": "Fig. 2, SHG, vowels, plain chain",
           "03_pat_vs_in_silico": "Fig. 3, PAT against in silico, plain chain",
           "04_plate_mnist": "Fig. 4a-d, plate, MNIST",
           "05_circuit_mnist": "Fig. 4e-h, circuit, MNIST",
           "06_shg_hybrid_mnist": "Fig. 4i-l, hybrid with SHG, MNIST",
           "07_oscillators_mnist": "Authors' Example 1, oscillators, MNIST",
           "08_oscillators_fashion_mnist": "Authors' Example 2, oscillators, Fashion-MNIST",
           "10_your_own_system": "Your own system, digits",
           "11_your_sound_card": "Your own sound card, digits 0 to 3",
           "12_when_a_device_fails": "A device that fails",
           "13_real_circuit": "Fig. 4e-h, a device fitted to the authors' circuit, MNIST"}
# Some notebooks tell their results apart by endings of the methods' names.
ENDINGS = {"": "", "_authors_tokens": ", the authors' tokens",
           "_talker_disjoint": ", talker-disjoint", "_skip": ", with skip connections (ours)",
           "_skip_authors_tokens": ", with skip connections (ours), the authors' tokens",
           "_circuit": ", circuit", "_function": ", plain function",
           "_raster": ", pixels in raster order",
           "_authors_setting": ", 20 epochs, plain model, read once"}
METHODS = {"exact": "exact gradients (a ceiling)", "pat": "PAT", "dat": "DAT",
           "sat_pat": "SAT with PAT gradients", "output_only": "output-only PAT", "asyt": "AsyT",
           "refitted": "re-fitted", "noise_aware": "noise-aware",
           "in_silico_restandardised": "in silico, constants renewed",
           "in_silico": "in silico, as deployed", "sat": "SAT, in silico", "spsa": "SPSA",
           "dfa": "DFA", "augmented_dfa": "augmented DFA",
           "phyll": "PhyLL, a network of its own"}
DEVICES = {"SHG": "shg", "Plate": "plate", "Circuit": "circuit", "Oscillators": "oscillators"}


def results_table(folder=files.METRICS):
    """Return the table of results, Markdown, from the metrics files."""
    lines = ["| figure | quantity | paper | PAT, on the device | exact gradients "
             "| in silico, on the device | the same, re-standardised | in silico, on its model "
             "| digital, linear |", "|---" * 9 + "|"]
    for path in sorted(folder.glob("*.json")):
        metrics = read_metrics(path)
        name, results = metrics["notebook"], metrics["results"]
        if name not in FIGURES:  # 09 has tables of its own
            continue
        title = f"[{FIGURES[name]}](notebooks/{name}.ipynb)"
        for ending, meaning in ENDINGS.items() if metrics["profile"] == "full" else ():
            # Where device and model are the same, gradients are exact and there is no PAT.
            main = "pat" if f"pat{ending}" in results else "exact"
            rival = "in_silico_fitted" if f"in_silico_fitted{ending}" in results else "in_silico"
            for quantity in results.get(f"{main}{ending}", {}):
                if quantity.startswith("train"):
                    continue
                cells = [_cell(results, f"{method}{ending}", quantity)
                         for method in ("pat", "exact", rival,
                                        f"{rival}_restandardised", f"{rival}_on_model")]
                paper = metrics["paper"].get(main + ending) if quantity == "accuracy" else None
                cells = [title, quantity.replace("_", " ") + meaning,
                         "" if paper is None else f"{100 * paper:.4g} %", *cells,
                         _cell(metrics["baselines"], f"linear{ending}", quantity)]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(group, method, quantity):
    value = group.get(method, {}).get(quantity)
    if value is None:
        return ""
    return percent(value, 1 if value["n"] > 1 or value["mean"] > 0.1 else 3)


def methods_table(folder=files.METRICS):
    """Return accuracies of training methods on the systems of 09, as Markdown."""
    results = read_metrics(folder / "09_training_methods.json")["results"]
    systems = [name.removeprefix("pat_") for name in results if name.startswith("pat_")
               and "equal_passes" not in name]
    lines = [f"| test accuracy (%) | {' | '.join(systems)} |", "|---" * (len(systems) + 1) + "|"]
    for method, label in METHODS.items():
        found = [results.get(f"{method}_{name}", {}).get("accuracy") for name in systems]
        cells = ["" if one is None else f"{100 * one['mean']:.1f} ± {100 * one['sd']:.1f}"
                 for one in found]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def imperfections_table():
    """Return every imperfection as a row of Markdown, from the devices' parameter tables."""
    lines = ["| device | knob | default | unit | what it is, and why that much |",
             "|---|---|---|---|---|"]
    for device, folder in DEVICES.items():
        table = files.ROOT / "pnn_utils" / "systems" / folder / "parameters.csv"
        # References in brackets are those of the device's module.
        lines += [f"| `{device}` | `{row.name}` | {row.value:g} | {row.unit} | {row.source} |"
                  for row in parameter_table(table) if row.off is not None]
    return "\n".join(lines)


def update_readme(check=False, readme=files.ROOT / "README.md"):
    """Write the tables between README's marks, or only check; return whether they were in step."""
    text = fresh = readme.read_text(encoding="utf-8")
    tables = {"results": results_table(), "methods": methods_table(),
              "imperfections": imperfections_table()}
    for name, table in tables.items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        if not 0 <= fresh.find(start) < fresh.find(end):
            raise ValueError(f"{readme} lacks the lines {start} and {end}, in this order; "
                             f"the table of {name} goes between them")
        before, after = fresh[:fresh.index(start)], fresh[fresh.index(end):]
        fresh = f"{before}{start}\n{table}\n{after}"
    if not check and fresh != text:
        files.write_text(readme, fresh)
    return fresh == text


def main():
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python .ci/readme.py")
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    if update_readme(check) or not check:
        return 0
    print("README.md's tables are not in step with data/metrics and the devices' parameters; "
          "run: make readme", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
