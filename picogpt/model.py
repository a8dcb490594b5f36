"""A model as the rest of the project holds it: parameters, config, tokenizer, generation config."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from picogpt import backprop, kernels
from picogpt.checkpoint.config import Config, load_config, save_config
from picogpt.checkpoint.generation_config import load_generation_config
from picogpt.checkpoint.hub import TINY_FOLDERS, resolve_model
from picogpt.checkpoint.weights import (
    check_saved_dtype,
    checkpoint_tree,
    into_memory,
    load_params,
    save_params,
)
from picogpt.quantization import dequantize, refuse_int8
from picogpt.tokenizer.encoder import Encoder
from picogpt.tokenizer.tokenizer_files import (
    ENCODER_FILES,
    OTHER_FILES,
    load_encoder,
    save_encoder,
)
from picogpt.tools.cores import deal_to_cores
from picogpt.tools.errors import TextError, UnsupportedTokenizerError, UsageError
from picogpt.tools.files import write_text, written_together
from picogpt.tools.tree import tree_leaves

# numbers in a pass's activations, or in an int8 matrix that it widens: for fewer, waking a thread
# takes longer
WORTH_DEALING = 2**17


class Model(NamedTuple):
    """What `load` gives: everything that a model folder holds."""

    params: dict
    config: Config
    encoder: Encoder | None  # None where the folder has no tokenizer like GPT-2's
    generation: dict = {}  # generation_config.json: how the model writes when nothing is asked for
    name: str = "this model"  # the size, the folder's name or the hub id
    folder: Path | None = None  # where it was loaded from

    def __repr__(self):
        """A line, not all the numbers: a notebook shows it."""
        config = self.config
        said = f"{self.n_params / 1e6:.1f} million parameters, {config.n_layer} blocks of"
        return f"<picogpt.Model {self.title}: {said} {config.n_embd}, {config.n_vocab} tokens>"

    @property
    def title(self):
        """What the printed tables call it: its name, and int8 where that is what it computes in."""
        return f"{self.name} in int8" if self.int8 else self.name

    @property
    def int8(self):
        """Whether the blocks' matrices are int8, as `load(name, int8=True)` makes them."""
        return any("s" in block["mlp"]["c_fc"] for block in self.params["blocks"][:1])

    @property
    def n_params(self):
        """How many parameters the model has; int8's scales are none."""
        return sum(math.prod(shape) for _, shape in tree_leaves(checkpoint_tree(self.config)))


def load(
    name: str | Path | None = None,
    models_dir: str | Path | None = None,
    *,
    needs_text: bool = False,
    int8: bool = False,
) -> Model:
    """Load a model: 124M, 355M, 774M, 1558M, tiny, a folder, or a hub id like owner/name.

    None is 124M where it can be had, else tiny; models are kept in models_dir, without it in
    weights/ of a checkout or in ~/.cache/picogpt. A model whose tokenizer is missing or no
    byte-level BPE like GPT-2's (proteins, music, letters) has encoder None, and takes and gives
    token ids; with needs_text it is refused, before its weights are fetched or read. With int8 the
    blocks' matrices take a quarter of the memory, and the model writes but can't be trained or
    saved: see quantization.py. Raises DownloadError where it can't be found or fetched,
    CheckpointError where its files can't be used, UsageError for what is no model's name.
    """
    folder = resolve_model(name, models_dir, load_encoder if needs_text else None)
    if name is None:
        name = "tiny" if folder in TINY_FOLDERS else "124M"
    config = load_config(folder)
    try:
        encoder = load_encoder(folder)
        encoder.fit_to(config.n_vocab)
    except UnsupportedTokenizerError:
        if needs_text:
            raise
        encoder = None
    params = load_params(folder, config, int8)
    # Linux's malloc gives large arrays back to the system, which clears every page it hands out
    # again, until it has seen 31 MB freed; then it keeps some: a prompt is read an eighth faster
    np.empty(31 * 2**20, np.uint8)
    config = replace(config, tie_word_embeddings="lm_head" not in params)
    generation = load_generation_config(folder, config)
    name = Path(name).resolve().name if Path(name).is_dir() else str(name)
    return Model(params, config, encoder, generation, name, folder)


