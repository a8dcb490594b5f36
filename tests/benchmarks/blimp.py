"""Grammar by pairs of sentences: python tests/benchmarks/blimp.py FOLDER MODEL [MODEL ...]

FOLDER is BLiMP's data/ (github.com/alexwarstadt/blimp; Warstadt et al. 2020), one file a paradigm.
The first 12 pairs of each paradigm in an order that a seed fixes; a pair is right where the model
finds the grammatical sentence likelier. Behind the first model, the others are compared pair by
pair with it.
"""

import json
import sys
from pathlib import Path

import numpy as np

from picogpt import load, logits
from picogpt.backprop import softmax_cross_entropy_in_place

N_PAIRS = 12


def pairs(folder):
    """[(good sentence, bad sentence), ...]: the same sample every time."""
    chosen = []
    for file in sorted(Path(folder).glob("*.jsonl")):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        order = np.random.default_rng(0).permutation(len(rows))[:N_PAIRS]
        chosen += [(rows[i]["sentence_good"], rows[i]["sentence_bad"]) for i in order]
    return chosen


def loss(model, sentence):
    ids = np.array([model.encoder.end_of_text, *model.encoder.encode(sentence)])
    return softmax_cross_entropy_in_place(logits(model, ids[:-1]), ids[1:])


def main(folder, *names):
    sample, first = pairs(folder), None
    for name in names:
        model = load(name)
        right = np.array([loss(model, good) < loss(model, bad) for good, bad in sample])
        error = np.sqrt(right.mean() * (1 - right.mean()) / len(right))
        print(f"{name}: {100 * right.mean():.1f} % of {len(right)} pairs, +-{100 * error:.1f}")
        if first is None:
            first = right
        else:
            print(f"  better in {(right & ~first).sum()} pairs, worse in {(first & ~right).sum()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
