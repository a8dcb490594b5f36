"""What a model knows of a task: python -m picogpt.probe sst (or cfimdb, quora).

A linear head on frozen features (--mode linear), or the head trained together with the top layers
or with all of them (--mode top, full). Beside it stand the majority class and a bag of words: what
the task takes without any model.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from picogpt.kernels import linear, softmax
from picogpt.model import load, save
from picogpt.tasks.classifier import cloze_head, recipe_options, tune
from picogpt.tasks.course_files import TASKS, load_task, prompt, write_predictions
from picogpt.tasks.features import encode_texts, features, fingerprint
from picogpt.tasks.metrics import confusion, metrics, predicted_classes
from picogpt.tasks.regression import bag_of_words, choose_penalty, softmax_regression
from picogpt.tasks.workers import processes
from picogpt.tools.cli import at_least, run
from picogpt.tools.errors import CheckpointError, DataError, UsageError
from picogpt.tools.files import cache_folder
from picogpt.tools.svg import line_chart, matrix_chart
from picogpt.training.fit import print_figures
from picogpt.training.state import load_state, save_state

MODES = {"linear": "last-linear-layer", "top": "top-{}", "full": "full-model"}  # in files' names


class Job(NamedTuple):
    """What the flags ask for."""

    task: str
    mode: str
    top_k: int
    course: bool
    cloze: bool
    pool: str
    layer: int | None
    seed: int
    out: Path

    @property
    def label(self):
        """What the course's files are called after."""
        return MODES[self.mode].format(self.top_k)

    @property
    def place(self):
        """The folder of the head and, where layers are trained, of the model."""
        return self.out / f"{self.label}-{self.task}"


def probe(x, labels, n_classes, seed, **options):
    """Train a linear head on frozen features, {split: `[n, n_embd]`}: (head, history).

    They are standardised on the training set; the head that is given back takes them as they are.
    """
    mean, std = x["train"].mean(axis=0), x["train"].std(axis=0)
    std[std == 0] = 1
    z = {split: (x[split] - mean) / std for split in ("train", "dev")}
    penalty = choose_penalty(z["train"], labels["train"], n_classes, seed)
    print(f"penalty {penalty:g}, the best on a held-back tenth of the training set")

    def report(head, figures):
        for split in z:
            figures |= metrics(split, labels[split], linear(z[split], **head))
        print_figures(figures)

    options |= {"seed": seed, "report": report}
    head, history = softmax_regression(z["train"], labels["train"], n_classes, penalty, **options)
    w = head["w"] / std[:, None]
    return {"w": w, "b": head["b"] - mean @ w}, history


def answer_tokens(model, words):
    """The ids of "no" and "yes": of the first token where a word is several."""
    answers = [model.encoder.encode(word)[0] for word in words]
    tokens = [f"{model.encoder.decode([id])!r} (token {id})" for id in answers]
    print(f"cloze: the next token after the prompt, {tokens[1]} for yes against {tokens[0]} for no")
    return answers


def compare(task, examples, labels, logits, job):
    """Print accuracy and macro F1 on dev beside what counting gives, and the confusion table."""
    n_classes = len(task.classes)
    bags, dev_bags = bag_of_words(examples["train"], examples["dev"])
    penalty = choose_penalty(bags, labels["train"], n_classes, job.seed)
    words, _ = softmax_regression(bags, labels["train"], n_classes, penalty, seed=job.seed)
    votes = np.bincount(labels["train"], minlength=n_classes)
    name = "cloze, zero-shot" if job.cloze and job.mode == "linear" else job.label
    name += ", selected on dev" * (job.course and name == job.label)
    rows = {
        "majority class": np.tile(votes, (len(logits), 1)),
        "bag of words": linear(dev_bags.astype(np.float32), **words),
        name: logits,
    }
    width = max(map(len, rows))
    print(f"\n{f'{len(logits)} dev examples':{width}}  accuracy  macro F1")
    for name, scores in rows.items():
        figures = metrics("dev", labels["dev"], scores).values()
        print(f"{name:{width}}  {'  '.join(f'{value:8.3f}' for value in figures)}")
    counts = confusion(labels["dev"], predicted_classes(logits), n_classes).tolist()
    print(f"\n{'true, predicted':15}  {'  '.join(task.classes)}")
    for name, row in zip(task.classes, counts):
        print(f"{name:15}  {'  '.join(f'{n:{len(c)}}' for n, c in zip(row, task.classes))}")
    return counts


def print_prediction(job, text, model_size, models_dir):
    """Print how likely each class is for a text, by the head that was saved before."""
    task, path, sentences = TASKS[job.task], job.place / "head.safetensors", text.split("|||")
    if not path.exists():
        raise DataError(f"{path} is missing: run the same command without --predict first")
    if len(sentences) != len(task.columns):
        raise UsageError(f"--predict needs {len(task.columns)} text(s), with ||| between two")
    head, about = load_state(path)
    if job.mode != "linear" and model_size:
        raise UsageError(f"--predict uses {job.place}, trained before: leave --model_size out")
    model = load(model_size or (about["model"] if job.mode == "linear" else job.place), models_dir)
    if fingerprint(model.params) != about["checkpoint"]:
        raise CheckpointError(f"{path} belongs to another model, the one in {about['model']}")
    ids = encode_texts(model, [prompt(sentences, about["course"])])
    scores = linear(features(model, ids, about["layer"], about["pool"]), **head)
    for p, name in sorted(zip(softmax(scores)[0], task.classes), reverse=True):
        print(f"{p:.3f} {name}")


