"""A classifier's gradients against finite differences; frozen layers; the recipes."""

from copy import deepcopy

import numpy as np
import pytest
from differences import slope_at
from models import random_params, small_config, small_model

from picogpt.kernels import hidden_states, layer_norm, linear, softmax
from picogpt.model import Model
from picogpt.tasks import classifier as module
from picogpt.tasks.classifier import classifier_gradients, fine_tune, train_classifier
from picogpt.tasks.features import features
from picogpt.tasks.heads import cloze_head, new_head
from picogpt.tasks.recipes import Recipe, course_recipe
from picogpt.tools.tree import tree_leaves, tree_map
from picogpt.training.fit import best_of

RNG = np.random.default_rng(0)
SEQUENCES = [RNG.integers(0, 267, n).tolist() for n in (5, 1, 9, 3)]
LABELS = np.array([2, 0, 1, 1])


def model64(**changes):
    """Small, in double precision, for finite differences."""
    config = small_config(**changes)
    return Model(random_params(config, dtype=np.float64), config, None)


def head64(n_classes=3):
    return tree_map(lambda a: a.astype(np.float64), new_head(24, n_classes, seed=5))


def by_hand(model, head, pool, n):
    """The loss from the plain forward pass, one sequence at a time."""
    loss = 0.0
    for ids, label in zip(SEQUENCES, LABELS):
        x = plain(model, ids)
        vector = x[-1] if pool == "last" else x.mean(axis=0)
        loss -= np.log(softmax(linear(vector, **head)))[label]
    return loss / n


def plain(model, ids):
    """What the head reads, `[n_tokens, n_embd]`."""
    params, options = model.params, model.config.kernel_options
    x = hidden_states(ids, params["wte"], params["wpe"], params["blocks"], **options)
    return layer_norm(x, **params["ln_f"], eps=options["eps"])