def save(model: Model, folder: str | Path, dtype: type = np.float32) -> None:
    """Write a folder that `load`, GPT2LMHeadModel and GPT2TokenizerFast read; float16 halves it.

    Its files appear together, and take the place of another model's. Raises OutputError where they
    can't be written, FolderInUseError while another process writes to the folder, UsageError for a
    model in int8 and for a dtype or a folder that can't be, CheckpointError for a weight that the
    dtype can't hold.
    """
    refuse_int8(model.params, "saved", "a checkpoint would hold the rounded weights as if exact")
    check_saved_dtype(dtype)
    if folder == "":
        raise UsageError("folder must be a folder's name, not '', which would be the current one")
    folder = Path(os.path.expanduser(folder))  # noqa: PTH111 - pathlib's raises on an unknown ~user
    config = replace(model.config, tie_word_embeddings="lm_head" not in model.params)
    is_own = model.folder is not None and model.folder.resolve() == folder.resolve()
    if is_own:
        into_memory(model.params)  # Windows replaces no file that is mapped, as they may be
    outdated = list(OTHER_FILES)
    if model.encoder is None:  # its own tokenizer files stay, another model's don't
        outdated = [] if is_own else [*OTHER_FILES, *ENCODER_FILES]
    if not model.generation:
        outdated.append("generation_config.json")
    with written_together(folder, last="config.json", outdated=outdated) as made:
        save_params(model.params, config, made, dtype)
        save_config(config, made)
        if model.encoder:
            save_encoder(model.encoder, made)
        if model.generation:
            text = json.dumps(model.generation, indent=2) + "\n"
            write_text(made / "generation_config.json", text)


def encoder_of(model: Model) -> Encoder:
    """The model's tokenizer; where it has none, UnsupportedTokenizerError says why."""
    if model.encoder is None:
        if model.folder:
            load_encoder(model.folder)
        raise UnsupportedTokenizerError(f"{model.name} has no tokenizer: it takes token ids")
    return model.encoder


def new_caches(config: Config, n_sequences: int = 1) -> list:
    """Empty caches for `logits`, one for each sequence that is to be continued.

    A list `[n_sequences][n_layer]`, each with room for n_ctx keys and values of every head, in
    float32. `logits` writes to them.
    """
    d_head = config.n_embd // config.n_head
    return [
        kernels.new_cache(config.n_layer, config.n_head, config.n_ctx, d_head)
        for _ in range(n_sequences)
    ]


def check_ids(ids, config):
    """The ids as an int array `[n_tokens]`; TextError where one is not in the vocabulary."""
    said = "token ids must be a flat list of at least one whole number"
    try:
        ids = np.asarray(ids)
    except ValueError:  # lists of several lengths
        raise TextError(said) from None
    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
        raise TextError(said)
    if ids.min() < 0 or ids.max() >= config.n_vocab:
        wrong = ids[(ids < 0) | (ids >= config.n_vocab)][0]
        raise TextError(f"token ids must lie between 0 and {config.n_vocab - 1}, not be {wrong}")
    return ids


def logits(
    model: Model,
    ids: list[int] | np.ndarray,
    lengths: list[int] | None = None,
    caches: list | None = None,
    last_only: bool = False,
) -> np.ndarray:
    """Logits for what follows each token: ids `[n_tokens]` -> `[n_tokens, n_vocab]` float32.

    softmax makes probabilities of them. `lengths` cuts ids into sequences, laid end to end;
    `caches` (from new_caches) continue them, and are written to. last_only gives the last row of
    each sequence: `[n_sequences, n_vocab]`. Raises TextError for ids outside the vocabulary,
    ValueError for lengths that don't add up, more or fewer caches than sequences, or a sequence
    longer than n_ctx.
    """
    ids = check_ids(ids, model.config)
    n_embd = model.config.n_embd
    worth = max(len(ids), n_embd * model.int8) * n_embd >= WORTH_DEALING
    deal = deal_to_cores if worth else kernels.in_turn
    return kernels.gpt2(
        ids, **model.params, **model.config.kernel_options, lengths=lengths, caches=caches,
        last_only=last_only, deal=deal,
    )  # fmt: skip


