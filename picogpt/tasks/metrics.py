"""How good the answers are: accuracy, macro F1, chrF, bits per byte."""

import math
from collections import Counter

import numpy as np

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
    hits, said_or_true = counts.diagonal(), counts.sum(axis=0) + counts.sum(axis=1)
    present = said_or_true > 0
    return float(np.mean(2 * hits[present] / said_or_true[present]))


def measures(name, labels, logits):
    """Accuracy and macro F1 of logits `[n, n_classes]`, under the name of what they are of."""
    predictions = logits.argmax(axis=-1)
    return {
        f"{name} accuracy": accuracy(labels, predictions),
        f"{name} macro F1": macro_f1(labels, predictions),
    }


def chrf(hypotheses, references):
    """How many character n-grams (n = 1 to 6) two lists of texts share: 0 to 100.

    F2 of the mean precision and the mean recall over n; counts are summed over the texts first,
    white space is left out. Popović 2015, "chrF", eq. 1; equals sacrebleu's CHRF().corpus_score.
    """
    precisions, recalls = [], []
    for n in range(1, CHRF_ORDER + 1):
        matched = n_hypothesis = n_reference = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            said, true = char_ngrams(hypothesis, n), char_ngrams(reference, n)
            matched += (said & true).total()
            n_hypothesis += said.total() if true else 0
            n_reference += true.total()
        if n_hypothesis and n_reference:
            precisions.append(matched / n_hypothesis)
            recalls.append(matched / n_reference)
    if not sum(precisions):
        return 0.0
    precision, recall = np.mean(precisions), np.mean(recalls)
    weight = CHRF_BETA**2  # how much more recall counts than precision
    return float(100 * (1 + weight) * precision * recall / (weight * precision + recall))


def char_ngrams(text, n):
    """Every run of n characters, white space left out, and how often it occurs."""
    text = "".join(text.split())
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def bits_per_byte(nats, text):
    """What a model needs to write a text's UTF-8 down, from its summed loss in nats.

    Other than perplexity, it can be compared between models whose tokens differ.
    """
    return nats / math.log(2) / len(text.encode("utf-8"))
