"""How good the answers are: accuracy, macro F1, chrF, perplexity, bits per byte."""

import math
from collections import Counter
from itertools import chain

import numpy as np

from picogpt.backprop import softmax_cross_entropy_in_place
from picogpt.generation import prompt_ids
from picogpt.model import logits as next_token_logits
from picogpt.tools.errors import CheckpointError, NotFiniteError, TextError

CHRF_ORDER, CHRF_BETA = 6, 2  # sacrebleu's defaults


def accuracy(labels, predictions):
    """The share of predictions `[n]` that equal the labels `[n]`."""
    return float(np.mean(np.asarray(labels) == np.asarray(predictions)))


def confusion(labels, predictions, n_classes):
    """How often each class (row) was taken for each (column): counts `[n_classes, n_classes]`."""
    counts = np.zeros((n_classes, n_classes), int)
    np.add.at(counts, (labels, predictions), 1)
    return counts


def macro_f1(labels, predictions):
    """The mean over classes of F1, the harmonic mean of precision and recall.

    Every class that is a label or a prediction counts alike, however rare. Equals scikit-learn's
    f1_score(average="macro").
    """
    counts = confusion(labels, predictions, 1 + max(*labels, *predictions))
    hits = counts.diagonal()
    predicted_and_true = counts.sum(axis=0) + counts.sum(axis=1)  # 2 hits + both kinds of misses
    present = predicted_and_true > 0
    return float(np.mean(2 * hits[present] / predicted_and_true[present]))


def predicted_classes(logits):
    """The likeliest class of each row of logits `[n, n_classes]`: `[n]`.

    Raises NotFiniteError where a logit is NaN or infinite: argmax would call such a row class 0.
    """
    if not np.isfinite(logits).all():
        raise NotFiniteError("a prediction is not a number")
    return logits.argmax(axis=-1)


def metrics(split, labels, logits):
    """Accuracy ("train acc") and macro F1 ("train F1") of logits `[n, n_classes]` of a split.

    Raises NotFiniteError where a logit is NaN or infinite.
    """
    predictions = predicted_classes(logits)
    return {
        f"{split} acc": accuracy(labels, predictions),
        f"{split} F1": macro_f1(labels, predictions),
    }


def chrf(hypotheses, references):
    """How many character n-grams (n = 1 to 6) two lists of texts share: from 0 to 100.

    For each n, counts are summed over all pairs of texts, white space left out: precision is the
    share of the hypotheses' n-grams that their references have, recall the share of the references'
    that their hypotheses have. Both are averaged over n, and F2 is made of the means, in which
    recall counts 4 times as much. Popović 2015, "chrF", eq. 1; equals sacrebleu's
    CHRF().corpus_score.
    """
    precisions, recalls = [], []
    for n in range(1, CHRF_ORDER + 1):
        matched = n_hypothesis = n_reference = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            written, wanted = char_ngrams(hypothesis, n), char_ngrams(reference, n)
            matched += (written & wanted).total()
            n_hypothesis += written.total() if wanted else 0  # too short a reference: none count
            n_reference += wanted.total()
        if n_hypothesis and n_reference:  # else no text is n characters long
            precisions.append(matched / n_hypothesis)
            recalls.append(matched / n_reference)
    if not sum(precisions):
        return 0.0
    precision, recall = np.mean(precisions), np.mean(recalls)
    weight = CHRF_BETA**2  # how much more recall counts than precision
    return float(100 * (1 + weight) * precision * recall / (weight * precision + recall))


def char_ngrams(text, n):
    """Every run of n characters, white space left out, and how often it occurs: a Counter."""
    text = "".join(text.split())
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def windows(chunks, n_ctx):
    """Cut a stream of lists of ids into overlapping windows: yield (window, n_new).

    The last n_new ids of a window were in none before. A window is n_ctx ids long, the last one
    perhaps shorter, and starts n_ctx // 2 after the one before: a new id has half a context of
    history or more, except in the first window.
    """
    window, n_new = [], 0
    for id in chain.from_iterable(chunks):
        if len(window) == n_ctx:
            yield window, n_new
            window, n_new = window[max(1, n_ctx // 2) :], 0
        window.append(id)
        n_new += 1
    yield window, n_new


def text_loss(model, chunks, special_tokens=False):
    """Summed loss in nats and number of tokens of a text, given as an iterable of strings.

    <|endoftext|> stands before the first token and is itself not scored. With special_tokens,
    <|endoftext|> in the text is that token, too, and not the letters. Raises NotFiniteError where
    the loss is NaN or infinite, CheckpointError for a model whose windows hold a single token, and
    for one without <|endoftext|>.
    """
    if model.config.n_ctx < 2:
        raise CheckpointError(f"{model.name} has an n_ctx of 1: it sees no token and its next one")
    try:
        start = prompt_ids(model, "")
    except TextError:
        said = "which stands before a text to predict its first token from"
        raise CheckpointError(f"{model.name} has no <|endoftext|>, {said}") from None
    loss, n_tokens = 0.0, 0
    ids = model.encoder.encode_chunks(chunks, special_tokens)
    for window, n_new in windows(chain([start], ids), model.config.n_ctx):
        n_new = min(n_new, len(window) - 1)  # nothing comes before the first of all
        if n_new:
            logits = next_token_logits(model, window[:-1])[-n_new:]  # [n_new, n_vocab]
            loss += softmax_cross_entropy_in_place(logits, window[-n_new:])
            n_tokens += n_new
    if not math.isfinite(loss):
        raise NotFiniteError(f"{model.name} gives a text the loss {loss}, which is no number")
    return loss, n_tokens


def perplexity_of(loss, n_tokens):
    """e to the mean loss in nats; infinite where that is more than a float can be."""
    with np.errstate(over="ignore"):
        return float(np.exp(loss / n_tokens))


def bits_per_byte(loss, n_bytes):
    """What a model needs to write down a text of n_bytes, from its summed loss in nats.

    Unlike perplexity, it can be compared between models whose tokens differ.
    """
    return loss / math.log(2) / n_bytes
