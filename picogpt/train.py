"""Train GPT-2 on text, from nothing or from a checkpoint: python -m picogpt.train."""

import re
import sys
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np

from picogpt.checkpoint.config import Config
from picogpt.checkpoint.weights import into_memory
from picogpt.model import Model, load
from picogpt.tokenizer.learn_merges import train_encoder
from picogpt.tokenizer.tokenizer_files import load_encoder, save_encoder
from picogpt.tools.cli import at_least, run
from picogpt.tools.cores import cores
from picogpt.tools.errors import CheckpointError, DataError, UsageError
from picogpt.tools.files import locked
from picogpt.training.data import (
    document_starts,
    encode_files,
    find_files,
    line_starts,
    split_names,
)
from picogpt.training.loop import Recipe, init_params, train
from picogpt.training.run_folder import (
    begin_or_go_on,
    flags_before,
    is_own_file,
    steps_when_finished,
)
from picogpt.training.windows import Text

TOKENS = "tokens.npy"
WARMUP = 100  # steps, where there are a thousand or more
NEW_MODEL = {"n_layer": 6, "n_embd": 320, "n_head": 5, "n_ctx": 256}  # where no size is asked for


def main(
    *,
    data: str,
    out: Path,
    valid: str | None = None,
    shares: str | None = None,
    finish_with: str | None = None,
    finish_share: float = 0.3,
    model_size: str | None = None,
    models_dir: str | None = None,
    top_k_layers: int | None = None,
    vocab_size: int = 4096,
    vocab_from: str | None = None,
    n_layer: int | None = None,
    n_embd: int | None = None,
    n_head: int | None = None,
    n_ctx: int | None = None,
    n_steps: int = 1000,
    batch_size: int = 16,
    accumulate: int = 1,
    optimizer: Literal["adamw", "muon"] = "adamw",
    learning_rate: float = 1e-3,
    muon_rate: float = 1e-2,
    beta2: float = 0.99,
    warmup: int | None = None,
    decay_share: float | None = None,
    weight_decay: float = 0.1,
    max_norm: float = 1.0,
    dropout: float = 0.0,
    seed: int = 0,
    n_threads: int | None = None,
    by_line: bool = False,
    by_document: bool = False,
    no_special_tokens: bool = False,
    half: bool = False,
):
    """Train a GPT-2 on text files and write a model folder that Hugging Face's transformers loads.

    From nothing, with a tokenizer learned from the same files, or from the model that model_size
    names. Stopped by Ctrl-C or killed, the same command goes on from its last checkpoint, also with
    another n_steps: one that is reached already ends the run as it stands. All the while the folder
    holds the best model so far, by its loss on the validation text.

    Args:
        data: text files in UTF-8: a folder, a pattern, or several with commas between.
        out: the folder for the model, its checkpoints, log.jsonl and curve.svg.
        valid: files to watch the loss on, never trained on; without it the last 2 % of the data.
        shares: how many windows in turn come from each of data's parts, like 5,2,1 for three of
            them: a small collection can be read more often than a large one. Needs valid.
        finish_with: files to read in the last steps, as the learning rate nears 0.
        finish_share: how large a share of the steps the finish is.
        model_size: start from this model: 124M, 355M, 774M, 1558M, tiny, a folder or a hub id.
        models_dir: where models are kept.
        top_k_layers: train only so many layers, the top ones; needs model_size.
        vocab_size: tokens of a new tokenizer, 257 (bytes) or more.
        vocab_from: files that a new tokenizer is learned from; without it, those of data.
        n_layer: blocks of a new model; without it 6.
        n_embd: the width of a new model; without it 320.
        n_head: attention heads of a new model, which divide the width; without it 5.
        n_ctx: tokens of a training window, and the context of a new model; without it 256, or all
            that model_size has.
        n_steps: steps of the optimizer; the learning rate follows this length.
        batch_size: windows a step.
        accumulate: compute each thread's share of a batch in this many parts, to save memory.
        optimizer: adamw, or muon for the matrices of the blocks beside AdamW for the rest: a step
            costs more and learns more, so that a small model from nothing learns more in a minute.
        learning_rate: AdamW's peak; it falls along half a cosine to 0.
        muon_rate: Muon's peak.
        beta2: AdamW's memory of the gradients' size, 0 to 1; nearer to 1 with small batches, so
            that it reaches over as many tokens: 0.99 for 16 windows is 0.9975 for 4.
        warmup: steps until the peak is reached; without it 100, a tenth of n_steps at most.
        decay_share: stay at the peak, and fall in a line to 0 in this last share of the steps.
        weight_decay: the optimizer's decay of matrices.
        max_norm: clip the gradients to this global norm.
        dropout: share of activations dropped in the trained layers.
        seed: the same number gives the same model again.
        n_threads: parts of a batch that are computed at the same time; without it, one a core.
        by_line: begin every window where a line begins: for texts of one example a line.
        by_document: begin windows where a text does, at an <|endoftext|>, if one comes within them:
            for short texts, such as stories, so that they are read with what they began with.
        no_special_tokens: read <|endoftext|> in the files as plain text; without this it is the
            token that ends a text, and what stands behind it another one.
        half: write the weights as float16.
    """
    flags = dict(locals())
    check_flags(flags)
    model = load(model_size, models_dir, needs_text=True) if model_size is not None else None
    if by_document and model is not None and model.encoder.end_of_text is None:
        said = f"--by_document looks for <|endoftext|>, and {model.name} has no such token"
        raise UsageError(f"{said}: leave it out")
    sizes = sizes_for(flags, model)
    files = find_all(flags)
    flags |= sizes | {"n_threads": n_threads or threads_before(out, batch_size)}
    flags["text in the files"] = files.checksum()
    with locked(out):
        goes_on = begin_or_go_on(out, flags, model and model.folder)
        done = steps_when_finished(out)
        if done is not None:
            model = load(out, needs_text=True)  # the best of those steps
        if done is not None and done >= n_steps:
            print(f"{out} holds the model of {done} steps: it is finished")
        else:
            train_in_folder(out, flags, files, model, goes_on)
            print(f"{out} holds the model; its loss over time is in {out / 'curve.svg'}")


