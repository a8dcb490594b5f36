"""Teach a model Shakespeare's sonnets and let it finish some: python -m picogpt.sonnet."""

import math
from pathlib import Path

import numpy as np

from picogpt.backprop import loss_and_gradients
from picogpt.checkpoint.hub import is_complete
from picogpt.generation import check_sampling, generate_batch, prompt_ids
from picogpt.model import load, save
from picogpt.tasks.course_files import (
    SONNET_FILES,
    find_data,
    load_sonnets,
    read_sonnets,
    write_sonnets,
)
from picogpt.tasks.features import features, fingerprint
from picogpt.tasks.metrics import chrf, perplexity_of, text_loss
from picogpt.tasks.regression import hold_back
from picogpt.tools.cli import at_least, run
from picogpt.tools.errors import UsageError
from picogpt.training.fit import best_of, fit, print_figures

N_LINES = 14
N_TOKENS = 300  # of a sonnet at most, in GPT-2's tokens or in tiny's


def perplexity(model, poems):
    """Per token, over all poems, each after <|endoftext|>."""
    losses, counts = zip(*(text_loss(model, [poem]) for poem in poems))
    return perplexity_of(sum(losses), sum(counts))


def train_sonnets(model, poems, *, first=0, report=None, seed=0, dropout=0.1, **fit_options):
    """Train, in place, the blocks from `first` on (0: everything) to predict poems: fit's history.

    Each stands between two <|endoftext|>, so that the model learns where to stop.
    """
    end = prompt_ids(model, "")
    texts = [end + model.encoder.encode(poem) + end for poem in poems]
    inputs = [ids[:-1][: model.config.n_ctx] for ids in texts]
    targets = [ids[1:][: model.config.n_ctx] for ids in texts]
    hidden = features(model, inputs, first, "tokens") if first else None
    params, config = model.params, model.config
    trained = {"blocks": params["blocks"][first:], "ln_f": params["ln_f"]}
    if first == 0:
        trained = params

    def gradients(part, batch, rng):
        loss, grads = loss_and_gradients(
            params, np.concatenate([inputs[i] for i in part]),
            np.concatenate([targets[i] for i in part]), config,
            lengths=[len(inputs[i]) for i in part],
            hidden=np.concatenate([hidden[i] for i in part]) if first else None,
            n_scored=sum(len(inputs[i]) for i in batch), first_trained_block=first,
            dropout=dropout, rng=rng,
        )  # fmt: skip
        grads["blocks"] = grads["blocks"][first:]
        return loss, {name: grads[name] for name in trained}

    return fit(trained, gradients, len(poems), report=report, seed=seed, **fit_options)


def write_on(model, opening, candidates, temperature, top_p, rng):
    """A sonnet that begins with `opening`: of the candidates the likeliest with fourteen lines."""
    n_tokens = max(0, min(N_TOKENS, model.config.n_ctx) - len(prompt_ids(model, opening)))
    texts = generate_batch(
        model, [opening] * candidates, n_tokens, temperature=temperature, top_k=0, top_p=top_p,
        seed=rng,
    )  # fmt: skip
    poems = ["\n".join((opening + text).rstrip().split("\n")[:N_LINES]) for text in texts]

    def rank(poem):
        loss, n = text_loss(model, [poem])
        return abs(poem.count("\n") + 1 - N_LINES), loss / n if n else math.inf

    return min(poems, key=rank) if candidates > 1 else poems[0]


def print_scores(poems, openings, truths, lines, rng):
    """Print chrF of the whole poems and of what follows the openings, beside that of no skill."""

    def rest(poem, opening):
        return "\n".join(poem.split("\n")[opening.count("\n") + 1 :])

    def score(poems):
        alone = [rest(poem, opening) for poem, opening in zip(poems, openings)]
        return chrf(poems, truths), chrf(alone, endings)

    endings = [rest(truth, opening) for truth, opening in zip(truths, openings)]
    draws = []
    for _ in range(20):
        ends = [rng.choice(lines, ending.count("\n") + 1) for ending in endings]
        draws.append(score(["\n".join([o, *end]) for o, end in zip(openings, ends)]))
    rows = {"openings alone": score(openings), "and random lines": np.mean(draws, axis=0)}
    print(f"\n{f'chrF of {len(poems)} poems':20}  whole  without openings")
    for name, (whole, alone) in (rows | {"and the model's": score(poems)}).items():
        print(f"{name:20}  {whole:5.1f}  {alone:5.1f}")


