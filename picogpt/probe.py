"""What a model knows of a task: python -m picogpt.probe sst (or cfimdb, quora).

A linear head on frozen features (--mode linear), or the head trained together with the top layers
or with all of them (--mode top, full). Beside it stand the majority class and a bag of words: what
the task takes without any model.
"""

import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from picogpt.kernels import linear, softmax
from picogpt.model import load, save
from picogpt.tasks.classifier import fine_tune
from picogpt.tasks.course_files import TASKS, load_task, task_text, write_predictions
from picogpt.tasks.features import encode_texts, features, fingerprint
from picogpt.tasks.heads import cloze_head, load_head, save_head
from picogpt.tasks.metrics import confusion, metrics, predicted_classes
from picogpt.tasks.recipes import course_recipe, fine_tuning_recipe, regression_recipe
from picogpt.tasks.regression import (
    bag_of_words,
    choose_penalty,
    linear_probe,
    softmax_regression,
)
from picogpt.tasks.workers import processes
from picogpt.tools.cli import at_least, goes_on_when_stopped, run
from picogpt.tools.errors import CheckpointError, DataError, UsageError
from picogpt.tools.files import cache_folder, locked
from picogpt.tools.svg import line_chart, matrix_chart

MODES = {"linear": "last-linear-layer", "top": "top-{}", "full": "full-model"}  # in files' names


class Job(NamedTuple):
    """What the flags ask for; None is what the recipe, or the model, has."""

    task: str
    mode: str  # linear, top or full
    top_k: int  # how many layers train in mode top
    course: bool  # whether the recipe is Stanford's
    cloze: bool  # whether the head is the model's own output
    pool: str  # last or mean
    layer: int | None
    epochs: int | None
    batch_size: int | None
    lr: float | None
    seed: int
    out: Path

    @property
    def label(self):
        """How training is called in the names of files."""
        mode = MODES[self.mode].format(self.top_k)
        return f"{mode}-cloze" if self.cloze else mode

    @property
    def place(self):
        """The folder of the head and, where layers are trained, of the model."""
        return self.out / f"{self.label}-{self.task}"

    @property
    def head_path(self):
        """The file of the head."""
        return self.place / "head.safetensors"

    @property
    def chosen_by(self):
        """Which examples choose the best epoch."""
        return "dev" if self.course else "validation"

    def recipe(self, n_examples, n_embd):
        """How to train, with what the flags change; None where nothing is trained."""
        if self.mode == "linear" and self.cloze:
            return None
        if self.course:
            usual = course_recipe(self.task, self.mode)
        elif self.mode == "linear":
            usual = regression_recipe(n_examples)
        else:
            usual = fine_tuning_recipe(self.task, n_embd)
        return usual.with_values(epochs=self.epochs, batch_size=self.batch_size, lr=self.lr)


def print_prediction(job, text, model_size, models_dir, int8):
    """Print how likely each class is for a text, by the head that was saved before.

    Raises DataError where there is no such head, UsageError for too few or too many sentences and
    for a model beside the trained one, CheckpointError where the head belongs to another model.
    """
    task = TASKS[job.task]
    sentences = [sentence.strip() for sentence in text.split("|||")]  # as those of the files
    if not job.head_path.exists():
        raise DataError(f"{job.head_path} is missing: run the same command without --predict first")
    if len(sentences) != len(task.columns):
        raise UsageError(f"--predict needs {len(task.columns)} text(s), with ||| between two")
    if job.mode != "linear" and model_size:
        raise UsageError(f"--predict uses {job.place}, trained before: leave --model_size out")
    head, facts = load_head(job.head_path, job.task, len(task.classes))
    trained_on = facts["model"] if job.mode == "linear" else job.place
    model = load(model_size or trained_on, models_dir, needs_text=True, int8=int8)
    if fingerprint(model.params) != facts["checkpoint"]:
        raise CheckpointError(
            f"{job.head_path} belongs to another model, that of {facts['model']}, or was trained "
            f"{'without' if int8 else 'with'} --int8"
        )
    print(f"by {job.label}, trained on {facts['trained_on']}", file=sys.stderr)
    ids = encode_texts(model, [task_text(sentences, facts["course"])])
    logits = linear(features(model, ids, facts["layer"], facts["pool"]), **head)
    predicted_classes(logits)  # raises where they are no numbers
    for p, name in sorted(zip(softmax(logits)[0], task.classes), reverse=True):
        print(f"{p:.3f} {name}")