def check_flags(flags):
    """Raise UsageError for flags with values, or in a company, that can't be."""
    whole = ["n_steps", "batch_size", "accumulate", "n_threads"]
    whole += ["n_layer", "n_embd", "n_head", "top_k_layers"]
    at_least(1, **{name: flags[name] for name in whole})
    at_least(2, n_ctx=flags["n_ctx"])
    others = ["weight_decay", "dropout", "warmup", "seed", "learning_rate", "max_norm"]
    at_least(0, **{name: flags[name] for name in (*others, "muon_rate", "beta2")})
    if flags["top_k_layers"] and flags["model_size"] is None:
        raise UsageError("--top_k_layers trains a part of a model: name it with --model_size")
    if flags["vocab_from"] is not None and flags["model_size"] is not None:
        said = "--vocab_from is for a new tokenizer, and --model_size brings its own"
        raise UsageError(f"{said}: leave one of them out")
    if flags["by_line"] and flags["by_document"]:
        raise UsageError("windows begin --by_line or --by_document: leave one of them out")
    if flags["by_document"] and flags["no_special_tokens"]:
        said = "--by_document looks for <|endoftext|>, which --no_special_tokens makes plain text"
        raise UsageError(f"{said}: leave one of them out")
    if flags["dropout"] >= 1 or not 0 < flags["finish_share"] <= 1:
        raise UsageError("--dropout must be below 1, --finish_share above 0 and at most 1")
    if flags["beta2"] >= 1 or not (flags["decay_share"] is None or 0 < flags["decay_share"] <= 1):
        raise UsageError("--beta2 must be below 1, --decay_share above 0 and at most 1")


class Files(NamedTuple):
    """The text files of a run."""

    parts: list  # of --data, a list of files each; without --shares all of it is one part
    shares: list  # of the parts
    finish: list
    valid: list
    vocab: list  # what the tokenizer is learned from, if not the parts

    def all_parts(self):
        """The files of --data."""
        return [file for part in self.parts for file in part]

    def checksum(self):
        """A CRC-32 of all the files' bytes: another text makes another run.

        Raises DataError for a file that can't be read.
        """
        crc = 0
        for path in (*self.all_parts(), *self.finish, *self.valid, *self.vocab):
            try:
                with path.open("rb") as file:
                    while block := file.read(2**20):  # a file may be larger than the memory
                        crc = crc32(block, crc)
            except OSError as error:
                raise DataError(f"{path} can't be read: {error}") from error
        return crc


