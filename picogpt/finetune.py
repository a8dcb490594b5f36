"""Fine-tuning: a classifier's head and the model's top layers, or all of them, trained together."""

import time

import numpy as np

from picogpt.backprop import softmax_cross_entropy, stack_backward, stack_forward
from picogpt.checkpoint import deferred_interrupt, load_state, save_state
from picogpt.features import pooled, token_weights
from picogpt.gradients import dropout_mask, linear_backward
from picogpt.kernels import linear
from picogpt.optim import adamw, decay_mask, learning_rate, new_state
from picogpt.parallel import cores, summed_over_threads
from picogpt.tree import tree_map

SAVE_SECONDS = 300  # a run that is killed loses no more


def fit(
    params, gradients, n, *, epochs, batch_size, lr, seed=0, warmup=0.0, final=1.0, eps=1e-8,
    weight_decay=0.0, report=None, state_path=None, n_threads=None,
):
    """Train a tree of parameters, in place, on n examples; give back a dict of figures per epoch.

    gradients(part, batch, rng) gives what the examples `part` add to the mean loss of the examples
    `batch`, and the gradients of that: a batch is shared out among threads. report(figures) adds
    figures to an epoch's: with a "score" among them, the best epoch's parameters are taken in the
    end. With state_path a run that was stopped goes on from there, to the same numbers. `lr` rises
    during `warmup`, a share of the steps, and falls to final * lr.
    """
    from tqdm import tqdm

    state = new_state(params)
    tree = {"params": params, "m": state["m"], "v": state["v"], "best": tree_map(np.copy, params)}
    at = {"step": 0, "loss": 0.0, "history": []}
    if state_path and state_path.exists():
        saved, at = load_state(state_path)
        tree_map(np.copyto, tree, saved)
        state["step"] = at["step"]
    n_threads, n_batches = n_threads or cores(), -(-n // batch_size)
    n_steps, decays, saved_at = epochs * n_batches, decay_mask(params), time.monotonic()
    bar = tqdm(total=n_steps, initial=at["step"], unit=" steps", disable=None, leave=False)
    with deferred_interrupt() as pressed, summed_over_threads(n_threads) as summed, bar:
        for step in range(at["step"], n_steps):
            epoch, batch = divmod(step, n_batches)
            order = np.random.default_rng([seed, epoch]).permutation(n)
            rows = order[batch * batch_size : (batch + 1) * batch_size]
            parts = np.array_split(rows, min(n_threads, len(rows)))
            rngs = np.random.default_rng([seed, step]).spawn(len(parts))
            shares = [(part, rows, rng) for part, rng in zip(parts, rngs)]
            loss, grads = summed(lambda share: gradients(*share), shares)
            rate = learning_rate(step, lr, n_steps, round(warmup * n_steps), final)
            adamw(params, grads, state, rate, eps=eps, weight_decay=weight_decay, decays=decays)
            at["step"], at["loss"] = step + 1, at["loss"] + loss * len(rows) / n
            bar.update()
            ended = batch == n_batches - 1
            if ended:
                end_epoch(at, epoch + 1, tree, report)
            if state_path and (ended or pressed or time.monotonic() > saved_at + SAVE_SECONDS):
                save_state(state_path, tree, at)
                saved_at = time.monotonic()
            if pressed:
                raise KeyboardInterrupt
    tree_map(np.copyto, params, tree["best"])
    return at["history"]


def end_epoch(at, epoch, tree, report):
    """Add an epoch's figures to the history; keep its parameters where it is the best so far."""
    figures = {"epoch": epoch, "train loss": at["loss"]}
    if report:
        report(figures)
    at["history"].append(figures)
    at["loss"] = 0.0
    if best_of(at["history"]) is figures:
        tree_map(np.copyto, tree["best"], tree["params"])


def best_of(history):
    """The figures of the best epoch: the first of the highest score, or the last without scores."""
    return max(history, key=lambda figures: figures.get("score", figures["epoch"]))


def classifier_gradients(
    model, head, sequences, labels, n, *, first=0, head_only=False, hidden=None, pool="last",
    dropout=0.0, head_dropout=0.0, rng=None,
):
    """Cross-entropy of the labels by a head `{w: [n_embd, n_classes], b}`, summed and divided by n.

    Gives it with the gradients of {head, blocks, ln_f} and, where `first` is 0, {wte, wpe}; blocks
    below `first` are frozen, and `hidden` is what enters it, as in backprop.stack_forward.
    """
    lengths, config = [len(ids) for ids in sequences], model.config
    options = {"lengths": lengths, "first_trained_block": first}
    x, seen = stack_forward(
        model.params, np.concatenate(sequences), hidden=hidden, dropout=dropout, rng=rng,
        **options, **config.kernel_options,
    )  # [n_tokens] -> [n_tokens, n_embd]
    mask = dropout_mask((len(lengths), config.n_embd), head_dropout, rng, x.dtype)
    vectors = pooled(x, lengths, pool) * mask  # [n_tokens, n_embd] -> [n_sequences, n_embd]
    dlogits = linear(vectors, **head)  # [n_sequences, n_embd] -> [n_sequences, n_classes]
    loss = softmax_cross_entropy(dlogits, labels) / n  # the logits become their gradient
    dvectors, dw, db = linear_backward(dlogits / n, vectors, head["w"])
    grads = {"head": {"w": dw, "b": db}}
    if not head_only:
        dx = np.repeat(dvectors * mask, lengths, axis=0) * token_weights(lengths, pool)
        options |= {"eps": config.layer_norm_epsilon, "act_backward": config.act_backward}
        grads |= stack_backward(
            dx, seen, model.params, config.n_head, scale=config.scales, **options
        )  # fmt: skip
    return loss, grads


def cloze_head(model, answers):
    """The model's own output as a head: the rows of the answers' tokens, which say no and yes."""
    w = model.params.get("lm_head", model.params["wte"])[answers].T
    return {"w": w, "b": np.zeros(len(answers), w.dtype)}  # [n_embd, n_classes]


def train_classifier(
    model, head, sequences, labels, *, first=0, head_only=False, hidden=None, pool="last",
    answers=None, dropout=0.0, head_dropout=0.0, loss_per_batch=False, **fit_options,
):
    """Train, in place, the head and the model's blocks from `first` on (0: the embeddings too).

    hidden, a list of `[n_tokens, n_embd]`, is what enters block `first`. With `answers`, ids of
    tokens, the head is cloze_head and trains only as a part of wte. loss_per_batch divides a
    batch's loss by batch_size even where fewer are left. Gives back fit's history.
    """
    params = model.params
    trained = {} if answers else {"head": head}
    if not head_only:
        trained |= {"blocks": params["blocks"][first:], "ln_f": params["ln_f"]}
        if first == 0:
            trained |= {"wte": params["wte"], "wpe": params["wpe"]}

    def gradients(part, batch, rng):
        loss, grads = classifier_gradients(
            model, cloze_head(model, answers) if answers else head, [sequences[i] for i in part],
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
