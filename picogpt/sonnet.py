"""Teach a model Shakespeare's sonnets and let it finish some: python -m picogpt.sonnet."""

from pathlib import Path

import numpy as np

from picogpt.checkpoint.hub import is_complete
from picogpt.generation import check_sampling
from picogpt.model import load, save
from picogpt.tasks.course_files import (
    SONNET_FILES,
    find_data,
    load_sonnets,
    read_sonnets,
    write_sonnets,
)
from picogpt.tasks.features import fingerprint
from picogpt.tasks.recipes import sonnet_recipe
from picogpt.tasks.regression import validation_mask
from picogpt.tasks.sonnets import (
    chrf_of_poems,
    perplexity,
    scores_of_no_skill,
    train_sonnets,
    write_on,
)
from picogpt.tools.cli import at_least, goes_on_when_stopped, run
from picogpt.tools.errors import UsageError
from picogpt.tools.files import locked
from picogpt.tools.progress import hidden
from picogpt.training.fit import best_of, print_figures

N_SHOWN = 3  # lines of a validation poem that the sample after each epoch begins with


def find_poems(data, all_files):
    """The folder of the course's files, and {split: poems} of all files, or of "train" alone."""
    data = find_data(SONNET_FILES.values(), data)
    if all_files:
        return data, load_sonnets(data)
    return data, {"train": read_sonnets(data / SONNET_FILES["train"])}


def fine_tune(model, poems, place, first, recipe, seed):
    """Train on nine tenths of the poems as long as it helps the validation tenth; save the model.

    The model, trained in blocks from `first` on, goes to the folder `place`. Gives back the path of
    the training's state, to be deleted when all results are written: until then the same command
    goes on from it.
    """
    chosen = validation_mask(len(poems), seed)
    valid = [poem for poem, is_valid in zip(poems, chosen) if is_valid]
    rest = [poem for poem, is_valid in zip(poems, chosen) if not is_valid]
    before = perplexity(model, valid)
    print(f"perplexity of {len(valid)} validation poems before training: {before:.1f}")

    def report(figures):
        figures["perplexity"] = perplexity(model, valid)
        figures["score"] = -figures["perplexity"]
        opening = "\n".join(valid[0].split("\n")[:N_SHOWN]) + "\n"
        rng = np.random.default_rng(seed)  # the same for every epoch: they can be compared
        candidates, temperature, top_p = 1, 1.0, 0.9
        sample = write_on(model, opening, candidates, temperature, top_p, rng)
        print_figures(figures)
        print(f"\n{sample}\n")

    run_id = fingerprint(repr((first, seed, recipe, poems)).encode(), model.params)
    state_path = place / f"unfinished-{run_id[:12]}.safetensors"
    history = train_sonnets(
        model, rest, recipe, first=first, seed=seed, report=report, state_path=state_path
    )
    best = best_of(history)
    after = best["perplexity"]
    print(f"epoch {best['epoch']} is taken: perplexity {after:.1f}, {1 - after / before:.0%} lower")
    save(model, place)
    return state_path


def finish_sonnets(model, poems, out, candidates, temperature, top_p, rng):
    """Write on from the course's openings, into the course's files, and print chrF on dev."""
    from tqdm import tqdm

    def finish(openings, what):
        bar = tqdm(openings, what, unit=" poems", disable=hidden())
        return [write_on(model, poem + "\n", candidates, temperature, top_p, rng) for poem in bar]

    dev = finish(poems["openings"], "writing dev poems")
    test = finish(poems["test"], "writing test poems")
    write_sonnets(out / "generated_sonnets_dev.txt", dev)
    if test:
        write_sonnets(out / "generated_sonnets.txt", test)
    lines = "\n".join(poems["train"]).split("\n")
    print_scores(dev, poems["openings"], poems["truth"], lines, rng)


def print_scores(poems, openings, truths, lines, rng):
    """Print chrF of the whole poems and of what follows the openings, beside that of no skill."""
    alone, with_random = scores_of_no_skill(openings, truths, lines, rng)
    rows = {
        "openings alone": alone,
        "and random lines": with_random,
        "and the model's": chrf_of_poems(poems, openings, truths),
    }
    print(f"\n{f'chrF of {len(poems)} poems':20}  whole  without openings")
    for name, (whole, ending) in rows.items():
        print(f"{name:20}  {whole:5.1f}  {ending:5.1f}")


def main(
    *,
    write: str | None = None,
    top_k_layers: int | None = None,
    epochs: int = 20,
    batch_size: int = 8,
    lr: float | None = None,
    temperature: float = 1.2,
    top_p: float = 0.95,
    candidates: int = 8,
    seed: int = 0,
    data: Path | None = None,
    out: Path = Path("predictions"),
    model_size: str | None = None,
    models_dir: str | None = None,
):
    """Train a model on Shakespeare's sonnets, let it finish others, and score what it wrote.

    Args:
        write: write a sonnet that begins so, by the model trained before. Where there is none, one
            is trained first; the course's openings are left alone.
        top_k_layers: how many layers to train; without it all.
        epochs: how often the poems are seen at most; two that don't help are the last.
        batch_size: how many poems make a step.
        lr: the learning rate; without it 3e-5, for small models 3e-4.
        temperature: below 1 is careful, above 1 is daring.
        top_p: sample from the likeliest tokens that reach this probability together.
        candidates: how many endings are sampled for each opening; the best is taken.
        seed: the same whole number gives the same result again.
        data: a folder with the course's files; without it they are downloaded.
        out: the folder for the poems and the trained model.
        model_size: 124M, 355M, 774M, 1558M, tiny, a folder or a hub id; without it 124M, or tiny.
        models_dir: where models are kept.
    """
    at_least(0, seed=seed, lr=lr)
    at_least(1, top_k_layers=top_k_layers, epochs=epochs, batch_size=batch_size)
    at_least(1, candidates=candidates)
    check_sampling(temperature=temperature, top_p=top_p)
    place = out / "sonnet-model"
    rng = np.random.default_rng(seed)
    trained = write is not None and is_complete(place)
    if trained and model_size:
        raise UsageError(f"--write uses {place}, trained before: leave --model_size out")
    if trained:
        print(write_on(load(place), write, candidates, temperature, top_p, rng))
        return
    model = load(model_size, models_dir, needs_text=True)
    if top_k_layers and top_k_layers > model.config.n_layer:
        raise UsageError(f"{model.name} has only {model.config.n_layer} layers")
    first = model.config.n_layer - top_k_layers if top_k_layers else 0
    data, poems = find_poems(data, all_files=write is None)
    recipe = sonnet_recipe(model.config.n_embd)
    recipe = recipe.with_values(epochs=epochs, batch_size=batch_size, lr=lr)
    print(f"sonnets by {model.name}, seed {seed}, data in {data}\n{recipe}")
    with locked(place), goes_on_when_stopped():
        state_path = fine_tune(model, poems["train"], place, first, recipe, seed)
        model = load(place)
        if write is not None:
            print(write_on(model, write, candidates, temperature, top_p, rng))
        else:
            finish_sonnets(model, poems, out, candidates, temperature, top_p, rng)
            print(f"\n{out} holds the sonnets and, in {place.name}, the model")
        state_path.unlink(missing_ok=True)


if __name__ == "__main__":
    run(main)