def find_all(flags):
    """The Files that the flags name.

    Raises DataError where a flag names none, UsageError for --shares that don't fit.
    """
    out = flags["out"]
    data = flags["data"]
    valid = flags["valid"]
    shares = parse_shares(flags["shares"], data, valid)
    valid_files = [] if valid is None else find_texts(valid, out)

    def find(flag, patterns):
        if patterns is None:
            return []
        return without(find_texts(patterns, out), valid_files, flag)

    parts = [find("data", part) for part in (split_names(data) if flags["shares"] else [data])]
    finish, vocab = (find(flag, flags[flag]) for flag in ("finish_with", "vocab_from"))
    return Files(parts, shares, finish, valid_files, vocab)


def train_in_folder(out, flags, files, model, goes_on):
    """Train in a folder that is this run's: a new tokenizer and model, where there is none."""
    special_tokens = not flags["no_special_tokens"]
    sizes = {name: flags[name] for name in NEW_MODEL}
    if model is None:
        if not (goes_on and (out / "merges.txt").exists()):
            learn_from = dict.fromkeys(files.vocab or files.all_parts())
            encoder = train_encoder(learn_from, flags["vocab_size"], special_tokens=special_tokens)
            save_encoder(encoder, out)
        model = new_model(load_encoder(out), sizes, flags["seed"])
    into_memory(model.params)  # they may be mapped from the file that is replaced later
    recipe = {field.name: flags[field.name] for field in fields(Recipe) if field.name in flags}
    recipe["first_trained_block"] = sizes["n_layer"] - (flags["top_k_layers"] or sizes["n_layer"])
    recipe["warmup"] = warmup_steps(flags["warmup"], flags["n_steps"])

    def encoded(files, name):
        return encode_files(model.encoder, files, out / name, special_tokens)

    names = [TOKENS]
    if flags["shares"]:
        names = [f"tokens-{i}.npy" for i in range(len(files.parts))]
    first = [encoded(part, name) for part, name in zip(files.parts, names)]
    finish = encoded(files.finish, "finish.npy") if files.finish else None
    valid_ids = encoded(files.valid, "valid.npy") if files.valid else None
    find_lines = partial(line_starts, model.encoder) if flags["by_line"] else None
    find_documents = partial(document_starts, model.encoder) if flags["by_document"] else None
    main_texts, finish_texts, valid_text = texts(
        first, files.shares, finish, valid_ids, sizes["n_ctx"], find_lines, find_documents
    )
    n_first = round(flags["n_steps"] * (1 - flags["finish_share"]))

    def texts_at(step):
        return main_texts if step < n_first else finish_texts

    dtype = np.float16 if flags["half"] else np.float32
    train(model, texts_at, valid_text, out, Recipe(**recipe), dtype)


def find_texts(patterns, out):
    """The text files that are asked for, less those that training itself wrote.

    Raises DataError where there is none.
    """
    files = [file for file in find_files(patterns) if not is_own_file(file, out)]
    if not files:
        raise DataError(f'"{patterns}" holds no text but what training wrote')
    return files


def threads_before(out, batch_size):
    """How many parts a batch has: those of the run that may go on, else one for each core."""
    with suppress(CheckpointError):  # begin_or_go_on tells of it
        flags = flags_before(out)
        if flags and 0 < int(flags["n_threads"]) <= batch_size:
            return int(flags["n_threads"])
    return min(cores(), batch_size)