def check(loss_of, tree, grads, n_places=3, eps=1e-6):
    """Central differences at some places of every array of the tree."""
    rng, pairs = np.random.default_rng(1), []
    tree_map(lambda *pair: pairs.append(pair), tree, grads)
    for array, gradient in pairs:
        assert array.shape == gradient.shape
        flat, largest = array.reshape(-1), np.abs(gradient).argmax()
        for i in [largest, *rng.integers(0, array.size, n_places)]:
            expected = slope_at(loss_of, flat, i, eps)
            assert gradient.reshape(-1)[i] == pytest.approx(expected, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("pool", ["last", "mean"])
def test_gradients_are_those_of_finite_differences(pool):
    model, head = model64(), head64()
    loss, grads = classifier_gradients(model, head, SEQUENCES, LABELS, 7, pool=pool)
    assert loss == pytest.approx(by_hand(model, head, pool, 7), rel=1e-10)
    params = model.params
    tree = {"head": head} | {name: params[name] for name in ("blocks", "ln_f", "wte", "wpe")}
    check(lambda: by_hand(model, head, pool, 7), tree, {name: grads[name] for name in tree})


@pytest.mark.parametrize("pool", ["last", "mean"])
def test_frozen_layers_change_nothing_above_them_nor_do_kept_activations(pool):
    model, head = small_model(n_layer=3), new_head(24, 3, seed=0)
    loss, full = classifier_gradients(model, head, SEQUENCES, LABELS, 4, pool=pool)
    kept = features(model, SEQUENCES, 2, "tokens")
    for hidden in (None, np.concatenate(kept)):
        top_loss, top = classifier_gradients(
            model, head, SEQUENCES, LABELS, 4, first=2, hidden=hidden, pool=pool
        )
        assert top_loss == pytest.approx(loss, rel=1e-5)
        assert top["blocks"][:2] == [{}, {}] and "wte" not in top
        for name, one, other in [
            ("block", top["blocks"][2], full["blocks"][2]), ("ln_f", top["ln_f"], full["ln_f"]),
            ("head", top["head"], full["head"]),
        ]:  # fmt: skip
            for a, b in zip(tree_leaves(one), tree_leaves(other), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-5, err_msg=name)


def test_a_cloze_head_trains_as_a_part_of_wte(monkeypatch):
    """Both gradients of wte: as the table of the inputs, and as the answers' scores."""
    model, answers, labels = model64(), [88, 77], np.array([0, 1, 1, 0])
    trained = {}

    def loss_of():
        head = cloze_head(model.params, answers)
        scores = [linear(plain(model, ids)[-1], **head) for ids in SEQUENCES]
        return -np.mean([np.log(softmax(s))[label] for s, label in zip(scores, labels)])

    before = deepcopy(model.params)
    def fit(params, gradients, n, **_):  # the gradients of one whole batch
        trained.update(params)
        return gradients(np.arange(n), np.arange(n), np.random.default_rng(0))

    monkeypatch.setattr(module, "fit", fit)
    loss, grads = train_classifier(
        model, None, SEQUENCES, labels, Recipe(1, 4, 0.0), answers=answers
    )
    assert loss == pytest.approx(loss_of(), rel=1e-10)
    assert "head" not in trained and trained["wte"] is model.params["wte"]
    check(loss_of, {"wte": model.params["wte"]}, {"wte": grads["wte"]}, n_places=10)
    for answer in answers:
        assert np.abs(grads["wte"][answer]).max() > 0
    assert all(map(np.array_equal, tree_leaves(before), tree_leaves(model.params)))


RECIPE = Recipe(epochs=2, batch_size=3, lr=1e-2)


@pytest.mark.parametrize(
    ("first", "head_only", "changed"),
    [
        (0, False, {"head", "blocks.0", "blocks.1", "ln_f", "wte", "wpe"}),
        (1, False, {"head", "blocks.1", "ln_f"}),
        (0, True, {"head"}),
    ],
)
def test_what_is_to_be_trained_is_trained_and_nothing_else(first, head_only, changed):
    model, head = small_model(), new_head(24, 3, 0)

    def parts():
        tree = {"head": head} | {name: model.params[name] for name in ("ln_f", "wte", "wpe")}
        return tree | {f"blocks.{i}": block for i, block in enumerate(model.params["blocks"])}

    before = deepcopy(parts())
    train_classifier(
        model, head, SEQUENCES, LABELS, RECIPE, first=first, head_only=head_only, n_threads=1
    )
    for name, part in parts().items():
        equal = all(map(np.array_equal, tree_leaves(before[name]), tree_leaves(part)))
        assert equal == (name not in changed), name


def test_training_ends_when_patience_does():
    def report(figures):
        figures["score"] = 0.5

    model = model64()
    history = train_classifier(
        model, new_head(model.config.n_embd, 2, 0), SEQUENCES, np.array([0, 1, 1, 0]),
        RECIPE._replace(epochs=9, patience=2), report=report,
    )  # fmt: skip
    assert [figures["epoch"] for figures in history] == [1, 2, 3]


def test_a_batch_may_be_divided_by_its_full_size():
    """Four examples in batches of three: in the second, of one, the course divides by three."""
    losses = []
    for per_batch in (False, True):
        model, head = small_model(), new_head(24, 3, 0)
        history = train_classifier(
            model, head, SEQUENCES, LABELS, Recipe(1, 3, 0.0, loss_per_batch=per_batch),
            head_only=True, n_threads=1,
        )  # fmt: skip
        losses.append(history[0]["train loss"])
    order = np.random.default_rng([0, 0]).permutation(4)
    _, last = SEQUENCES[order[3]], order[3]
    one, _ = classifier_gradients(model, head, [SEQUENCES[last]], LABELS[[last]], 1)
    assert losses[0] - losses[1] == pytest.approx(one * (1 - 1 / 3) / 4, rel=1e-4)


def test_dropout_depends_on_the_seed_alone():
    def trained(seed):
        model, head = small_model(), new_head(24, 3, 0)
        recipe = Recipe(1, 4, 1e-2, dropout=0.3, head_dropout=0.3)
        train_classifier(model, head, SEQUENCES, LABELS, recipe, seed=seed, n_threads=1)
        return head["w"]

    np.testing.assert_array_equal(trained(0), trained(0))
    assert not np.array_equal(trained(0), trained(1))


def test_dropout_before_the_head_reaches_its_gradient_alone():
    model, head = small_model(), new_head(24, 3, 0)
    rng = np.random.default_rng(0)
    _, grads = classifier_gradients(
        model, head, SEQUENCES, LABELS, 4, head_dropout=0.5, head_only=True, rng=rng
    )
    assert set(grads) == {"head"}
    mean = np.zeros_like(head["w"])
    for _ in range(400):
        mean += classifier_gradients(
            model, head, SEQUENCES, LABELS, 4, head_dropout=0.1, head_only=True, rng=rng
        )[1]["head"]["w"] / 400
    _, plain = classifier_gradients(model, head, SEQUENCES, LABELS, 4, head_only=True)
    difference = np.abs(mean - plain["head"]["w"]).mean()
    assert difference < 0.1 * np.abs(plain["head"]["w"]).mean()


def task(n=60):
    """Sequences whose label is in their last token."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, n)
    ids = [[*rng.integers(0, 60, 4).tolist(), 100 + int(label)] for label in labels]
    return ids, labels


HOW = {
    "first": 0, "head_only": False, "hidden": None, "pool": "last", "answers": None, "seed": 0,
}  # fmt: skip


def test_fine_tuning_learns_and_takes_the_epoch_that_is_best_in_validation(capsys):
    model = small_model()
    ids, labels = task()
    ids, labels = {"train": ids, "dev": ids[:10]}, {"train": labels, "dev": labels[:10]}
    head, history = fine_tune(
        model, ids, labels, 2, Recipe(3, 8, 3e-3), chosen_by="validation", **HOW
    )
    assert history[-1]["train loss"] < 0.5 * history[0]["train loss"]
    assert history[0]["score"] == history[0]["validation acc"]
    assert history[-1]["dev acc"] == 1
    best = best_of(history)
    scores = linear(features(model, ids["dev"]), **head)
    assert (scores.argmax(axis=1) == labels["dev"]).mean() == best["dev acc"]
    assert "the best on the validation examples" in capsys.readouterr().out


def test_by_dev_all_examples_are_trained_on(monkeypatch):
    seen = {}

    def train(model, head, ids, labels, recipe, **how):  # noqa: ARG001
        seen["n"] = len(ids)
        return [{"epoch": 1}]

    monkeypatch.setattr(module, "train_classifier", train)
    ids, labels = task()
    ids, labels = {"train": ids, "dev": ids}, {"train": labels, "dev": labels}
    fine_tune(small_model(), ids, labels, 2, RECIPE, chosen_by="dev", **HOW)
    assert seen["n"] == 60
    fine_tune(small_model(), ids, labels, 2, RECIPE, chosen_by="validation", **HOW)
    assert seen["n"] == 54


@pytest.mark.parametrize("task", ["sst", "cfimdb", "quora"])
def test_the_courses_recipe(task):
    full = course_recipe(task, "full")
    assert full == Recipe(
        epochs=10, lr=1e-5, batch_size=64 if task == "sst" else 8, eps=1e-6, dropout=0.1,
        head_dropout=0.3, loss_per_batch=task != "quora",
    )  # fmt: skip
    assert course_recipe(task, "linear") == full._replace(lr=1e-3)
