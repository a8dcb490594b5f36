"""Do heads look for what followed last time? On random tokens that come twice, nothing else helps.

An induction head at the second copy of a token looks at the token behind its first copy, and so
foretells what comes next. It needs another head, in a block below, that has told every token which
one stood before it: a previous-token head. Elhage et al. 2021, "A mathematical framework for
transformer circuits"; Olsson et al. 2022, "In-context learning and induction heads".
"""

import numpy as np

from picogpt.backprop import softmax_cross_entropy_in_place
from picogpt.model import trace


def induction(model, n_tokens=50, n_sequences=4, seed=0):
    """Every head's scores on random sequences given twice, and what the model makes of them.

    A dict: "previous" and "induction" `[n_layer, n_head]`, the mean attention weight on the token
    before, and on the one behind the first copy; "first" and "second", the mean loss in nats a
    token of the two copies. The ids are random, from the upper half of the vocabulary: tokens there
    are words or parts of words, not single bytes. The last, GPT-2's <|endoftext|>, is left out.
    """
    rng = np.random.default_rng(seed)
    n_vocab = model.config.n_vocab
    sums = dict.fromkeys(("previous", "induction", "first", "second"), 0.0)
    for _ in range(n_sequences):
        ids = np.tile(rng.integers(n_vocab // 2, n_vocab - 1, n_tokens), 2)
        activations = trace(model, ids)
        weights = np.stack(
            [activations[f"blocks.{i}.weights"] for i in range(model.config.n_layer)]
        )  # [n_layer, n_head, 2 * n_tokens, 2 * n_tokens]
        now = np.arange(1, 2 * n_tokens)
        sums["previous"] += weights[..., now, now - 1].mean(axis=-1)
        first, second = np.arange(n_tokens - 1), np.arange(n_tokens, 2 * n_tokens - 1)
        sums["induction"] += weights[..., second, second - n_tokens + 1].mean(axis=-1)
        for name, rows in (("first", first), ("second", second)):
            logits = activations["logits"][rows].astype(np.float64)
            sums[name] += softmax_cross_entropy_in_place(logits, ids[rows + 1]) / len(rows)
    return {name: total / n_sequences for name, total in sums.items()}
