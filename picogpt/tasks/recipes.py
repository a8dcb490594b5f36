"""How the tasks are trained: for how long, how fast, with how much dropout."""

from typing import NamedTuple


class Recipe(NamedTuple):
    """How to train on a set of examples."""

    epochs: int
    batch_size: int  # examples of a step
    lr: float  # the highest learning rate
    warmup: float = 0.0  # the share of the steps in which it rises
    final: float = 1.0  # what is left of it in the end, as a share of lr
    eps: float = 1e-8  # of AdamW
    weight_decay: float = 0.0
    dropout: float = 0.0  # in the trained blocks
    head_dropout: float = 0.0  # before the head
    loss_per_batch: bool = False  # a batch's loss is divided by batch_size even if fewer are left
    patience: int | None = None  # so many epochs without a better one are the last

    def with_values(self, **values):
        """The same with these values in it, less those that are None."""
        return self._replace(**{name: x for name, x in values.items() if x is not None})

    @property
    def fit_options(self):
        """What `training.fit.fit` takes of it, by keyword."""
        names = "epochs", "batch_size", "lr", "warmup", "final", "eps", "weight_decay", "patience"
        return {name: getattr(self, name) for name in names}

    def __str__(self):
        """What the commands print of it."""
        return f"epochs: {self.epochs}, batch size: {self.batch_size}, learning rate: {self.lr:g}"


def course_recipe(task, mode):
    """What Stanford's starter code does, for a head alone (linear) or with all layers."""
    return Recipe(
        epochs=10, batch_size=64 if task == "sst" else 8, lr=1e-3 if mode == "linear" else 1e-5,
        eps=1e-6, dropout=0.1, head_dropout=0.3, loss_per_batch=task != "quora",
    )  # fmt: skip


def fine_tuning_recipe(task, n_embd):
    """For a head with layers, where a tenth of the training set chooses the best epoch."""
    # CFIMDB has 1,700 reviews to train on: so it gets about as many steps as SST
    is_small = task == "cfimdb"
    return Recipe(
        epochs=5 if is_small else 3, batch_size=8 if is_small else 32, lr=layers_lr(n_embd),
        warmup=0.1, final=0.0, dropout=0.1, head_dropout=0.1, weight_decay=0.01,
    )  # fmt: skip


def regression_recipe(n):
    """For a linear head on n examples' frozen features: it comes close to the only optimum."""
    return Recipe(epochs=40, batch_size=max(4, n // 64), lr=2e-2, final=0.0)


def sonnet_recipe(n_embd):
    """For layers on poems, as long as it helps those of the validation set."""
    return Recipe(epochs=20, batch_size=8, lr=layers_lr(n_embd), dropout=0.1, patience=2)


def layers_lr(n_embd):
    """The learning rate for a model's layers; a large model has more to lose."""
    return 3e-4 if n_embd < 768 else 3e-5
