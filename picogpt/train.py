"""Train GPT-2 on text, from nothing or from a checkpoint: python -m picogpt.train."""

import json
from dataclasses import fields
from pathlib import Path
from zlib import crc32

import numpy as np

from picogpt.checkpoint.config import Config
from picogpt.model import Model, load, save
from picogpt.tokenizer.learn_merges import train_encoder
from picogpt.tokenizer.tokenizer_files import load_encoder, save_encoder
from picogpt.tools.cli import at_least, run
from picogpt.tools.cores import cores
from picogpt.tools.errors import DataError, UsageError
from picogpt.tools.files import read_json, write_text
from picogpt.training.data import encode_files, find_files
from picogpt.training.loop import Recipe, init_params, train

TOKENS = ("tokens.npy", "finish.npy", "valid.npy")  # of the files, kept in the folder
NEW_MODEL = {"n_layer": 6, "n_embd": 320, "n_head": 5, "n_ctx": 256}  # where no size is asked for


def main(
    *,
    data: str,
    out: Path,
    valid: str | None = None,
    finish_with: str | None = None,
    finish_share: float = 0.3,
    model_size: str | None = None,
    models_dir: str | None = None,
    top_k_layers: int | None = None,
    vocab_size: int = 4096,
    n_layer: int | None = None,
    n_embd: int | None = None,
    n_head: int | None = None,
    n_ctx: int | None = None,
    n_steps: int = 1000,
    batch_size: int = 16,
    accumulate: int = 1,
    learning_rate: float = 1e-3,
    warmup: int = 100,
    weight_decay: float = 0.1,
    max_norm: float = 1.0,
    dropout: float = 0.0,
    seed: int = 0,
    n_threads: int | None = None,
    by_line: bool = False,
    no_special_tokens: bool = False,
    half: bool = False,
):
    """Train a GPT-2 on text files and write a model folder that Hugging Face's transformers loads.

    From nothing, with a tokenizer learned from the same files, or from the model that model_size
    names. Stopped by Ctrl-C or killed, the same command goes on from its last checkpoint.

    Args:
        data: text files in UTF-8: a folder, a pattern, or several with commas between.
        out: the folder for the model, its checkpoints, log.jsonl and curve.svg.
        valid: files to watch the loss on, never trained on; without it the last 2 % of the data.
        finish_with: files to read in the last steps, as the learning rate nears 0.
        finish_share: how large a share of the steps the finish is.
        model_size: start from this model: 124M, 355M, 774M, 1558M, tiny, a folder or a hub id.
        models_dir: where models are kept.
        top_k_layers: train only so many layers, the top ones; needs model_size.
        vocab_size: tokens of a new tokenizer, 257 (bytes) or more.
        n_layer: blocks of a new model; without it 6.
        n_embd: the width of a new model; without it 320.
        n_head: attention heads of a new model, which divide the width; without it 5.
        n_ctx: tokens of a training window, and the context of a new model; without it 256, or all
            that model_size has.
        n_steps: steps of AdamW.
        batch_size: windows a step.
        accumulate: compute each thread's share of a batch in this many parts, to save memory.
        learning_rate: its peak; it falls along half a cosine to 0.
        warmup: steps until the peak is reached.
        weight_decay: AdamW's decay of matrices.
        max_norm: clip the gradients to this global norm.
        dropout: share of activations dropped in the trained layers.
        seed: the same number gives the same model again.
        n_threads: parts of a batch that are computed at the same time; without it, one a core.
        by_line: begin every window where a line begins: for texts of one example a line.
        no_special_tokens: read <|endoftext|> in the files as plain text; without this it is the
            token that ends a text, and what stands behind it another one.
        half: write the weights as float16.
    """
    flags = dict(locals())
    at_least(0, weight_decay=weight_decay, dropout=dropout, warmup=warmup, seed=seed)
    at_least(0, learning_rate=learning_rate, max_norm=max_norm)
    at_least(1, n_steps=n_steps, batch_size=batch_size, accumulate=accumulate, n_threads=n_threads)
    at_least(1, n_layer=n_layer, n_embd=n_embd, n_head=n_head, top_k_layers=top_k_layers)
    at_least(2, n_ctx=n_ctx)
    if top_k_layers and not model_size:
        raise UsageError("--top_k_layers trains a part of a model: name it with --model_size")
    if dropout >= 1 or not 0 < finish_share <= 1:
        raise UsageError("--dropout must be below 1, --finish_share above 0 and at most 1")
    valid_files = find_files(valid) if valid else []
    files = without(find_files(data), valid_files)
    finish_files = without(find_files(finish_with), valid_files) if finish_with else []
    model = load(model_size, models_dir) if model_size else None
    own = {name: getattr(model.config, name) for name in NEW_MODEL} if model else None
    sizes = sizes_for(flags, own)
    if top_k_layers and top_k_layers > sizes["n_layer"]:
        raise UsageError(f"{model.name} has only {sizes['n_layer']} layers")
    flags |= sizes | {"n_threads": n_threads or min(cores(), batch_size), "text in the files": 0}
    for file in (*files, *finish_files, *valid_files):
        flags["text in the files"] = crc32(file.read_bytes(), flags["text in the files"])
    goes_on = same_run(out, flags)
    if model is None:
        if not (goes_on and (out / "merges.txt").exists()):
            encoder = train_encoder(
                dict.fromkeys(files), vocab_size, special_tokens=not no_special_tokens
            )
            save_encoder(encoder, out)
        model = new_model(load_encoder(out), sizes, seed)
    flags["first_trained_block"] = sizes["n_layer"] - (top_k_layers or sizes["n_layer"])
    recipe = Recipe(**{field.name: flags[field.name] for field in fields(Recipe)})
    main_text, finish_text, valid_text = texts(
        model.encoder, files, finish_files, valid_files, out, by_line, sizes["n_ctx"],
        special_tokens=not no_special_tokens,
    )  # fmt: skip

    def text_at(step):
        return main_text if step < round(n_steps * (1 - finish_share)) else finish_text

    train(model, text_at, valid_text, out, recipe)
    save(model, out, np.float16 if half else np.float32)
    print(f"{out} holds the model; its loss over time is in {out / 'curve.svg'}")


