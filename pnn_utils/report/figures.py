"""House style of the figures, and of the tables and words beside them."""

import numpy as np
from matplotlib import patches, style

from pnn_utils import files

# One colour a method in every figure (Okabe and Ito's palette, for colour-blind readers too).
COLOURS = {"pat": "#0072B2", "in_silico": "#D55E00", "in_silico_on_model": "#E69F00",
           "digital": "#666666", "device": "#0072B2", "model": "#D55E00"}


def use_house_style():
    """Set fonts, sizes and lines for all figures that follow, as ``house.mplstyle`` says."""
    style.use(files.ROOT / "pnn_utils" / "report" / "house.mplstyle")


def save_figure(fig, notebook, name):
    """Write ``figures/<notebook>/<name>.png`` and ``.svg``; equal figures give equal bytes."""
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        with files.atomic_path(files.FIGURES / notebook / f"{name}.{suffix}") as temporary:
            fig.savefig(temporary, format=suffix, metadata=metadata)


def folded_table(rows, *shown):
    """Return a device's parameters as Markdown: those named in `shown`, and all, folded away.

    rows : as `parameter_table` returns them
    *shown : names of about five rows
    """
    head = "| parameter | value | unit | off at | source or reason |\n|---|---|---|---|---|"
    lines = {row.name: f"| `{row.name}` | {row.value:g} | {row.unit} | "
                       f"{'' if row.off is None else format(row.off, 'g')} | {row.source} |"
             for row in rows}
    title = f"All {len(rows)} parameters; a number under <i>off at</i> marks an imperfection"
    return "\n".join([head, *(lines[name] for name in shown), "", "<details>",
                      f"<summary>{title}</summary>", "", head, *lines.values(), "", "</details>"])


def plot_band(axes, x, runs, label, colour, **line):
    """Draw the mean over runs, shape (n, points), with a band of two standard errors."""
    mean, n = np.mean(runs, 0), len(runs)
    error = 2 * np.std(runs, 0, ddof=min(1, n - 1)) / n**0.5
    axes.plot(x, mean, color=colour, label=label, **line)
    axes.fill_between(x, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)


def plot_confusion(axes, matrix, names):
    """Draw counts (true, predicted) with each row normalised to 1, shares written into cells."""
    share = matrix / matrix.sum(1, keepdims=True).clip(1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in zip(*matrix.nonzero(), strict=True):
        axes.text(j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", fontsize=7,
                  color="white" if share[i, j] > 0.5 else "black")
    axes.set(xticks=range(len(names)), yticks=range(len(names)), xticklabels=names,
             yticklabels=names, xlabel="predicted", ylabel="true")
    axes.spines[:].set_visible(False)


def plot_accuracies(axes, shown, colours):
    """Draw a row a method: each seed's accuracy, the mean with a bar of two standard errors.

    shown : dict of {label: {"accuracy": summary}}, from top to bottom
    colours : keys of `COLOURS`, one a row
    """
    for i, (quantities, colour) in enumerate(zip(shown.values(), colours, strict=True)):
        accuracy, drawn = quantities["accuracy"], {"color": COLOURS[colour]}
        dots = i + np.linspace(-0.2, 0.2, accuracy["n"])
        axes.plot(accuracy["values"], dots, "o", markersize=3, alpha=0.5, **drawn)
        error = 2 * accuracy["sd"] / accuracy["n"] ** 0.5
        axes.errorbar(accuracy["mean"], i, xerr=error, fmt="|", markersize=14, capsize=3, **drawn)
    axes.set(xlabel="accuracy", yticks=range(len(shown)), yticklabels=list(shown))
    axes.invert_yaxis()


def draw_box(axes, x, y, width, height, text, colour):
    """Draw a labelled box of a block diagram, its lower left corner at (x, y)."""
    axes.add_patch(patches.Rectangle(
        (x, y), width, height, facecolor=colour, edgecolor="black", linewidth=0.8))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8)


def draw_arrow(axes, start, end):
    """Draw an arrow of a block diagram between two points (x, y)."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "linewidth": 0.9})


def percent(value, digits=1):
    """Return the summary of a fraction as "mean ± sd % (n = ...)"."""
    spread = f" ± {100 * value['sd']:.{digits}f}" if value["n"] > 1 else ""
    return f"{100 * value['mean']:.{digits}f}{spread} % (n = {value['n']})"


def told(one, more, less, tie="no difference is resolved", digits=1, scale=100, unit=" points"):
    """Put a paired difference (`experiment.paired`) of accuracies into words, with its error.

    >>> one = {"difference": 0.03, "standard_error": 0.01, "n": 5, "resolved": True}
    >>> told(one, "PAT is ahead", "PAT is behind")
    'PAT is ahead (+3.0 ± 1.0 points, n = 5)'
    """
    words = (more if one["difference"] > 0 else less) if one["resolved"] else tie
    error = f" ± {scale * one['standard_error']:.{digits}f}" if one["n"] > 1 else ""
    return f"{words} ({scale * one['difference']:+z.{digits}f}{error}{unit}, n = {one['n']})"
