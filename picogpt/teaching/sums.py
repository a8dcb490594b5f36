"""Sums of two numbers below 100, for a GPT that learns to add: python -m picogpt.teaching.sums.

Every line is a sum like 38+47=580: both numbers with two digits, and the three digits of the result
from the last to the first, which is the order in which one carries. 1,000 of the 10,000 sums are
left out of what is written, so that a trained model can be asked for sums that it has never seen.
"""

import random
from pathlib import Path

from picogpt.generation import generate_batch
from picogpt.model import load
from picogpt.tools.cli import run
from picogpt.tools.errors import UsageError
from picogpt.tools.files import write_text

N_UNSEEN = 1000
N_TIMES = 30  # how often the file holds every sum, in another order each time


def split_sums(seed=0):
    """All pairs of numbers below 100 in a random order: (those to train on, those to ask for)."""
    pairs = [(a, b) for a in range(100) for b in range(100)]
    random.Random(seed).shuffle(pairs)
    return pairs[N_UNSEEN:], pairs[:N_UNSEEN]


def write_sums(file):
    """Write the sums to train on, one a line."""
    train, _ = split_sums()
    rng = random.Random(1)
    lines = []
    for _ in range(N_TIMES):
        for a, b in rng.sample(train, len(train)):
            lines.append(f"{a:02}+{b:02}={f'{a + b:03}'[::-1]}\n")
    write_text(file, "".join(lines))


def ask_for_sums(model, pairs):
    """What the model writes after "38+47=" for each pair: a list of texts, of three tokens each.

    In a vocabulary of bytes, as the README's commands learn it, that is three digits.
    """
    prompts = [f"{a:02}+{b:02}=" for a, b in pairs]
    return generate_batch(model, prompts, 3, temperature=0)


def share_right(answers, pairs):
    """The share of the answers that are the pairs' sums, last digit first: from 0 to 1."""
    right = [answer[::-1] == f"{a + b:03}" for answer, (a, b) in zip(answers, pairs, strict=True)]
    return sum(right) / len(right)


def main(file: Path | None = None, *, ask: str | None = None):
    """Write a file of sums to train on, or ask a model trained on it for sums it has not seen.

    Args:
        file: where to write the sums.
        ask: the folder of a trained model: says how many of the 1,000 unseen sums it gets right.
    """
    if (file is None) == (ask is None):
        raise UsageError("name a file to write sums to, or --ask the folder of a trained model")
    if file is not None:
        write_sums(file)
        print(f"{file} holds 9,000 different sums, {N_TIMES} times each")
    else:
        _, unseen = split_sums()
        share = share_right(ask_for_sums(load(ask, needs_text=True), unseen), unseen)
        print(f"{share:.1%} of {N_UNSEEN:,} sums that it has never seen are right")


if __name__ == "__main__":
    run(main)
