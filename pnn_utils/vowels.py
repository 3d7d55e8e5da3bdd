"""The vowel task: which of seven vowels did a woman say, from twelve formant frequencies.

References
----------
.. [1] J. Hillenbrand et al., J. Acoust. Soc. Am. 97, 3099 (1995): the table of measurements.
.. [2] G. Peterson and H. Barney, J. Acoust. Soc. Am. 24, 175 (1952): the fallback's table.
"""

import csv
from typing import NamedTuple

import numpy as np

from pnn_utils import data, paths
from pnn_utils.files import sha256

CLASSES = ("ae", "ah", "aw", "er", "ih", "iy", "uw")
WORDS = ("had", "hod", "hawed", "heard", "hid", "heed", "who'd")
TOKENS_PER_CLASS, TEST_PER_CLASS = 37, 7
# F1, F2, F3 at steady state and at 20, 50 and 80 % of the vowel: columns of the table, from 0.
COLUMNS = (3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15)
PETERSON_BARNEY_CODES = {"ae": "ae", "aa": "ah", "ao": "aw", "er": "er", "ih": "ih", "iy": "iy", "uw": "uw"}


class Tokens(NamedTuple):
    """Measured tokens: formants (n, 12) in Hz, label (n,) int, talker (n,) str, and where they come from."""

    formants: np.ndarray
    label: np.ndarray
    talker: np.ndarray
    source: dict


class VowelTask(NamedTuple):
    """One split: inputs (n, 12) float32 in [0, 1], labels (n,) int64, and the talker of each row."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    train_talker: np.ndarray
    test_talker: np.ndarray
    source: dict


def load_tokens():
    """Read the women's tokens of the seven vowels whose twelve formants could all be measured.

    Returns
    -------
    Tokens
        From Hillenbrand's table, or, where only the fallback was fetched, from Peterson & Barney's: its three
        formants stand four times in each row, so that the network's shape stays the same.

    Raises
    ------
    FileNotFoundError, ValueError
        If neither table is there, or Hillenbrand's is altered.
    """
    fallback = paths.RAW / "vowels" / data.FALLBACK
    if fallback.exists() and not (paths.RAW / "vowels" / "vowdata.dat").exists():
        rows = [row for row in csv.DictReader(fallback.open(encoding="utf-8"), delimiter="\t")
                if row["Type"] == "w" and row["Vowel"] in PETERSON_BARNEY_CODES]
        formants = np.array([[float(row[f"F{k}"]) for k in (1, 2, 3)] * 4 for row in rows])
        label = np.array([CLASSES.index(PETERSON_BARNEY_CODES[row["Vowel"]]) for row in rows])
        talker = np.array([row["Speaker"] for row in rows])
        return Tokens(formants, label, talker, {"name": "Peterson & Barney 1952 (fallback)", "sha256": sha256(fallback)})
    table = data.path("vowels", "vowdata.dat")
    rows = [line.split() for line in table.read_text(encoding="latin-1").splitlines()]
    rows = [row for row in rows if len(row) == 16 and row[0][0] == "w" and row[0][3:] in CLASSES]
    rows = [row for row in rows if all(float(row[c]) > 0 for c in COLUMNS)]
    formants = np.array([[float(row[c]) for c in COLUMNS] for row in rows])
    label = np.array([CLASSES.index(row[0][3:]) for row in rows])
    talker = np.array([row[0][:3] for row in rows])
    return Tokens(formants, label, talker, {"name": "Hillenbrand 1995", "sha256": sha256(table)})


def vowel_task(seed, talker_disjoint=False, tokens=None):
    """Draw 37 tokens a vowel and split them into 210 for training and 49 for the test.

    Parameters
    ----------
    seed : int
        One child seed draws the tokens, another the split.
    talker_disjoint : bool
        Put no talker on both sides: whole talkers go to the test until it has at least 49 of the 259 tokens, so
        its size, and the number of tokens a vowel, differ a little from split to split.
    tokens : Tokens, optional
        Default: `load_tokens`.

    Returns
    -------
    VowelTask
        Each column is scaled so that the training tokens span [0, 1]; test values beyond are clipped,
        because a physical control has a range.

    Raises
    ------
    ValueError
        If a vowel has fewer than 37 tokens.
    """
    tokens = tokens or load_tokens()
    draw, split = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    rows = [draw.permutation(np.flatnonzero(tokens.label == c)) for c in range(len(CLASSES))]
    short = [CLASSES[c] for c, r in enumerate(rows) if len(r) < TOKENS_PER_CLASS]
    if short:
        raise ValueError(f"vowel {short[0]!r} has fewer than {TOKENS_PER_CLASS} measurable tokens")
    rows = [r[:TOKENS_PER_CLASS] for r in rows]
    if talker_disjoint:
        chosen = np.concatenate(rows)
        in_test = np.zeros(len(chosen), bool)
        for talker in split.permutation(np.unique(tokens.talker[chosen])):
            if in_test.sum() >= TEST_PER_CLASS * len(CLASSES):
                break
            in_test |= tokens.talker[chosen] == talker
        train, test = chosen[~in_test], chosen[in_test]
    else:
        rows = [split.permutation(r) for r in rows]
        test = np.concatenate([r[:TEST_PER_CLASS] for r in rows])
        train = np.concatenate([r[TEST_PER_CLASS:] for r in rows])
    # Rows in random order, so that any leading part of the training set is a fair sample.
    train = split.permutation(train)
    low, high = tokens.formants[train].min(0), tokens.formants[train].max(0)

    def scaled(index):
        return np.clip((tokens.formants[index] - low) / (high - low), 0, 1).astype(np.float32)

    return VowelTask(scaled(train), tokens.label[train], scaled(test), tokens.label[test],
                     tokens.talker[train], tokens.talker[test], tokens.source)
