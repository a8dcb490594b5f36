"""Write the golden files in tests/golden/ from the oracles: python tests/write_golden.py [NAME ...]

One function for each file, called after it. What the files hold is what torch, transformers and
others compute; the plain tests compare with it where no oracle is installed.
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

from oracles import learn_merges_by_tokenizers
from texts import CORPORA, NASTY, prose, write_corpus

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # so that picogpt is found from anywhere

GOLDEN = Path(__file__).parent / "golden"
WRITERS = {}


def golden(write):
    """Register a function that writes one golden file."""
    WRITERS[write.__name__] = write
    return write


def write_json(name, value):
    """Write a golden file, one line for each of its entries."""
    dumps = partial(json.dumps, ensure_ascii=False)
    entries = [f"{dumps(key)}: {dumps(entry)}" for key, entry in value.items()]
    text = "{\n" + ",\n".join(entries) + "\n}\n"
    (GOLDEN / name).write_text(text, encoding="utf-8", newline="\n")


def read_merges(folder):
    """The lines of merges.txt without the first, #version, and the last, which is empty."""
    return (Path(folder) / "merges.txt").read_text(encoding="utf-8").split("\n")[1:-1]


@golden
def bpe_training():
    """The merges that tokenizers learns from each of the corpora in texts.py."""
    merges = {}
    for name, (_, vocab_size, min_frequency) in CORPORA.items():
        with tempfile.TemporaryDirectory() as folder:
            files = write_corpus(name, Path(folder))
            merges[name] = learn_merges_by_tokenizers(files, vocab_size, min_frequency, folder)
    write_json("bpe_training.json", merges)


@golden
def encoder():
    """A tokenizer that tokenizers has learned, and the ids of NASTY texts by transformers."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2TokenizerFast

    with tempfile.TemporaryDirectory() as folder:
        texts = [*NASTY, prose(4000)] * 2
        learned = ByteLevelBPETokenizer()
        learned.train_from_iterator(texts, 1000, 2, False, ["<|endoftext|>"])
        learned.save_model(folder)
        oracle = GPT2TokenizerFast.from_pretrained(folder, split_special_tokens=True)
        vocab = json.loads((Path(folder) / "vocab.json").read_text(encoding="utf-8"))
        merges = read_merges(folder)
    assert len(oracle) == len(vocab)
    ids = [oracle(text)["input_ids"] for text in NASTY]
    write_json("encoder.json", {"vocab": vocab, "merges": merges, "ids": ids})


@golden
def forward():
    """Small odd models as save_pretrained writes them, and the logits that transformers computes.

    tests/golden/forward/NAME: config.json, the weights, ids.npy and logits.npy.
    """
    import numpy as np
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": 19, "n_positions": 11, "n_embd": 12, "n_head": 3, "n_layer": 2}
    odd = {"n_embd": 10, "n_head": 2, "n_inner": 7, "n_layer": 3, "layer_norm_epsilon": 1e-3}
    scaled = {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}
    models = {
        "gelu_new": {},
        "gelu": {**odd, "activation_function": "gelu"},
        "gelu_pytorch_tanh": {**scaled, "activation_function": "gelu_pytorch_tanh"},
        "relu": {"n_head": 1, "activation_function": "relu", "scale_attn_weights": False},
        "silu": {"n_head": 12, "activation_function": "silu", "tie_word_embeddings": False},
        "tanh": {**odd, "activation_function": "tanh", "scale_attn_by_inverse_layer_idx": True},
        "float16": {"tie_word_embeddings": False},
        "bfloat16": {},
        "sharded": {},
    }
    for seed, (name, changes) in enumerate(models.items()):
        torch.manual_seed(seed)
        config = GPT2Config(**{**sizes, "initializer_range": 0.3, **changes})
        model = GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()
        for parameter in model.parameters():  # biases and layer norms as well
            parameter.data += 0.1 * torch.randn(parameter.shape)
        dtype = getattr(torch, name) if "float" in name else torch.float32
        model = model.to(dtype)
        folder = GOLDEN / "forward" / name
        model.save_pretrained(folder, max_shard_size="8KB" if name == "sharded" else "1GB")
        (folder / "generation_config.json").unlink()
        ids = torch.randint(config.vocab_size, (1, config.n_positions))
        with torch.no_grad():
            logits = model.float()(ids).logits[0]
        np.save(folder / "ids.npy", ids[0].numpy())
        np.save(folder / "logits.npy", logits.numpy())


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in sys.argv[1:] or WRITERS:
        WRITERS[name]()
        print(f"{name} written")
