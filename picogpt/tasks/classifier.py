"""Fine-tuning: a classifier's head and the model's top layers, or all of them, trained together."""

import numpy as np

from picogpt.backprop import (
    keep_activations,
    softmax_cross_entropy_in_place,
    stack_backward,
    stack_forward,
)
from picogpt.gradients import dropout_mask, linear_backward, norm_backward
from picogpt.kernels import layer_norm, linear
from picogpt.tasks.features import features, pooled, token_weights
from picogpt.tasks.heads import cloze_head, new_head
from picogpt.tasks.metrics import metrics
from picogpt.tasks.regression import validation_mask
from picogpt.training.fit import best_of, fit, print_figures
from picogpt.training.frozen import trained_part


def classifier_gradients(
    model, head, sequences, labels, n, *, first=0, head_only=False, hidden=None, pool="last",
    dropout=0.0, head_dropout=0.0, rng=None,
):
    """The summed cross-entropy in nats of a head's answers, divided by n, and its gradients.

    `sequences` are lists of ids, labels `[n_sequences]`; n is how many examples the loss is a mean
    over, of which these may be a part. Blocks below `first` are frozen, and `hidden`
    `[n_tokens, n_embd]` is what enters block `first`, as in backprop.stack_forward. The gradients
    come as {head, blocks, ln_f} and, where `first` is 0, {wte, wpe}; with head_only as {head}.
    """
    params = model.params
    config = model.config
    activations = {}
    ids = np.concatenate(sequences)
    lengths = [len(sequence) for sequence in sequences]
    x = stack_forward(
        params, ids, config, keep_activations(activations), lengths=lengths,
        first_trained_block=first, hidden=hidden, dropout=dropout, rng=rng,
    )  # [n_tokens] -> [n_tokens, n_embd]
    y = layer_norm(x, **params["ln_f"], eps=config.layer_norm_epsilon)  # [n_tokens, n_embd]
    mask = dropout_mask((len(lengths), config.n_embd), head_dropout, rng, x.dtype)
    vectors = pooled(y, lengths, pool) * mask  # [n_tokens, n_embd] -> [n_sequences, n_embd]
    dlogits = linear(vectors, **head)  # [n_sequences, n_embd] -> [n_sequences, n_classes]
    loss = softmax_cross_entropy_in_place(dlogits, labels) / n  # the logits become their gradient
    dvectors, dw, db = linear_backward(dlogits / n, vectors, head["w"])
    grads = {"head": {"w": dw, "b": db}}
    if not head_only:
        weights = token_weights(lengths, pool, x.dtype)
        dy = np.repeat(dvectors * mask, lengths, axis=0) * weights  # [n_tokens, n_embd]
        dx, grads["ln_f"] = norm_backward(dy, x, params["ln_f"], config.layer_norm_epsilon)
        grads |= stack_backward(
            dx, activations, params, ids, config, lengths=lengths, first_trained_block=first
        )
    return loss, grads


def train_classifier(
    model, head, sequences, labels, recipe, *, first=0, head_only=False, hidden=None, pool="last",
    answers=None, seed=0, report=None, state_path=None, n_threads=None,
):
    """Train, in place, the head and the model's blocks from `first` on (0: the embeddings too).

    With head_only, the head alone trains. `sequences` are lists of ids, labels `[n_sequences]`;
    hidden, a list of `[n_tokens, n_embd]`, is what enters block `first`. With `answers`, ids of
    tokens, the head is cloze_head: its columns train as the rows of wte that they are, and where
    wte doesn't train or lm_head stands in its place, not at all. Gives back fit's history; seed,
    report, state_path and n_threads are fit's.
    """
    params = model.params
    trained = {} if answers else {"head": head}
    if not head_only:
        trained |= trained_part(params, first)

    def gradients(part, batch, rng):
        loss, grads = classifier_gradients(
            model, cloze_head(params, answers) if answers else head, [sequences[i] for i in part],
            labels[part], recipe.batch_size if recipe.loss_per_batch else len(batch), first=first,
            hidden=None if hidden is None else np.concatenate([hidden[i] for i in part]),
            head_only=head_only, pool=pool, dropout=recipe.dropout,
            head_dropout=recipe.head_dropout, rng=rng,
        )  # fmt: skip
        if answers and "wte" in trained and "lm_head" not in params:
            grads["wte"][answers] += grads["head"]["w"].T
        wanted = {} if answers else {"head": grads["head"]}
        return loss, wanted if head_only else wanted | trained_part(grads, first)

    return fit(
        trained, gradients, len(sequences), **recipe.fit_options, seed=seed, report=report,
        state_path=state_path, n_threads=n_threads,
    )  # fmt: skip


def fine_tune(
    model, ids, labels, n_classes, recipe, *, chosen_by, first, head_only, hidden, pool, answers,
    seed, state_path=None,
):
    """Train a head together with the model: (head, history).

    ids and labels are {split: ...} with "train" and "dev". The best epoch is taken, by its accuracy
    on the examples that chosen_by names: "dev", as the course does, or "validation", a tenth of the
    training set that is not trained on. The other arguments are train_classifier's.
    """

    def pick(rows):
        return [ids["train"][i] for i in rows], labels["train"][rows]

    head = new_head(model.config.n_embd, n_classes, seed)
    n_train = len(ids["train"])
    left_out = np.zeros(n_train, bool) if chosen_by == "dev" else validation_mask(n_train, seed)
    rows = np.flatnonzero(~left_out)
    some = rows[: n_train // 10 or 1]  # a tenth tells how training goes; all would take long
    measured = {"train": pick(some), "dev": (ids["dev"], labels["dev"])}
    if left_out.any():
        measured["validation"] = pick(np.flatnonzero(left_out))

    def trained_head():
        return cloze_head(model.params, answers) if answers else head

    def report(figures):
        for split, (sequences, true) in measured.items():
            x = features(model, sequences, pool=pool)
            figures |= metrics(split, true, linear(x, **trained_head()))
        figures["score"] = figures[f"{chosen_by} acc"]
        print_figures(figures)

    history = train_classifier(
        model, head, *pick(rows), recipe, first=first, head_only=head_only, pool=pool,
        hidden=hidden and [hidden[i] for i in rows], answers=answers, seed=seed, report=report,
        state_path=state_path,
    )  # fmt: skip
    print(f"epoch {best_of(history)['epoch']} is taken, the best on the {chosen_by} examples")
    return trained_head(), history
