"""Hugging Face's tokenizer files <-> the Encoder."""

import json
from pathlib import Path

from picogpt.tokenizer.encoder import BYTE_OF_SYMBOL, END_OF_TEXT, Encoder
from picogpt.tools.errors import CheckpointError
from picogpt.tools.files import write_text, written_together

# what transformers would read as well, or instead of the files that save_encoder writes
OTHER_FILES = ("tokenizer.json", "added_tokens.json", "special_tokens_map.json")


def load_encoder(folder):
    """Read a folder's tokenizer: vocab.json and merges.txt, or tokenizer.json where only that is.

    Raises CheckpointError for files that are missing, damaged or not of GPT-2's kind.
    """
    folder = Path(folder)
    vocab_file, merges_file = folder / "vocab.json", folder / "merges.txt"
    path = folder / "tokenizer_config.json"
    try:
        config = json.loads(path.read_bytes()) if path.exists() else {}
        add_prefix_space = config.get("add_prefix_space", False)
        if config.get("add_bos_token"):
            raise ValueError("add_bos_token, a token before every text, is not supported")
        path = folder / "tokenizer.json"
        if path.exists() and not (vocab_file.exists() and merges_file.exists()):
            vocab, merges = parse_tokenizer(json.loads(path.read_bytes()))
            check_vocab(vocab)
        else:
            path = vocab_file
            vocab = json.loads(path.read_bytes())
            check_vocab(vocab)
            path = merges_file
            lines = path.read_text(encoding="utf-8").split("\n")
            merges = [line for line in lines if line and not line.startswith("#version")]
        check_merges(merges, vocab)
        if path == merges_file:
            path = file_of_added(folder, config)
        added = read_added(path, config)
        added_tokens = {token["content"]: vocab.get(token["content"], id) for token, id in added}
        check_vocab(vocab | added_tokens)
        special = {token["content"] for token, _ in added if token.get("special")}
        return Encoder(vocab, merges, added_tokens, special, add_prefix_space)
    except FileNotFoundError:
        needed = "a GPT-2 tokenizer is vocab.json and merges.txt, or tokenizer.json"
        raise CheckpointError(f"{folder} has no {path.name}: {needed}.") from None
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not what GPT-2's looks like: get it again.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be used ({error}): get it again.") from error


def file_of_added(folder, config):
    """Which of the files beside a vocabulary adds tokens to it: each kind took an older's place."""
    here, *older = (folder / f"{n}.json" for n in ("tokenizer_config", "tokenizer", "added_tokens"))
    return here if "added_tokens_decoder" in config else next(filter(Path.exists, older), here)


def read_added(path, config):
    """What a file of one of these kinds adds: [({"content": text, "special": bool}, id), ...]."""
    if path.name == "tokenizer_config.json":
        return [(token, int(id)) for id, token in config.get("added_tokens_decoder", {}).items()]
    said = json.loads(path.read_bytes())
    if path.name == "tokenizer.json":
        return [(token, token["id"]) for token in said["added_tokens"]]
    roles = path.with_name("special_tokens_map.json")  # these and config name the special
    named = json.dumps([config, json.loads(roles.read_bytes()) if roles.exists() else {}])
    return [({"content": t, "special": json.dumps(t) in named}, id) for t, id in said.items()]


def parse_tokenizer(tokenizer):
    """Vocabulary and merges of a tokenizer.json, if it is of GPT-2's kind."""
    model, splitter = tokenizer["model"], tokenizer["pre_tokenizer"]
    kind = model.get("type", "BPE"), splitter["type"], splitter.get("use_regex", True)
    others = tokenizer.get("normalizer") or model.get("ignore_merges")
    around = (tokenizer.get("post_processor") or {}).get("single", [])  # what is put around a text
    others = others or any("SpecialToken" in part for part in around)
    if kind != ("BPE", "ByteLevel", True) or others:
        raise ValueError("not GPT-2's byte-level BPE")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return model["vocab"], merges


def check_vocab(vocab):
    """Raise ValueError unless every byte has a token, and every token a text and one id."""
    if not isinstance(vocab, dict) or not vocab.keys() >= BYTE_OF_SYMBOL.keys():
        raise ValueError("no vocabulary with a token for every byte")
    "".join(vocab).encode("utf-8")  # raises for what is no text
    ids = set(vocab.values())
    if len(ids) < len(vocab) or "" in vocab or not all(type(id) is int and id >= 0 for id in ids):
        raise ValueError("its tokens don't have one whole number each")


def check_merges(merges, vocab):
    """Raise ValueError unless merges join tokens to tokens and make each that begins with Ġ."""
    for merge in merges:
        parts = merge.split(" ")
        if len(parts) != 2 or not vocab.keys() >= {*parts, "".join(parts)}:
            raise ValueError(f"{merge!r} is no merge of tokens in the vocabulary")
    made = {"Ġ", *(merge.replace(" ", "") for merge in merges)}
    for token in vocab:
        if token.startswith("Ġ") and token not in made:
            raise ValueError(f"no merge makes {token!r} of the vocabulary: it may be cut off")


def save_encoder(encoder, folder):
    """Write vocab.json, merges.txt and tokenizer_config.json as transformers reads them."""
    added = {
        id: {"content": token, "special": token in encoder.special}
        for token, id in encoder.added_tokens.items()
    }
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": encoder.add_prefix_space,
        "added_tokens_decoder": added,
    }
    if END_OF_TEXT not in encoder.added_tokens:  # which transformers would add
        config |= dict.fromkeys(["bos_token", "eos_token", "unk_token"])
    with written_together(folder, last="merges.txt", outdated=OTHER_FILES) as made:
        write_text(made / "vocab.json", json.dumps(encoder.vocab, ensure_ascii=False))
        write_text(made / "merges.txt", "\n".join(["#version: 0.2", *encoder.merges, ""]))
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        write_text(made / "tokenizer_config.json", text)
