"""README's tables, of results and of imperfections: ``python -m pnn_utils.readme [--check]`` writes or checks them."""

import argparse
import sys
from pathlib import Path

from pnn_utils import paths
from pnn_utils.files import write_text
from pnn_utils.report.metrics import read_metrics
from pnn_utils.systems.imperfections import imperfection_table

# Which figure of the paper each notebook answers to, for the README.
FIGURES = {"00_tour": "Fig. 1, tour, half-moons", "01_toy": "Supplement, toy example", "02_shg_vowels": "Fig. 2, SHG, vowels",
           "03_pat_vs_in_silico": "Fig. 3, PAT against in silico, plain chain",
           "04_plate_mnist": "Fig. 4a-d, plate, MNIST", "05_circuit_mnist": "Fig. 4e-h, circuit, MNIST",
           "06_shg_hybrid_mnist": "Fig. 4i-l, hybrid with SHG, MNIST",
           "07_oscillators_mnist": "Authors' Example 1, oscillators, MNIST",
           "08_oscillators_fashion_mnist": "Authors' Example 2, oscillators, Fashion-MNIST",
           "10_your_own_system": "Your own system, digits"}
# Some notebooks tell their results apart by endings of the methods' names.
ENDINGS = {"": "", "_talker_disjoint": ", talker-disjoint", "_circuit": ", circuit", "_function": ", plain function"}


def results_table(folder=None):
    """Return the README's results table, Markdown, from the metrics files.

    Raises
    ------
    ValueError
        If a file is damaged; see `pnn_utils.report.metrics.read_metrics`.
    """
    lines = ["| figure | quantity | paper | PAT, on the device | in silico, on the device | in silico, on its model | digital, linear |",
             "|---|---|---|---|---|---|---|"]
    for path in sorted(Path(folder or paths.METRICS).glob("*.json")):
        metrics = read_metrics(path)
        title = f"[{FIGURES.get(metrics['notebook'], metrics['notebook'])}](notebooks/{metrics['notebook']}.ipynb)"
        if metrics["profile"] != "full" or not metrics["results"]:
            continue
        for suffix, meaning in ENDINGS.items():
            results = metrics["results"]
            # Where device and model are the same, gradients are exact and there is no PAT to speak of.
            main = "exact" if f"pat{suffix}" not in results else "pat"
            for quantity in results.get(f"{main}{suffix}", {}):
                cells = [_cell(results.get(f"{m}{suffix}", {}).get(quantity)) for m in (main, "in_silico", "in_silico_on_model")]
                paper = metrics["paper"].get(main) if quantity == "accuracy" and not suffix else None
                lines.append(" | ".join([
                    f"| {title}", quantity.replace("_", " ") + meaning + (", exact gradients" if main == "exact" else ""),
                    "" if paper is None else f"{100 * paper:.4g} %", *cells,
                    _cell(metrics["baselines"].get(f"linear{suffix}", {}).get(quantity)) + " |"]))
    return "\n".join(lines)


def _cell(value):
    if value is None:
        return ""
    spread = f" ± {100 * value['sd']:.1f}" if value["n"] > 1 else ""
    digits = 1 if value["n"] > 1 or value["mean"] > 0.1 else 3
    return f"{100 * value['mean']:.{digits}f}{spread} % (n = {value['n']})"


def update_readme(check=False, readme=None):
    """Write the tables of results and of imperfections between the README's marks; with `check`, only tell whether they are in step.

    Raises
    ------
    ValueError
        If the README lacks the marks, or a metrics file is damaged.
    """
    readme = readme or paths.ROOT / "README.md"
    text = fresh = readme.read_text(encoding="utf-8")
    for name, table in (("results", results_table()), ("imperfections", imperfection_table())):
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        if not 0 <= fresh.find(start) < fresh.find(end):
            raise ValueError(f"{readme} lacks the lines {start} and {end}, in this order; the table of {name} goes between them")
        fresh = f"{fresh[:fresh.index(start)]}{start}\n{table}\n{fresh[fresh.index(end):]}"
    if not check and fresh != text:
        write_text(readme, fresh)
    return fresh == text


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pnn_utils.readme", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    if not update_readme(options.check) and options.check:
        print("README.md's tables are not in step with data/metrics and the devices; run: make readme", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