def train(model, poems, place, top_k_layers, seed, options):
    """Train on nine tenths of the poems as long as it helps the last tenth, and save the model."""
    held = hold_back(len(poems), seed)
    kept = [poem for poem, out in zip(poems, held) if out]
    rest = [poem for poem, out in zip(poems, held) if not out]
    before = perplexity(model, kept)
    print(f"perplexity of {len(kept)} held-back poems before training: {before:.1f}")

    def report(figures):
        figures["perplexity"] = perplexity(model, kept)
        figures["score"] = -figures["perplexity"]
        opening = "\n".join(kept[0].split("\n")[:3]) + "\n"
        sample = write_on(model, opening, 1, 1.0, 0.9, np.random.default_rng(seed))
        print_figures(figures)
        print(f"\n{sample}\n")

    first = model.config.n_layer - (top_k_layers or model.config.n_layer)
    run_id = fingerprint(repr((first, seed, options, poems)).encode(), model.params)
    state_path = place / f"unfinished-{run_id[:12]}.safetensors"
    place.mkdir(parents=True, exist_ok=True)
    history = train_sonnets(
        model, rest, first=first, seed=seed, report=report, state_path=state_path, **options
    )
    epoch, after = (best_of(history)[name] for name in ("epoch", "perplexity"))
    print(f"epoch {epoch} is taken: perplexity {after:.1f}, {1 - after / before:.0%} lower")
    save(model, place)
    state_path.unlink(missing_ok=True)


def finish(model, poems, out, sampling, rng):
    """Write on from the course's openings, into the course's files, and print how good it is."""
    from tqdm import tqdm

    dev, test = (
        [write_on(model, poem + "\n", *sampling, rng) for poem in tqdm(poems[split], disable=None)]
        for split in ("openings", "test")
    )
    write_sonnets(out / "generated_sonnets_dev.txt", dev)
    if test:
        write_sonnets(out / "generated_sonnets.txt", test)
    lines = "\n".join(poems["train"]).split("\n")
    print_scores(dev, poems["openings"], poems["truth"], lines, rng)


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
        write: write a sonnet that begins so, by the model trained before; nothing else is done.
        top_k_layers: how many layers to train; without it all.
        epochs: how often the poems are seen at most; two that don't help are the last.
        batch_size: how many poems make a step.
        lr: the learning rate.
        temperature: below 1 is careful, above 1 is daring.
        top_p: draw from the likeliest tokens that reach this probability together.
        candidates: how many endings are drawn for each opening; the best is taken.
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
    place, rng = out / "sonnet-model", np.random.default_rng(seed)
    sampling = (candidates, temperature, top_p)
    trained = write is not None and is_complete(place)
    if trained and model_size:
        raise UsageError(f"--write uses {place}, trained before: leave --model_size out")
    if not trained:
        model = load(model_size, models_dir)
        if top_k_layers and top_k_layers > model.config.n_layer:
            raise UsageError(f"{model.name} has only {model.config.n_layer} layers")
        data = find_data(SONNET_FILES.values(), data)
        print(f"sonnets by {model.name}, seed {seed}, data in {data}")
        if lr is None:
            lr = 3e-4 if model.config.n_embd < 768 else 3e-5
        options = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "patience": 2}
        train_file = data / SONNET_FILES["train"]
        poems = load_sonnets(data) if write is None else {"train": read_sonnets(train_file)}
        train(model, poems["train"], place, top_k_layers, seed, options)
    model = load(place)
    if write is not None:
        print(write_on(model, write, *sampling, rng))
        return
    finish(model, poems, out, sampling, rng)
    print(f"\n{out} holds the sonnets and, in {place.name}, the model")


if __name__ == "__main__":
    run(main)
