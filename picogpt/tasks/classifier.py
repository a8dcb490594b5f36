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
from picogpt.model import output_matrix
from picogpt.tasks.features import features, pooled, token_weights
from picogpt.tasks.metrics import metrics
from picogpt.tasks.regression import hold_back
from picogpt.training.fit import best_of, fit, print_figures


def new_head(n_embd, n_classes, seed):
    """A classifier's head `{w: [n_embd, n_classes], b}` to start from, w drawn as torch does."""
    w = np.random.default_rng(seed).uniform(-1, 1, (n_embd, n_classes)) / n_embd**0.5
    return {"w": w.astype(np.float32), "b": np.zeros(n_classes, np.float32)}


def cloze_head(params, answers):
    """The model's own output as a head: what it has for the answers' tokens."""
    w = output_matrix(params)[answers].T  # [n_embd, n_classes]
    return {"w": np.ascontiguousarray(w), "b": np.zeros(len(answers), w.dtype)}


def classifier_gradients(
    model, head, sequences, labels, n, *, first=0, head_only=False, hidden=None, pool="last",
    dropout=0.0, head_dropout=0.0, rng=None,
):
    """The summed cross-entropy of a head's answers, divided by n, and its gradients.

    They are those of {head, blocks, ln_f} and, where `first` is 0, {wte, wpe}; blocks below `first`
    are frozen, and `hidden` is what enters block `first`, as in backprop.stack_forward.
    """
    params, config, activations = model.params, model.config, {}
    ids, lengths = np.concatenate(sequences), [len(ids) for ids in sequences]
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
    model, head, sequences, labels, *, first=0, head_only=False, hidden=None, pool="last",
    answers=None, dropout=0.0, head_dropout=0.0, loss_per_batch=False, **fit_options,
):
    """Train, in place, the head and the model's blocks from `first` on (0: the embeddings too).

    hidden, a list of `[n_tokens, n_embd]`, is what enters block `first`. With `answers`, ids of
    tokens, the head is cloze_head and trains as a part of wte, or not at all. loss_per_batch
    divides a batch's loss by batch_size even where fewer are left. Gives back fit's history.
    """
    params = model.params
    trained = {} if answers else {"head": head}
    if not head_only:
        trained |= {"blocks": params["blocks"][first:], "ln_f": params["ln_f"]}
        if first == 0:
            trained |= {"wte": params["wte"], "wpe": params["wpe"]}

    def gradients(part, batch, rng):
        loss, grads = classifier_gradients(
            model, cloze_head(params, answers) if answers else head, [sequences[i] for i in part],
            labels[part], fit_options["batch_size"] if loss_per_batch else len(batch), first=first,
            hidden=None if hidden is None else np.concatenate([hidden[i] for i in part]),
            head_only=head_only, pool=pool, dropout=dropout, head_dropout=head_dropout, rng=rng,
        )  # fmt: skip
        if answers and "wte" in trained and "lm_head" not in params:
            grads["wte"][answers] += grads["head"]["w"].T
        if not head_only:
            grads["blocks"] = grads["blocks"][first:]
        return loss, {name: grads[name] for name in trained}

    return fit(trained, gradients, len(sequences), **fit_options)


def recipe_options(task, mode, course, n_embd):
    """How to train a head and layers: Stanford's way, or what suits a held-back tenth."""
    if course:
        lr, batch_size = 1e-3 if mode == "linear" else 1e-5, 64 if task == "sst" else 8
        options = {"epochs": 10, "lr": lr, "batch_size": batch_size, "eps": 1e-6}
        return options | {"dropout": 0.1, "head_dropout": 0.3, "loss_per_batch": task != "quora"}
    lr = 3e-4 if n_embd < 768 else 3e-5  # a large model has more to lose
    options = {"epochs": 3, "lr": lr, "batch_size": 32, "warmup": 0.1, "final": 0.0}
    if task == "cfimdb":  # 1,700 reviews: about as many steps as SST gets
        options |= {"epochs": 5, "batch_size": 8}
    return options | {"dropout": 0.1, "head_dropout": 0.1, "weight_decay": 0.01}


def tune(model, ids, labels, n_classes, by, *, answers, hidden, pool, seed, **options):
    """Train a head together with the model: (head, history).

    The best epoch is taken, `by` "dev" as the course does, or by a "held-back" tenth of the
    training set, which is not trained on.
    """

    def pick(rows):
        return [ids["train"][i] for i in rows], labels["train"][rows]

    head = new_head(model.config.n_embd, n_classes, seed)
    held = hold_back(len(ids["train"]), seed) & (by != "dev")
    rows = np.flatnonzero(~held)
    checked = {"train": pick(rows[: len(held) // 10 or 1]), "dev": (ids["dev"], labels["dev"])}
    if by != "dev":
        checked[by] = pick(np.flatnonzero(held))

    def report(figures):
        now = cloze_head(model.params, answers) if answers else head
        for name, (sequences, true) in checked.items():
            figures |= metrics(name, true, linear(features(model, sequences, pool=pool), **now))
        figures["score"] = figures[f"{by} accuracy"]
        print_figures(figures)

    history = train_classifier(
        model, head, *pick(rows), hidden=hidden and [hidden[i] for i in rows], answers=answers,
        pool=pool, seed=seed, report=report, **options,
    )
    print(f"epoch {best_of(history)['epoch']} is taken, the best on the {by} examples")
    return cloze_head(model.params, answers) if answers else head, history
