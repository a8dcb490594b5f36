"""A checkpoint that recites: real weights, made so that the model writes one text and no other.

What comes next depends on the position alone: wpe[i] is a long vector in direction i, wte and the
block are 0, and the output matrix has a 1 where position i meets the id to be written there.
"""

import numpy as np
from models import random_params, small_encoder

from picogpt.checkpoint.config import Config
from picogpt.model import Model
from picogpt.tools.tree import tree_map

END = small_encoder().end_of_text
ID_OF_BYTE = {small_encoder().decode_bytes([id]): id for id in range(256)}


def reciter(text, n_padding=0, generation=None):
    """A model that greedily follows a prompt of one token with `text`, a token for each byte.

    `text` is str or bytes; <|endoftext|> comes after it. The tokenizer doesn't know the last
    n_padding ids of the vocabulary, yet they get the best scores.
    """
    data = text.encode() if isinstance(text, str) else text
    ids = [ID_OF_BYTE[data[i : i + 1]] for i in range(len(data))] + [END]
    n_ctx = len(ids)
    config = Config(
        n_vocab=END + 1 + n_padding, n_ctx=n_ctx, n_embd=n_ctx, n_inner=1, n_head=1, n_layer=1,
        tie_word_embeddings=False, bos_token_id=END, eos_token_id=END,
    )  # fmt: skip
    params = tree_map(np.zeros_like, random_params(config))
    params["wpe"] += 100 * np.eye(n_ctx, dtype=np.float32)
    params["ln_f"]["g"] += 1
    params["lm_head"][ids, range(n_ctx)] = 1
    odd = np.arange(n_ctx) % 2
    params["lm_head"][END + 1 :] = 4 * np.array([odd, 1 - odd])[np.arange(n_padding) % 2]
    return Model(params, config, small_encoder(), generation or {})