def warmup_steps(asked, n_steps):
    """The steps of warm-up: WARMUP, but a tenth of all at most, unless it is asked for."""
    if asked is not None:
        if asked >= n_steps:
            said = f"--warmup {asked} doesn't end before --n_steps {n_steps}"
            print(f"{said}: the learning rate never reaches its peak", file=sys.stderr)
        return asked
    if n_steps < 10 * WARMUP:
        said = f"warm-up in {n_steps // 10} steps, a tenth of all (--warmup sets another number)"
        print(said, file=sys.stderr)
    return min(WARMUP, n_steps // 10)


def parse_shares(shares, data, valid):
    """The whole numbers that --shares gives --data's parts; [1] without it: all files as one.

    Raises UsageError where they are no such numbers.
    """
    if shares is None:
        return [1]
    n_parts = len(split_names(data))
    words = shares.split(",")
    if len(words) != n_parts or not all(re.fullmatch("[1-9][0-9]{0,2}", word) for word in words):
        said = "--shares must be a whole number from 1 to 999 for each part of --data"
        raise UsageError(f"{said}, with commas between: {n_parts} in all")
    if valid is None:
        raise UsageError("--shares needs --valid: files to watch the loss on")
    return [int(word) for word in words]


def sizes_for(flags, model=None):
    """The sizes asked for; where none is, NEW_MODEL's or, with a model to start from, its own.

    Raises UsageError where they contradict: windows may be shorter, nothing else can change.
    """
    own = {name: getattr(model.config, name) for name in NEW_MODEL} if model else {}
    sizes = {name: flags[name] or (own or NEW_MODEL)[name] for name in NEW_MODEL}
    for name, size in own.items():
        if sizes[name] > size or (sizes[name] < size and name != "n_ctx"):
            said = f"--{name} {sizes[name]} doesn't fit the model to start from"
            raise UsageError(f"{said}, whose is {size}")
    if sizes["n_embd"] % sizes["n_head"]:
        raise UsageError("--n_embd {n_embd} can't be split among --n_head {n_head}".format(**sizes))
    if model and (flags["top_k_layers"] or 0) > sizes["n_layer"]:
        raise UsageError(f"{model.name} has only {sizes['n_layer']} layers")
    return sizes


def new_model(encoder, sizes, seed):
    """A model of random parameters for the tokenizer's vocabulary."""
    end = encoder.end_of_text
    config = Config(n_vocab=encoder.n_vocab, bos_token_id=end, eos_token_id=end, **sizes)
    return Model(init_params(config, np.random.default_rng(seed)), config, encoder)


def texts(first, shares, finish, valid, n_ctx, find_lines, find_documents):
    """The Texts that windows are cut from: those of most steps, those of the finish, validation's.

    The first two are lists. `first` is a list of ids `[n_tokens]`, one for each of the shares.
    `finish` and `valid` are ids or None. Without finish the last steps go on with the first;
    without valid the last 2 % of the first are kept for validation. Windows begin where
    find_lines(ids) says that lines begin, or, if one is near, where find_documents(ids) says that a
    document does; without either, anywhere. Raises DataError, with the flag to change, for a text
    that is too short.
    """

    def text(name, ids, n_needed, share=1):
        if len(ids) < n_needed:
            raise DataError(f"{name} gives too few tokens, {len(ids)}; {n_needed} are needed")
        lines = None if find_lines is None else find_lines(ids)
        if lines is not None and not (lines < len(ids) - n_ctx).any():
            raise DataError(f"{name}: no window fits behind the end of a line, as --by_line asks")
        documents = None if find_documents is None else find_documents(ids)
        return Text(ids, lines, share, documents)

    valid_name = "--valid"
    if valid is None:
        ids, valid = np.split(first[0], [len(first[0]) * 49 // 50])
        first = [ids]  # without --valid there are no shares: all of --data is one text
        valid_name = "the last 2 % of --data"
    read = [text("--data", ids, 2 * n_ctx, share) for ids, share in zip(first, shares)]
    end = read if finish is None else [text("--finish_with", finish, 2 * n_ctx)]
    return read, end, text(valid_name, valid, 2)


def without(files, valid_files, flag):
    """The files of a flag that are not for validation; raises DataError where none is left."""
    kept_apart = {file.resolve() for file in valid_files}
    left = [file for file in files if file.resolve() not in kept_apart]
    if not left:
        said = f"--{flag} names no files but those of --valid, which are never trained on"
        raise DataError(f"{said}: nothing is left")
    return left


if __name__ == "__main__":
    run(main)
