"""What int8 changes in a model's predictions: python tests/benchmarks/quantization.py MODEL FILE

Perplexity on a text file in float32 and in int8, the mean KL divergence of what int8 expects next
from what float32 does, in nats, and how often both put the same token first. The text is cut into
windows as long as the model's context; --n_tokens says how much of it is read.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import picogpt


def log_probabilities(model, ids):
    """log p of what may follow each token, float64: `[n_tokens, n_vocab]`."""
    scores = picogpt.logits(model, ids).astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("file", type=Path)
    parser.add_argument("--n_tokens", type=int, default=20000)
    args = parser.parse_args()
    plain, small = (picogpt.load(args.model, int8=int8) for int8 in (False, True))
    text = args.file.read_text(encoding="utf-8")[: 10 * args.n_tokens]
    ids = plain.encoder.encode(text, True)[: args.n_tokens]
    n_ctx, sums, n = plain.config.n_ctx, np.zeros(4), 0
    for start in range(0, len(ids) - 1, n_ctx):
        window = ids[start : start + n_ctx + 1]
        one, other = (log_probabilities(model, window[:-1]) for model in (plain, small))
        place = range(len(window) - 1), window[1:]
        kl = (np.exp(one) * (one - other)).sum(axis=-1)
        same = one.argmax(axis=-1) == other.argmax(axis=-1)
        sums += [-one[place].sum(), -other[place].sum(), kl.sum(), same.sum()]
        n += len(kl)
    before, after, kl, same = sums / n
    print(f"{plain.name}, {n} tokens of {args.file.name}")
    print(f"perplexity {np.exp(before):.3f} in float32, {np.exp(after):.3f} in int8")
    print(f"KL divergence {kl:.5f} nats, the same token first in {same:.2%} of the places")


if __name__ == "__main__":
    main()