def classify(job, model, examples, given, where):
    """Train a head as asked, print how good it is, and write all files."""
    task = TASKS[job.task]
    texts = [prompt(row.sentences, job.course) for rows in examples.values() for row in rows]
    encoded = iter(encode_texts(model, texts))
    ids = {split: [next(encoded) for _ in rows] for split, rows in examples.items()}
    labels = {split: np.array([row.label for row in examples[split]]) for split in ("train", "dev")}
    about = {"checkpoint": fingerprint(model.params), "model": where["folder"]}
    about |= {"layer": job.layer, "pool": job.pool, "course": job.course}
    job.place.mkdir(parents=True, exist_ok=True)
    run_id = fingerprint(repr((job, given, about, ids["train"], ids["dev"])).encode(), labels)
    state_path = job.place / f"unfinished-{run_id[:12]}.safetensors"
    head, history = train_head(job, model, ids, labels, given, where, state_path)
    where = where if job.mode == "linear" else {}
    logits = {
        split: linear(features(model, ids[split], job.layer, job.pool, **where), **head)
        for split in ("dev", "test")
        if examples[split]
    }
    predictions = {split: predicted_classes(rows) for split, rows in logits.items()}
    if job.mode != "linear":
        save(model, job.place)
        about |= {"checkpoint": fingerprint(model.params), "model": str(job.place)}
    save_state(job.place / "head.safetensors", head, about)
    for split, classes in predictions.items():
        path = job.out / task.output.format(mode=job.label, split=split)
        write_predictions(path, task.heading, examples[split], classes)
    state_path.unlink(missing_ok=True)
    counts = compare(task, examples, labels, logits["dev"], job)
    title, stem = f"{job.task}, {job.label}", f"{job.label}-{job.task}"
    matrix_chart(job.out / f"{stem}-confusion.svg", counts, task.classes, f"{title}: dev")
    curves = [name for name in history[0] if name.endswith("accuracy")] if history else []
    series = {name: [(row["epoch"], row[name]) for row in history] for name in curves}
    line_chart(job.out / f"{stem}-curve.svg", series, title, "epoch", "accuracy")
    print(f"\n{job.out} holds predictions, pictures and, in {job.place.name}, the head")


def features_folder(cache_dir):
    """Where features are kept for the next run: as --cache_dir says, else in the user's cache."""
    if cache_dir is not None:
        return None if cache_dir == "none" else Path(cache_dir)
    cache = cache_folder()
    return cache and cache / "features"


def train_head(job, model, ids, labels, given, where, state_path):
    """The head, trained in the way that the job asks for, and the history of its training."""
    n_classes = len(TASKS[job.task].classes)
    answers = answer_tokens(model, TASKS[job.task].classes) if job.cloze else None
    if job.mode == "linear" and answers:
        return cloze_head(model.params, answers), []
    if job.mode == "linear" and not job.course:
        x = {split: features(model, ids[split], job.layer, job.pool, **where) for split in labels}
        return probe(x, labels, n_classes, job.seed, **given)
    first = model.config.n_layer - job.top_k if job.mode == "top" else 0
    hidden = features(model, ids["train"], first, "tokens", **where) if first else None
    options = recipe_options(job.task, job.mode, job.course, model.config.n_embd) | given
    return tune(
        model, ids, labels, n_classes, "dev" if job.course else "held-back", answers=answers,
        first=first, head_only=job.mode == "linear", hidden=hidden, pool=job.pool, seed=job.seed,
        state_path=state_path, **options,
    )  # fmt: skip


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
    cache_dir: str | None = None,
    data: Path | None = None,
    out: Path = Path("predictions"),
    predict: str | None = None,
    model_size: str | None = None,
    models_dir: str | None = None,
):
    """Train a classifier on a task of CS 224N's project, and say how well it does.

    Args:
        task: sst, cfimdb (sentiment of films in five and two classes) or quora (same question?).
        mode: linear trains a head on frozen features; top and full train layers with it.
        top_k_layers: how many layers --mode top trains.
        recipe: course does as Stanford's code does, and chooses the best epoch on dev.
        head: cloze, of quora alone, is the model's own next token, yes or no; nothing is trained
            with --mode linear.
        pool: the activations at the last token, or the mean over all.
        layer: after which block the features are taken; without it the last.
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
    """
    at_least(0, seed=seed, layer=layer, lr=lr)
    at_least(1, epochs=epochs, batch_size=batch_size, workers=workers, top_k_layers=top_k_layers)
    course, cloze = recipe == "course", head == "cloze"
    if cloze and (task != "quora" or pool == "mean"):
        raise UsageError("--head cloze is for quora, whose answer comes after the last token")
    if layer is not None and (mode != "linear" or course or cloze):
        raise UsageError("--layer goes with --mode linear, the honest recipe and a softmax head")
    seed = (11711 if course else 0) if seed is None else seed
    job = Job(task, mode, top_k_layers, course, cloze, pool, layer, seed, out)
    if predict is not None:
        return print_prediction(job, predict, model_size, models_dir)
    model = load(model_size, models_dir)
    if max(layer or 0, top_k_layers * (mode == "top")) > model.config.n_layer:
        raise UsageError(f"{model.name} has only {model.config.n_layer} layers")
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr}
    given = {name: value for name, value in given.items() if value is not None}
    data, examples = load_task(task, data)
    print(f"{task} by {model.name}, {job.label}, {recipe} recipe, seed {seed}, data in {data}")
    folder = str(model.folder.absolute())
    with processes(workers) if workers > 1 else nullcontext() as executor:
        where = {"keep": features_folder(cache_dir), "executor": executor, "folder": folder}
        classify(job, model, examples, given, where)


if __name__ == "__main__":
    run(main)