def classify(job, model, examples, data, compute):
    """Train a head as asked, write all files, and print how good it is.

    `compute` is `features` that knows where to keep them and who computes them.
    """
    ids = encode_splits(model, examples, job.course)
    labels = {split: np.array([row.label for row in examples[split]]) for split in ("train", "dev")}
    recipe = job.recipe(len(ids["train"]), model.config.n_embd)
    if recipe:
        print(recipe)
    facts = {
        "task": job.task, "checkpoint": fingerprint(model.params),
        "model": str(model.folder.absolute()), "layer": job.layer, "pool": job.pool,
        "course": job.course, "trained_on": describe(job, model, examples, data),
    }  # fmt: skip
    run_id = fingerprint(repr((job, recipe, facts, ids["train"], ids["dev"])).encode(), labels)
    state_path = job.place / f"unfinished-{run_id[:12]}.safetensors"
    head, history = train_head(job, model, ids, labels, recipe, compute, state_path)
    if job.mode != "linear":  # the model has changed: no worker has it, and no other run will
        compute = features
    logits = {
        split: linear(compute(model, ids[split], job.layer, job.pool), **head)
        for split in ("dev", "test")
        if examples[split]
    }
    predictions = {split: predicted_classes(rows) for split, rows in logits.items()}
    if job.mode != "linear":
        save(model, job.place)
        facts |= {"checkpoint": fingerprint(model.params), "model": str(job.place.absolute())}
    save_head(job.head_path, head, facts)
    counts = confusion(labels["dev"], predictions["dev"], len(TASKS[job.task].classes))
    write_results(job, examples, predictions, counts, history)
    state_path.unlink(missing_ok=True)  # until here, the same command goes on from it
    compare(job, examples, labels, logits["dev"])
    print_confusion(TASKS[job.task].classes, counts)
    print(f"\n{job.out} holds predictions, pictures and, in {job.place.name}, the head")


def encode_splits(model, examples, course):
    """The ids of all examples, {split: lists of ids}; encoded together, so that a notice on long
    texts comes once.
    """
    texts = [task_text(row.sentences, course) for rows in examples.values() for row in rows]
    encoded = iter(encode_texts(model, texts))
    return {split: [next(encoded) for _ in rows] for split, rows in examples.items()}


def describe(job, model, examples, data):
    """What a head was trained on, in words."""
    if job.cloze and job.mode == "linear":
        return f"nothing: it is {model.name}'s own next token"
    return f"{len(examples['train']):,} examples of {job.task} in {data}, from {model.name}"


def train_head(job, model, ids, labels, recipe, compute, state_path):
    """The head, trained in the way that the job asks for, and the history of its training."""
    classes = TASKS[job.task].classes
    answers = answer_tokens(model, classes) if job.cloze else None
    if recipe is None:
        return cloze_head(model.params, answers), []
    if job.mode == "linear" and not job.course:
        x = {split: compute(model, ids[split], job.layer, job.pool) for split in labels}
        return linear_probe(x, labels, len(classes), recipe, job.seed)
    first = model.config.n_layer - job.top_k if job.mode == "top" else 0
    hidden = compute(model, ids["train"], first, "tokens") if first else None
    return fine_tune(
        model, ids, labels, len(classes), recipe, chosen_by=job.chosen_by, first=first,
        head_only=job.mode == "linear", hidden=hidden, pool=job.pool, answers=answers,
        seed=job.seed, state_path=state_path,
    )  # fmt: skip


def answer_tokens(model, words):
    """The ids of "no" and "yes": of the first token where a word is several."""
    answers = [model.encoder.encode(word)[0] for word in words]
    tokens = [f"{model.encoder.decode([id])!r} (token {id})" for id in answers]
    print(f"cloze: the next token after the prompt, {tokens[1]} for yes against {tokens[0]} for no")
    return answers


def write_results(job, examples, predictions, counts, history):
    """Write the predictions in the course's form, the confusion table and the curve as pictures."""
    task = TASKS[job.task]
    for split, classes in predictions.items():
        path = job.out / task.output.format(mode=job.label, split=split)
        write_predictions(path, task.heading, examples[split], classes)
    title = f"{job.task}, {job.label}"
    stem = job.place.name
    matrix_chart(job.out / f"{stem}-confusion.svg", counts.tolist(), task.classes, f"{title}: dev")
    curves = [name for name in history[0] if name.endswith(" acc")] if history else []
    series = {
        name.removesuffix(" acc"): [(row["epoch"], row[name]) for row in history] for name in curves
    }
    line_chart(job.out / f"{stem}-curve.svg", series, title, "epoch", "accuracy")


def compare(job, examples, labels, logits):
    """Print accuracy and macro F1 on dev, beside those of the majority class and a bag of words."""
    n_classes = len(TASKS[job.task].classes)
    bags, dev_bags = bag_of_words(examples["train"], examples["dev"])
    penalty = choose_penalty(bags, labels["train"], n_classes, job.seed)
    words, _ = softmax_regression(bags, labels["train"], n_classes, penalty, seed=job.seed)
    votes = np.bincount(labels["train"], minlength=n_classes)
    trained = not (job.cloze and job.mode == "linear")
    name = job.label if trained else "cloze, zero-shot"
    if job.course and trained:
        name += ", selected on dev"
    rows = {
        "majority class": np.tile(votes, (len(logits), 1)),
        "bag of words": linear(dev_bags.astype(np.float32), **words),
        name: logits,
    }
    width = max(map(len, rows))
    print(f"\n{f'{len(logits)} dev examples':{width}}  accuracy  macro F1")
    for predictor, scores in rows.items():
        figures = metrics("dev", labels["dev"], scores).values()
        print(f"{predictor:{width}}  {'  '.join(f'{value:8.3f}' for value in figures)}")


