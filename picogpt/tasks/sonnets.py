"""Shakespeare's sonnets: train a model on some, let it finish others, and score what it wrote."""

import math

import numpy as np

from picogpt.backprop import loss_and_gradients
from picogpt.generation import generate_batch, prompt_ids
from picogpt.tasks.features import features
from picogpt.tasks.metrics import chrf, perplexity_of, text_loss
from picogpt.training.fit import fit
from picogpt.training.frozen import trained_part

N_LINES = 14
N_TOKENS = 300  # of a poem at most, its opening included: a sonnet takes fewer
N_RANDOM = 20  # poems of random lines for each opening, to score no skill by


def perplexity(model, poems):
    """e to the mean loss in nats of a token of the poems, each read after <|endoftext|>."""
    losses, counts = zip(*(text_loss(model, [poem]) for poem in poems))
    return perplexity_of(sum(losses), sum(counts))


def train_sonnets(
    model, poems, recipe, *, first=0, report=None, seed=0, state_path=None, n_threads=None
):
    """Train, in place, the blocks from `first` on (0: everything) to predict poems: fit's history.

    `poems` is a list of texts. Each stands between two <|endoftext|>, so that the model learns
    where to stop, and is cut to the model's n_ctx. report, seed, state_path and n_threads are
    fit's.
    """
    end = prompt_ids(model, "")
    texts = [end + model.encoder.encode(poem) + end for poem in poems]
    inputs = [ids[:-1][: model.config.n_ctx] for ids in texts]
    targets = [ids[1:][: model.config.n_ctx] for ids in texts]
    hidden = features(model, inputs, first, "tokens") if first else None

    def gradients(part, batch, rng):
        loss, grads = loss_and_gradients(
            model.params, np.concatenate([inputs[i] for i in part]),
            np.concatenate([targets[i] for i in part]), model.config,
            lengths=[len(inputs[i]) for i in part],
            hidden=np.concatenate([hidden[i] for i in part]) if first else None,
            n_scored=sum(len(inputs[i]) for i in batch), first_trained_block=first,
            dropout=recipe.dropout, rng=rng,
        )  # fmt: skip
        return loss, trained_part(grads, first)

    return fit(
        trained_part(model.params, first), gradients, len(poems), **recipe.fit_options, seed=seed,
        report=report, state_path=state_path, n_threads=n_threads,
    )  # fmt: skip


def write_on(model, opening, candidates, temperature, top_p, rng):
    """A poem that begins with `opening`, of N_LINES lines at most.

    `candidates` poems are sampled. Of those whose number of lines is nearest to N_LINES, the one of
    the lowest mean loss is taken. rng is a numpy Generator.
    """
    n_tokens = max(0, min(N_TOKENS, model.config.n_ctx) - len(prompt_ids(model, opening)))
    texts = generate_batch(
        model, [opening] * candidates, n_tokens, temperature=temperature, top_k=0, top_p=top_p,
        seed=rng,
    )  # fmt: skip
    poems = ["\n".join((opening + text).rstrip().split("\n")[:N_LINES]) for text in texts]

    def rank(poem):
        loss, n_tokens = text_loss(model, [poem])
        n_lines = poem.count("\n") + 1
        return abs(n_lines - N_LINES), loss / n_tokens if n_tokens else math.inf

    return min(poems, key=rank) if candidates > 1 else poems[0]


def scores_of_no_skill(openings, truths, lines, rng):
    """What chrf_of_poems gives for the openings alone, and for random `lines` after them.

    The second is the mean over N_RANDOM draws.
    """
    random = []
    for _ in range(N_RANDOM):
        poems = []
        for opening, truth in zip(openings, truths):
            n_missing = truth.count("\n") - opening.count("\n")
            poems.append("\n".join([opening, *rng.choice(lines, n_missing)]))
        random.append(chrf_of_poems(poems, openings, truths))
    return chrf_of_poems(openings, openings, truths), np.mean(random, axis=0)


def chrf_of_poems(poems, openings, truths):
    """chrF of whole poems against the truths, and of what follows their openings: each 0 to 100."""

    def endings(poems):
        return [
            "\n".join(poem.split("\n")[opening.count("\n") + 1 :])
            for poem, opening in zip(poems, openings)
        ]

    return chrf(poems, truths), chrf(endings(poems), endings(truths))
