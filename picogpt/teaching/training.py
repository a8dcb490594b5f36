"""Training on one page, a batch, its loss, a step, the loop: python -m picogpt.teaching.training

The plain way, with the gradients of backprop.py and the optimizer of optim.py; training/ has the
same with several cores, validation, a log and checkpoints. Targets are the ids that should follow:
every position of a window learns from what stands before it. Radford et al. 2018, sec. 3.1.
"""

import numpy as np

from picogpt.backprop import loss_and_gradients
from picogpt.kernels import softmax
from picogpt.optim import adamw, clip, learning_rate, new_state

TEXT = "Row, row, row your boat, gently down the stream. Merrily, merrily, life is but a dream. "


def batch_at(ids, starts, n_ctx):
    """Windows of a text's ids: inputs and targets, both `[n_windows, n_ctx]`.

    Window i begins at starts[i]; its targets are the same ids, one further on.
    """
    inputs = np.stack([ids[start : start + n_ctx] for start in starts])
    targets = np.stack([ids[start + 1 : start + 1 + n_ctx] for start in starts])
    return inputs, targets


def cross_entropy(logits, targets):
    """Mean loss in nats, and its gradient: logits `[n, n_vocab]`, targets `[n]` -> loss, dlogits.

    loss = mean of -log softmax(logits)[target]; dlogits = (softmax(logits) - 1[target]) / n.
    """
    n = len(targets)
    largest = logits.max(axis=-1, keepdims=True)  # taken away, so that exp can't overflow
    log_sum = largest + np.log(np.exp(logits - largest).sum(axis=-1, keepdims=True))  # [n, 1]
    loss = np.mean(log_sum[:, 0] - logits[np.arange(n), targets])
    dlogits = softmax(logits)
    dlogits[np.arange(n), targets] -= 1
    return loss, dlogits / n


def train_step(params, state, inputs, targets, config, lr):
    """One step of AdamW on a batch `[n_windows, n_ctx]`, in place: the loss before it.

    The windows lie end to end for `loss_and_gradients(params, ids, targets, config, lengths=)`;
    gradients are clipped to a global norm of 1. `config` is the model's `Config`.
    """
    n_windows, n_ctx = inputs.shape
    lengths = [n_ctx] * n_windows
    loss, grads = loss_and_gradients(
        params, inputs.ravel(), targets.ravel(), config, lengths=lengths
    )
    clip(grads, 1.0)
    adamw(params, grads, state, lr)
    return loss


def train(params, ids, starts, n_ctx, config, peak):
    """Train in place: a step for every row of starts `[n_steps, n_windows]`: the list of losses.

    The rate is learning_rate(step, peak, n_steps, warmup), warm-up a tenth of the steps.
    """
    state = new_state(params)
    losses = []
    for step in range(len(starts)):
        inputs, targets = batch_at(ids, starts[step], n_ctx)
        lr = learning_rate(step, peak, len(starts), warmup=len(starts) // 10)
        losses.append(train_step(params, state, inputs, targets, config, lr))
    return losses


def main():
    """Learn a rhyme by heart, byte by byte, and write it down."""
    from picogpt.checkpoint.config import Config
    from picogpt.reference import generate
    from picogpt.training.loop import init_params

    n_ctx, n_steps, n_windows = 64, 150, 4
    ids = np.frombuffer((TEXT * 2).encode(), np.uint8).astype(int)  # a token is a byte
    config = Config(n_vocab=256, n_ctx=n_ctx, n_embd=64, n_head=4, n_layer=2)
    rng = np.random.default_rng(0)
    params = init_params(config, rng)
    starts = rng.integers(len(ids) - n_ctx, size=(n_steps, n_windows))
    losses = train(params, ids, starts, n_ctx, config, peak=3e-3)
    for step in range(0, n_steps, 30):
        print(f"step {step:3}: loss {losses[step]:.3f}")
    print(f"the last: loss {losses[-1]:.3f}")
    written = generate(list(b"Row, "), params, config.n_head, n_ctx - 5)
    print("Row, " + bytes(written).decode(errors="replace"))


if __name__ == "__main__":
    main()
