"""The vowel task: which of seven vowels did a woman say, from twelve formant frequencies.

References
----------
.. [1] J. Hillenbrand et al., J. Acoust. Soc. Am. 97, 3099 (1995): the table of measurements.
.. [2] G. Peterson and H. Barney, J. Acoust. Soc. Am. 24, 175 (1952): the fallback's table.
.. [3] Wright, Onodera et al., Nature 601, 549 (2022), first code release: which tokens of [1].
"""

import csv
from collections import namedtuple
from pathlib import Path

import numpy as np

from pnn_utils import files
from pnn_utils.datasets import fetch
from pnn_utils.systems.base import check_choice

AUTHORS = Path(__file__).with_name("authors_tokens.csv")
CLASSES = ("ae", "ah", "aw", "er", "ih", "iy", "uw")
TOKENS_PER_CLASS, TEST_PER_CLASS = 37, 7
# F1, F2, F3 at steady state and at 20, 50 and 80 % of the vowel: columns of the table, from 0.
COLUMNS = (3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15)
PETERSON_BARNEY = dict(zip(("ae", "aa", "ao", "er", "ih", "iy", "uw"), CLASSES, strict=True))


# Measured tokens: formants (n, 12) in Hz, label (n,) that indexes `CLASSES`, talker (n,); their
# source, a dict of name and sha256.
Tokens = namedtuple("Tokens", "formants label talker source")

# One split: inputs (n, 12) float32 from 0 to 1, labels (n,), and their rows of `Tokens`.
VowelTask = namedtuple("VowelTask", "train_x train_y test_x test_y train_index test_index")


def load_tokens():
    """Read the women's tokens of the seven vowels whose twelve formants could all be measured.

    They come from Hillenbrand's table [1] or, where only that could be fetched, from the fallback
    [2], whose three formants stand four times in a row, for the network's shape.

    Raises
    ------
    FileNotFoundError, ValueError
        If neither table is there, or it is altered.
    """
    folder = files.RAW / "vowels"
    if (folder / fetch.FALLBACK).exists() and not (folder / "vowdata.dat").exists():
        table, name = fetch.path("vowels", fetch.FALLBACK), "Peterson & Barney 1952 (fallback)"
        lines = table.read_text(encoding="utf-8").splitlines()
        rows = [(row["Speaker"], PETERSON_BARNEY.get(row["Vowel"]),
                 [row["F1"], row["F2"], row["F3"]] * 4)
                for row in csv.DictReader(lines, delimiter="\t") if row["Type"] == "w"]
    else:
        table, name = fetch.path("vowels", "vowdata.dat"), "Hillenbrand 1995"
        lines = map(str.split, table.read_text(encoding="latin-1").splitlines())
        # A line of data begins with the token's name, for instance w03ae: group, talker, vowel.
        rows = [(f[0][:3], f[0][3:], [f[c] for c in COLUMNS])
                for f in lines if len(f) == 16 and f[0][0] == "w"]
    talker, vowel, formants = zip(*[row for row in rows if row[1] in CLASSES], strict=True)
    formants, label = np.array(formants, float), np.array([CLASSES.index(v) for v in vowel])
    whole = (formants > 0).all(1)  # 0 stands for "not measurable"
    source = {"name": name, "sha256": files.sha256(table)}
    return Tokens(formants[whole], label[whole], np.array(talker)[whole], source)


def vowel_task(seed, which="draws", tokens=None, divide=None):
    """Choose 37 tokens a vowel and split them into 210 for training and 49 for the test.

    Each column is scaled so that the training tokens span [0, 1]; test values beyond are clipped.

    seed : one child seed draws the tokens, another splits them
    which : "draws", by seed; "authors", the 259 tokens of the paper's authors [3]
    tokens : default `load_tokens()`
    divide : ``divide(tokens, rows, rng)`` -> which of the rows chosen are the test's, a mask;
        default: seven of each vowel, by seed

    Raises
    ------
    ValueError
        If `which` is neither, or the authors' tokens are not among these.
    """
    check_choice("which", which, "draws", "authors")
    tokens = tokens or load_tokens()
    draw, rng = np.random.default_rng(seed).spawn(2)
    known = which == "draws" or authors_parts(tokens) != ""
    rows = [np.flatnonzero(known & (tokens.label == c)) for c in range(len(CLASSES))]
    rows = [draw.permutation(r)[:TOKENS_PER_CLASS] if which == "draws" else r for r in rows]
    if divide:
        chosen = np.concatenate(rows)
        in_test = divide(tokens, chosen, rng)
        train, test = chosen[~in_test], chosen[in_test]
    else:
        rows = np.array([rng.permutation(r) for r in rows])
        train, test = rows[:, TEST_PER_CLASS:].ravel(), rows[:, :TEST_PER_CLASS].ravel()
    train = rng.permutation(train)  # so that any leading part of it is a fair sample
    low, high = tokens.formants[train].min(0), tokens.formants[train].max(0)
    x, y = np.clip((tokens.formants - low) / (high - low), 0, 1).astype(np.float32), tokens.label
    return VowelTask(x[train], y[train], x[test], y[test], train, test)


def authors_parts(tokens):
    """Return each token's part in the authors' own split, "train" or "test"; "": not theirs."""
    part = dict(np.loadtxt(AUTHORS, str, delimiter=",", skiprows=1))
    names = [talker + CLASSES[c] for talker, c in zip(tokens.talker, tokens.label, strict=True)]
    if not part.keys() <= set(names):
        raise ValueError(f"the authors' tokens are not among those of {tokens.source['name']}")
    return np.array([part.get(name, "") for name in names])