def print_confusion(classes, counts):
    """Print how often each class (row) was taken for each (column)."""
    n_digits = len(str(counts.max()))
    widths = [max(len(name), n_digits) for name in classes]
    heads = [f"{name:>{width}}" for name, width in zip(classes, widths)]
    print(f"\n{'true, predicted':15}  {'  '.join(heads)}")
    for name, row in zip(classes, counts):
        print(f"{name:15}  {'  '.join(f'{n:{width}}' for n, width in zip(row, widths))}")


def features_folder(cache_dir):
    """Where features are kept for the next run: as --cache_dir says, else in the user's cache."""
    if cache_dir is not None:
        return None if cache_dir == Path("none") else cache_dir
    cache = cache_folder()
    return cache and cache / "features"


def main(
    task: Literal["sst", "cfimdb", "quora"],
    *,
    mode: Literal["linear", "top", "full"] = "linear",
    top_k_layers: int = 2,
    recipe: Literal["honest", "course"] = "honest",
    head: Literal["softmax", "cloze"] = "softmax",
    pool: Literal["last", "mean"] = "last",
    layer: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    workers: int = 1,
    cache_dir: Path | None = None,
    data: Path | None = None,
    out: Path = Path("predictions"),
    predict: str | None = None,
    model_size: str | None = None,
    models_dir: str | None = None,
    int8: bool = False,
):
    """Train a classifier on a task of CS 224N's project, and say how well it does.

    Args:
        task: sst, cfimdb (sentiment of films in five and two classes) or quora (same question?).
        mode: linear trains a head on frozen features; top and full train layers with it.
        top_k_layers: how many layers --mode top trains.
        recipe: course does as Stanford's code does, and chooses the best epoch on dev; honest
            chooses by a tenth of the training set.
        head: cloze, of quora alone, is the model's own next token, yes or no; nothing is trained
            with --mode linear.
        pool: the activations at the last token, or the mean over all.
        layer: after how many blocks the features are taken, 0 for the embeddings; without it all.
        epochs: how often the training set is seen.
        batch_size: how many examples make a step.
        lr: the learning rate.
        seed: the same whole number gives the same result again.
        workers: how many processes compute features.
        cache_dir: where features are kept for the next run, or none to keep nothing; without it
            ~/.cache/picogpt/features. At 2 GB what was longest unused goes.
        data: a folder with the course's files; without it they are downloaded.
        out: the folder for predictions, heads, models and pictures.
        predict: classify this text by the head trained before; of quora two, with ||| between.
        model_size: 124M, 355M, 774M, 1558M, tiny, a folder or a hub id; without it 124M, or tiny.
        models_dir: where models are kept.
        int8: hold the model's large matrices as whole numbers of one byte; with --mode linear.
    """
    at_least(0, seed=seed, layer=layer, lr=lr)
    at_least(1, epochs=epochs, batch_size=batch_size, workers=workers, top_k_layers=top_k_layers)
    course, cloze = recipe == "course", head == "cloze"
    if cloze and (task != "quora" or pool == "mean"):
        raise UsageError("--head cloze is for quora, whose answer comes after the last token")
    if layer is not None and (mode != "linear" or course or cloze):
        raise UsageError("--layer goes with --mode linear, the honest recipe and a softmax head")
    if int8 and mode != "linear":
        raise UsageError("--int8 goes with --mode linear: a model in int8 can't be trained")
    seed = (11711 if course else 0) if seed is None else seed
    job = Job(
        task, mode, top_k_layers, course, cloze, pool, layer, epochs, batch_size, lr, seed, out
    )
    if predict is not None:
        return print_prediction(job, predict, model_size, models_dir, int8)
    model = load(model_size, models_dir, needs_text=True, int8=int8)
    n_needed = top_k_layers if mode == "top" else layer or 0
    if n_needed > model.config.n_layer:
        raise UsageError(f"{model.name} has only {model.config.n_layer} layers")
    data, examples = load_task(task, data)
    print(f"{task} by {model.title}, {job.label}, {recipe} recipe, seed {seed}, data in {data}")
    keep = features_folder(cache_dir)
    with (
        locked(job.place),
        goes_on_when_stopped(mode != "linear" or keep is not None),
        processes(workers) if workers > 1 else nullcontext() as executor,
    ):
        compute = partial(features, keep=keep, executor=executor)
        classify(job, model, examples, data, compute)


if __name__ == "__main__":
    run(main)