def same_run(out, flags):
    """Whether the folder holds this very run already; if not, begin it: write the flags down.

    Raises UsageError where it holds the checkpoint of another one.
    """
    path = out / "run.json"
    flags = {name: str(value) for name, value in flags.items()}
    before = read_json(path) if path.exists() else {}
    changed = [name for name in flags if flags[name] != before.get(name)]
    if before and changed and (out / "checkpoint.safetensors").exists():
        said = f"{out} holds a run with another {', '.join(changed)}"
        raise UsageError(f"{said}: choose another --out, or delete it")
    if not changed:
        return True
    out.mkdir(parents=True, exist_ok=True)
    for stale in ("checkpoint.safetensors", "log.jsonl", *TOKENS):
        (out / stale).unlink(missing_ok=True)
    write_text(path, json.dumps(flags, indent=2) + "\n")
    return False


def sizes_for(flags, own=None):
    """The sizes asked for; where none is, NEW_MODEL's or, with a model to start from, its own.

    Raises UsageError where they contradict: windows may be shorter, nothing else can change.
    """
    sizes = {name: flags[name] or (own or NEW_MODEL)[name] for name in NEW_MODEL}
    for name, size in (own or {}).items():
        if sizes[name] > size or (sizes[name] < size and name != "n_ctx"):
            said = f"--{name} {sizes[name]} doesn't fit the model to start from"
            raise UsageError(f"{said}, whose is {size}")
    if sizes["n_embd"] % sizes["n_head"]:
        raise UsageError("--n_embd {n_embd} can't be split among --n_head {n_head}".format(**sizes))
    return sizes


def new_model(encoder, sizes, seed):
    """A model of random parameters for the tokenizer's vocabulary."""
    end = encoder.end_of_text
    config = Config(n_vocab=encoder.n_vocab, bos_token_id=end, eos_token_id=end, **sizes)
    return Model(init_params(config, np.random.default_rng(seed)), config, encoder)


def texts(encoder, files, finish_files, valid_files, out, by_line, n_ctx, special_tokens=True):
    """What is read first, in the finish, and for validation: (ids, where lines begin or None).

    Raises DataError, with the flag to change, for a text that is too short.
    """

    def encode(files, name):
        return encode_files(encoder, files, out / name, special_tokens)

    first, valid_name = encode(files, TOKENS[0]), "--valid"
    if valid_files:
        valid = encode(valid_files, TOKENS[2])
    else:
        first, valid = np.split(first, [len(first) * 49 // 50])
        valid_name = "the last 2 % of --data"
    finish = encode(finish_files, TOKENS[1]) if finish_files else first
    read, newline = [], encoder.encode("\n")[-1]
    for name, ids in (("--data", first), ("--finish_with", finish), (valid_name, valid)):
        n_needed = 2 if name == valid_name else 2 * n_ctx
        if len(ids) < n_needed:
            raise DataError(f"{name} gives too few tokens, {len(ids)}; {n_needed} are needed")
        lines = np.flatnonzero(ids == newline) + 1 if by_line else None
        if by_line and not (lines < len(ids) - n_ctx).any():
            raise DataError(f"{name}: no window fits behind the end of a line, as --by_line asks")
        read.append((ids, lines))
    return read


def without(files, others):
    """The files that are not among the others; raises DataError where none is left."""
    left = [file for file in files if file.resolve() not in {other.resolve() for other in others}]
    if not left:
        raise DataError("the validation files are all the data: nothing is left to train on")
    return left


if __name__ == "__main__":
    run(main)
