"""Train GPT-2 on text, from nothing or from a checkpoint: python -m picogpt.train."""

from dataclasses import fields
from pathlib import Path

import numpy as np

from picogpt.bpe_training import train_encoder
from picogpt.cli import at_least, run
from picogpt.config import Config
from picogpt.corpus import encode_files, find_files
from picogpt.download import resolve_model
from picogpt.encoder import load_encoder, save_encoder
from picogpt.errors import DataError, UsageError
from picogpt.model import Model, load, save
from picogpt.parallel import cores
from picogpt.training import Recipe, init_params, train


def main(
    *,
    data: str,
    out: Path,
    valid: str | None = None,
    finish_with: str | None = None,
    finish_share: float = 0.3,
    window: int | None = None,
    model_size: str | None = None,
    models_dir: str | None = None,
    top_k_layers: int | None = None,
    vocab_size: int = 4096,
    n_layer: int = 6,
    n_embd: int = 320,
    n_head: int = 5,
    n_ctx: int = 256,
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
    half: bool = False,
):
    """Train a GPT-2 on text files and write a model folder that Hugging Face's transformers loads.

    From nothing, with a tokenizer learned from the same files, or from the model that model_size
    names. Stopped by Ctrl-C or killed, the same command goes on from its last checkpoint.

    Args:
        data: text files in UTF-8: a folder, a pattern, or several with commas between.
        out: the folder for the model, its checkpoints, log.jsonl and curve.svg.
        valid: files to watch the loss on, never trained on; without it the last 2 % of the data.
        finish_with: files to read in the last steps, as the learning rate falls.
        finish_share: how large a share of the steps the finish is.
        window: until the finish, let tokens see only so far back, which is faster; else n_ctx.
        model_size: start from this model: 124M, 355M, 774M, 1558M, tiny, a folder or a hub id.
        models_dir: where models are kept.
        top_k_layers: train the top layers only; needs model_size.
        vocab_size: tokens of the new tokenizer, 257 (bytes) or more.
        n_layer: blocks of the new model.
        n_embd: its width.
        n_head: its attention heads, which divide the width.
        n_ctx: its context in tokens, and the length of a training window.
        n_steps: steps of AdamW.
        batch_size: windows a step.
        accumulate: compute each batch in this many parts, to save memory.
        learning_rate: its peak; it falls along half a cosine to 0.
        warmup: steps until the peak is reached.
        weight_decay: AdamW's decay of matrices.
        max_norm: clip the gradients to this global norm.
        dropout: share of activations dropped in the trained layers.
        seed: the same number gives the same model again.
        n_threads: parts of a batch that are computed at the same time; without it, one a core.
        by_line: begin every window where a line begins: for texts of one example a line.
        half: write the weights as float16.
    """
    asked = dict(locals())  # the flags
    at_least(0, weight_decay=weight_decay, dropout=dropout, warmup=warmup, seed=seed)
    at_least(1, n_steps=n_steps, batch_size=batch_size, accumulate=accumulate, n_threads=n_threads)
    at_least(1, n_layer=n_layer, n_embd=n_embd, n_head=n_head, top_k_layers=top_k_layers)
    at_least(2, n_ctx=n_ctx, window=window)
    if n_embd % n_head:
        raise UsageError(f"--n_embd {n_embd} can't be split among --n_head {n_head} heads")
    if top_k_layers and not model_size:
        raise UsageError("--top_k_layers trains a part of a model: name it with --model_size")
    if dropout >= 1 or not 0 < finish_share <= 1:
        raise UsageError("--dropout must be below 1, --finish_share above 0 and at most 1")
    valid_files = find_files(valid) if valid else []
    files = without(find_files(data), valid_files)
    finish_files = without(find_files(finish_with), valid_files) if finish_with else []
    out.mkdir(parents=True, exist_ok=True)
    if model_size:
        model = load(resolve_model(model_size, models_dir))
    else:
        if not (out / "merges.txt").exists():
            save_encoder(train_encoder(dict.fromkeys(files), vocab_size), out)
        encoder = load_encoder(out)
        end = encoder.end_of_text
        config = Config(
            n_vocab=encoder.n_vocab, n_ctx=n_ctx, n_embd=n_embd, n_head=n_head, n_layer=n_layer,
            bos_token_id=end, eos_token_id=end,
        )  # fmt: skip
        model = Model(init_params(config, np.random.default_rng(seed)), config, encoder)
    tokens = encode_files(model.encoder, files, out / "tokens.npy")
    if valid_files:
        valid_tokens = encode_files(model.encoder, valid_files, out / "valid.npy")
    else:
        tokens, valid_tokens = np.split(tokens, [len(tokens) * 49 // 50])
    finish = tokens
    if finish_files:
        finish = encode_files(model.encoder, finish_files, out / "finish.npy")
    finish_step = round(n_steps * (1 - finish_share))
    first = model.config.n_layer - top_k_layers if top_k_layers else 0
    flags = {field.name: asked[field.name] for field in fields(Recipe) if field.name in asked}
    recipe = Recipe(**flags | {
        "n_threads": n_threads or min(cores(), batch_size), "first_trained_block": max(first, 0),
        "window": window or model.config.n_ctx, "finish_step": finish_step,
    })  # fmt: skip
    asked = {name: str(value) for name, value in asked.items()} | {"n_threads": recipe.n_threads}

    newline = model.encoder.encode("\n")[-1] if by_line else None
    main_text, finish_text, valid_text = (
        (ids, None if newline is None else np.flatnonzero(ids == newline) + 1)
        for ids in (tokens, finish, valid_tokens)
    )

    def text_at(step):
        return finish_text if step >= finish_step else main_text

    model = train(model, text_at, valid_text, out, recipe, asked)
    save(model, out, np.float16 if half else np.float32)
    print(f"{out} holds the model; its loss over time is in {out / 'curve.svg'}")


def without(files, others):
    """The files that are not among the others; raises DataError where none is left."""
    left = [file for file in files if file.resolve() not in {other.resolve() for other in others}]
    if not left:
        raise DataError("the validation files are all the data: nothing is left to train on")
    return left


if __name__ == "__main__":
    run(main)