def loss_and_gradients(
    model: Model,
    ids: list[int] | np.ndarray,
    targets: list[int] | np.ndarray,
    lengths: list[int] | None = None,
    first_trained_block: int = 0,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
) -> tuple[float, dict]:
    """Mean cross-entropy in nats and its gradient for every trained parameter.

    ids and targets are `[n_tokens]`: targets[j] is the id that should follow ids[j], -100 where
    nothing is scored; the mean is over the scored ones, and 0 where there is none. The gradients
    come as a tree like the parameters; with first_trained_block k > 0 the embeddings, a head tied
    to them and the blocks below k are frozen: {} stands in their places. Dropout, in trained
    blocks and after embeddings that train, is a probability, 0 or more and below 1, and needs rng.
    Raises TextError for ids or targets outside the vocabulary, UsageError for a model in int8,
    ValueError for targets of another shape, lengths that don't add up, a sequence longer than
    n_ctx, and a first_trained_block or dropout that can't be.
    """
    refuse_int8(model.params)
    ids = check_ids(ids, model.config)
    targets = np.asarray(targets)
    n_layer = model.config.n_layer
    if targets.shape != ids.shape:
        raise ValueError(f"targets of shape {targets.shape} don't fit {len(ids)} ids: one for each")
    check_ids(np.where(targets == backprop.NOT_SCORED, 0, targets), model.config)
    is_whole = isinstance(first_trained_block, int | np.integer)
    if not is_whole or not 0 <= first_trained_block <= n_layer:
        raise ValueError(f"first_trained_block is {first_trained_block}, it must be 0 to {n_layer}")
    if not 0 <= dropout < 1 or (dropout and rng is None):
        raise ValueError(f"dropout is {dropout}: it must be 0 or more, below 1, and needs an rng")
    return backprop.loss_and_gradients(
        model.params, ids, targets, model.config, lengths=lengths,
        first_trained_block=first_trained_block, dropout=dropout, rng=rng,
    )  # fmt: skip


def trace(
    model: Model,
    ids: list[int] | np.ndarray,
    edit: Callable[[str, np.ndarray], np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Every intermediate of one forward pass, {name: array}, from the functions that training uses.

    ids are one sequence, `[n_tokens]`. The names are wte, wpe; for each block what
    `gradients.block_forward` calls x, q, ... as blocks.0.x, blocks.0.q, ...; ln_f and logits. With
    `edit(name, array) -> array` every value can be changed on its way; it is a copy, so that
    writing into it is safe. Raises TextError for ids outside the vocabulary, ValueError for more
    ids than n_ctx, for an edit that gives back None or an array of another shape, and for one that
    compares `name` with what is no name here (a typo).
    """
    params = model.params
    config = model.config
    activations = {}
    compared = {}  # the names that edit looks for
    ids = check_ids(ids, config)
    if len(ids) > config.n_ctx:
        raise ValueError(f"{len(ids)} tokens are more than the model's {config.n_ctx}")

    def hook(name, array):
        if name.endswith("_dropped"):  # dropout's masks: there is none here
            return array
        if edit is not None:
            array = edited(array, edit(ComparedName(name, compared), array.copy()), name)
        activations[name] = array
        return array

    x = backprop.stack_forward(params, ids, config, hook)  # [n_tokens] -> [n_tokens, n_embd]
    x = hook("ln_f", kernels.layer_norm(x, **params["ln_f"], eps=config.layer_norm_epsilon))
    hook("logits", x @ output_matrix(params).T)  # [n_tokens, n_embd] -> [n_tokens, n_vocab]
    if never := [name for name in compared if name not in activations]:
        names = "wte, wpe, blocks.0.x and so on, ln_f, logits"
        raise ValueError(f"edit looks for {', '.join(never)}, which never comes: there are {names}")
    return activations


class ComparedName(str):
    """A name that notes with which other names it is compared, so that a slip in one shows."""

    def __new__(cls, name, compared):
        self = super().__new__(cls, name)
        self.compared = compared
        return self

    def __eq__(self, other):
        if isinstance(other, str):
            self.compared[str(other)] = None
        return str(self) == other

    __hash__ = str.__hash__


def edited(array, new, name):
    """What an edit made of an array, in its dtype; ValueError for what can't take its place."""
    if new is None:
        raise ValueError(f"edit made nothing of {name}: it must return the array")
    shape, array = array.shape, np.asarray(new, array.dtype)
    if array.shape != shape:
        raise ValueError(f"edit made {list(array.shape)} of {name}, which is {list(shape)}")
    return array


def output_matrix(params):
    """What turns activations into logits `[n_vocab, n_embd]`: lm_head, or wte where it is tied."""
    head = params.get("lm_head", params["wte"])
    return dequantize(head["w"], head["s"]).T if isinstance(head, dict) else head
