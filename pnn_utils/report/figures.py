"""House style of the figures."""

import matplotlib
import matplotlib.patches
import numpy as np

from pnn_utils import paths
from pnn_utils.files import atomic_path

# One colour a method in every figure (Okabe and Ito's palette, told apart by colour-blind readers too).
COLOURS = {"pat": "#0072B2", "in_silico": "#D55E00", "in_silico_on_model": "#E69F00", "digital": "#666666",
           "device": "#0072B2", "model": "#D55E00"}


def use_house_style():
    """Set fonts, sizes and lines for all figures that follow."""
    matplotlib.rcParams.update({
        "figure.dpi": 100, "savefig.dpi": 160, "font.size": 9, "axes.titlesize": 9, "axes.titleweight": "bold",
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "lines.linewidth": 1.4,
        "figure.constrained_layout.use": True, "svg.hashsalt": "pnn", "svg.fonttype": "none"})


def save_figure(fig, name):
    """Write ``figures/<name>.png`` and ``.svg``; the same figure gives the same bytes.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    name : str
        Without suffix.
    """
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        with atomic_path(paths.FIGURES / f"{name}.{suffix}") as temporary:
            fig.savefig(temporary, format=suffix, metadata=metadata)


def plot_band(axes, x, runs, label, colour, **line):
    """Draw the mean over runs with a band of two standard errors.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    x : array_like, shape (points,)
    runs : array_like, shape (n, points)
    label, colour : str
    """
    runs = np.asarray(runs, float)
    mean = runs.mean(0)
    error = 2 * runs.std(0, ddof=1) / len(runs) ** 0.5 if len(runs) > 1 else np.zeros_like(mean)
    axes.plot(x, mean, color=colour, label=label, **line)
    axes.fill_between(x, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)


def plot_confusion(axes, matrix, names):
    """Draw a confusion matrix, rows (true) normalised to 1, shares written into the cells.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    matrix : ndarray, shape (classes, classes)
        Counts.
    names : sequence of str
    """
    share = matrix / matrix.sum(1, keepdims=True).clip(1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in zip(*matrix.nonzero(), strict=True):
        axes.text(j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", fontsize=7,
                  color="white" if share[i, j] > 0.5 else "black")
    axes.set(xticks=range(len(names)), yticks=range(len(names)), xlabel="predicted", ylabel="true")
    axes.set_xticklabels(names)
    axes.set_yticklabels(names)
    axes.spines[:].set_visible(False)




def draw_box(axes, x, y, width, height, text, colour):
    """Draw a labelled box of a block diagram, its lower left corner at (x, y), in data coordinates."""
    axes.add_patch(matplotlib.patches.Rectangle((x, y), width, height, facecolor=colour, edgecolor="black", linewidth=0.8))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8)


def draw_arrow(axes, start, end):
    """Draw an arrow of a block diagram between two points (x, y) in data coordinates."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "linewidth": 0.9})


def plot_accuracies(axes, shown, colours):
    """Draw one row per method: each seed's accuracy as a dot, the mean with a bar of two standard errors.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    shown : dict of {label: {"accuracy": summary}}
        From top to bottom.
    colours : sequence of str
        Keys of `COLOURS`, one a row.
    """
    for i, (value, colour) in enumerate(zip(shown.values(), colours, strict=True)):
        accuracy, values = value["accuracy"], value["accuracy"]["values"]
        axes.plot(values, i + np.linspace(-0.2, 0.2, len(values)), "o", color=COLOURS[colour], markersize=3, alpha=0.5)
        axes.errorbar(accuracy["mean"], i, xerr=2 * accuracy["sd"] / accuracy["n"] ** 0.5, color=COLOURS[colour], fmt="|", markersize=14, capsize=3)
    axes.set(xlabel="accuracy", yticks=range(len(shown)), yticklabels=list(shown))
    axes.invert_yaxis()


def percent(value, digits=1):
    """Return the summary of a fraction as "mean ± sd % (n = ...)".

    Raises
    ------
    ValueError
        If `digits` is not a whole number from 0 to 15.
    """
    if not isinstance(digits, int) or not 0 <= digits <= 15:
        raise ValueError(f"digits is {digits!r}; expected a whole number from 0 to 15")
    spread = f" ± {100 * value['sd']:.{digits}f}" if value["n"] > 1 else ""
    return f"{100 * value['mean']:.{digits}f}{spread} % (n = {value['n']})"
