"""Hugging Face's tokenizer files <-> the Encoder.

vocab.json and merges.txt are the vocabulary and the merges; tokenizer.json has both and all else,
and stands alone in newer folders. What is added to them, and which tokens mark what (their roles:
bos_token, eos_token, pad_token, ...), stands in tokenizer_config.json, tokenizer.json or, written
by older versions, in added_tokens.json and special_tokens_map.json.
"""

import json
from contextlib import contextmanager
from pathlib import Path

from picogpt.tokenizer.added_tokens import AddedToken
from picogpt.tokenizer.encoder import END_OF_TEXT, Encoder
from picogpt.tools.errors import CheckpointError, UnsupportedTokenizerError, brief
from picogpt.tools.files import unreadable, write_text, written_together

ENCODER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")  # of save_encoder
# what transformers would read as well, or instead of the files that save_encoder writes
OTHER_FILES = (
    "tokenizer.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)

AROUND = "it puts tokens around every text"
PROCESSORS_AROUND = ("BertProcessing", "RobertaProcessing")  # of a tokenizer.json; they do so
CLASSES_AROUND = ("Roberta", "Bart")  # transformers' classes of byte-level BPE that do so

# the order in which transformers numbers the tokens of roles that have no id yet
ROLES = [f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]
ROLE_LISTS = ("additional_special_tokens", "extra_special_tokens")  # the second since 2025
FLAGS = ("special", "single_word", "lstrip", "rstrip", "normalized")


def load_encoder(folder):
    """Read a folder's tokenizer: vocab.json and merges.txt, or tokenizer.json where only that is.

    Raises UnsupportedTokenizerError where there is none, or another kind than GPT-2's byte-level
    BPE, and CheckpointError for files that are damaged.
    """
    folder = Path(folder)
    config_file, whole_file = folder / "tokenizer_config.json", folder / "tokenizer.json"
    with said_of(config_file):
        config = read_object(config_file, {})
        add_prefix_space = flag(config, "add_prefix_space")
    with said_of(whole_file):
        whole = read_object(whole_file, None)
        if whole and "GPT2" not in str(config.get("tokenizer_class", "GPT2")):
            check_kind(whole, whole_file)  # other classes go by this file
            add_prefix_space = prefix_space_of(whole)
    vocab, merges = read_vocabulary(folder, whole)
    check_start_and_end(folder, config, whole)
    path = file_of_added(folder, config)
    with said_of(path):
        roles, in_roles = read_roles(folder, config)
        added = {token["content"]: token for token in read_added(path, config)}
        added = added_tokens(added, in_roles, vocab)
        check_vocab(vocab | {token.content: token.id for token in added})
    path = folder / "chat_template.jinja"
    with said_of(path):
        template = path.read_text("utf-8") if path.exists() else config.get("chat_template")
    return Encoder(vocab, merges, added, add_prefix_space, roles, template)


@contextmanager
def said_of(path):
    """What goes wrong inside becomes a CheckpointError that names this file."""
    try:
        yield
    except UnsupportedTokenizerError:
        raise
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not what GPT-2's looks like: get it again.") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise CheckpointError(f"{path} can't be used ({error}): get it again.") from error


def unsupported(reason):
    """The error for a tokenizer that can't be used here; the model can."""
    return UnsupportedTokenizerError(f"{reason}; without text, from Python, the model takes ids")


def read_object(path, default):
    """The object in a JSON file, or the default where there is no such file."""
    if not path.exists():
        return default
    values = json.loads(path.read_bytes())
    if not isinstance(values, dict):
        raise TypeError(f"{path} holds no object")
    return values


def flag(values, name):
    """One of a file's flags, false where it is missing or null.

    Raises ValueError for what is neither true nor false: "false" in quotes would count as true.
    """
    value = values.get(name)
    if value not in (None, True, False):
        raise ValueError(f"{name} is {brief(value)}, neither true nor false")
    return bool(value)


def read_vocabulary(folder, whole):
    """Vocabulary and merges of the folder, checked; `whole` is what its tokenizer.json holds."""
    missing = [name for name in ("vocab.json", "merges.txt") if not (folder / name).exists()]
    if missing and whole is None:
        needed = "a GPT-2 tokenizer is vocab.json and merges.txt, or tokenizer.json"
        raise unsupported(f"{folder} has no {missing[0]}: {needed}")
    if missing:
        path = folder / "tokenizer.json"
        with said_of(path):
            check_kind(whole, path)
            vocab, merges = whole["model"]["vocab"], whole["model"]["merges"]
            merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
            check_vocab(vocab)
            check_merges(merges, vocab, path)
        return vocab, merges
    path = folder / "vocab.json"
    with said_of(path):
        vocab = json.loads(path.read_bytes())
        check_vocab(vocab)
    path = folder / "merges.txt"
    with said_of(path):
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        merges = [line for line in lines if line and not line.startswith("#version")]
        check_merges(merges, vocab, path)
    return vocab, merges


def check_kind(tokenizer, path):
    """Raise UnsupportedTokenizerError unless a tokenizer.json is of GPT-2's kind."""
    model, pre_tokenizer = tokenizer["model"], tokenizer["pre_tokenizer"] or {"type": None}
    while pre_tokenizer["type"] == "Sequence" and len(pre_tokenizer["pretokenizers"]) == 1:
        pre_tokenizer = pre_tokenizer["pretokenizers"][0]
    others = {
        f"its model is {model.get('type')}": model.get("type", "BPE") != "BPE",
        f"its pre-tokenizer is {pre_tokenizer['type']}": pre_tokenizer["type"] != "ByteLevel",
        "its pre-tokenizer has another pattern": not pre_tokenizer.get("use_regex", True),
        "it normalizes texts": has_normalizer(tokenizer),
        "it takes whole words first": model.get("ignore_merges"),
        "it marks the parts of a word": (
            model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
        ),
    }
    for reason, is_other in others.items():
        if is_other:
            raise other_kind(path, reason)


def other_kind(path, reason):
    """The error for a tokenizer.json of another kind than GPT-2's."""
    return unsupported(f"{path} is no byte-level BPE like GPT-2's: {reason}")


def check_start_and_end(folder, config, whole):
    """Raise UnsupportedTokenizerError where transformers puts tokens around every text.

    `config` and `whole` are what the folder's tokenizer_config.json and tokenizer.json hold.
    """
    config_file, whole_file = folder / "tokenizer_config.json", folder / "tokenizer.json"
    with said_of(whole_file):
        if whole and puts_tokens_around(whole.get("post_processor")):
            raise other_kind(whole_file, AROUND)
    if config.get("add_bos_token") and whole is None:
        raise unsupported(f"{config_file} asks for a token before every text")
    if any(name in str(config.get("tokenizer_class")) for name in CLASSES_AROUND):
        raise unsupported(f"{config_file} names a tokenizer that is no GPT-2's: {AROUND}")


def puts_tokens_around(post_processor):
    """Whether the post-processor of a tokenizer.json puts tokens before or behind every text."""
    if not post_processor:
        return False
    return (
        post_processor.get("type") in PROCESSORS_AROUND
        or any("SpecialToken" in part for part in post_processor.get("single", []))
        or any(map(puts_tokens_around, post_processor.get("processors", [])))
    )


def has_normalizer(tokenizer):
    """Whether a tokenizer.json changes texts before it looks for tokens."""
    normalizer = tokenizer.get("normalizer")
    return bool(normalizer) and normalizer.get("normalizers") != []


def prefix_space_of(tokenizer):
    """Whether a tokenizer.json puts a space before a text that begins with none."""
    pre_tokenizer = tokenizer["pre_tokenizer"] or {}
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return any(part.get("add_prefix_space", False) for part in parts)


def file_of_added(folder, config):
    """Which of the files beside a vocabulary adds tokens to it.

    The newest kind that is there goes before the older ones. Without any, it is
    tokenizer_config.json, which adds nothing then.
    """
    newest = folder / "tokenizer_config.json"
    if "added_tokens_decoder" in config:
        return newest
    for older in (folder / "tokenizer.json", folder / "added_tokens.json"):
        if older.exists():
            return older
    return newest


def read_added(path, config):
    """What a file that `file_of_added` named adds: a list of dicts of id, content and flags."""
    if path.name == "tokenizer_config.json":
        added = config.get("added_tokens_decoder", {})
        return [token | {"id": int(id)} for id, token in added.items()]
    values = read_object(path, {})
    if path.name == "tokenizer.json":
        return values["added_tokens"]
    return [{"content": content, "id": id} for content, id in values.items()]


def read_roles(folder, config):
    """Which tokens mark what, and these tokens: ({"pad_token": content, ...}, {content: flags}).

    special_tokens_map.json, where transformers reads it, goes before tokenizer_config.json.
    """
    flags = {}

    def content_of(token):
        token = token if isinstance(token, dict) else {"content": token}
        flags[token["content"]] = token
        return token["content"]

    older = {}
    if "added_tokens_decoder" not in config:
        older = read_object(folder / "special_tokens_map.json", {})
    said = config | older
    roles = {}
    for name in sorted(said, key=lambda name: ROLES.index(name) if name in ROLES else len(ROLES)):
        token = said[name]
        if name in ROLE_LISTS and token:
            several = list(token.values()) if isinstance(token, dict) else token
            roles[ROLE_LISTS[0]] = [content_of(one) for one in several]
        elif name.endswith("_token") and not isinstance(token, bool):
            roles[name] = token if token is None or token == "" else content_of(token)
    return roles, flags


def added_tokens(added, in_roles, vocab):
    """A list of AddedTokens from two {content: dict of id and flags}.

    `added` are those of a file, `in_roles` those that have a role, which makes them special. One
    that has no id in the vocabulary or a file gets the next, as transformers numbers it. Raises
    ValueError for a flag that is neither true nor false.
    """
    next_id = max([*vocab.values(), *(token["id"] for token in added.values())]) + 1
    tokens = []
    for content, token in (in_roles | added).items():
        id = vocab.get(content, token.get("id"))
        if id is None:
            id = next_id
            next_id += 1
        special = content in in_roles or flag(token, "special")
        flags = {name: flag(token, name) for name in FLAGS if name in token}
        flags = {"normalized": not special} | flags | {"special": special}
        tokens.append(AddedToken(content, id, **flags))
    return tokens


def check_vocab(vocab):
    """Raise ValueError unless a vocabulary has tokens, each a text with an id of its own."""
    if not isinstance(vocab, dict) or not vocab:
        raise ValueError("no vocabulary of tokens and their ids")
    "".join(vocab).encode("utf-8")  # raises for what is no text
    ids = set(vocab.values())
    if len(ids) < len(vocab) or "" in vocab or not all(type(id) is int and id >= 0 for id in ids):
        raise ValueError("its tokens don't have one whole number each")


def check_merges(merges, vocab, path):
    """Raise ValueError unless merges join tokens to tokens and make each that begins with Ġ.

    A token that no merge makes shows that the file is cut off; those without Ġ, like <|endoftext|>
    and [PAD], may need no merge. Raises UnsupportedTokenizerError for merges of GPT-1 and its kind,
    which mark the ends of words.
    """
    if any(merge.endswith("</w>") for merge in merges):
        raise unsupported(f"{path} is no byte-level BPE like GPT-2's: it marks the ends of words")
    for merge in merges:
        parts = merge.split(" ")
        if len(parts) != 2 or not vocab.keys() >= {*parts, "".join(parts)}:
            raise ValueError(f"{merge!r} is no merge of tokens in the vocabulary")
    made = {"Ġ", *(merge.replace(" ", "") for merge in merges)}
    for token in vocab:
        if token.startswith("Ġ") and token not in made:
            raise ValueError(f"no merge makes {token!r} of the vocabulary: it may be cut off")


def save_encoder(encoder, folder):
    """Write vocab.json, merges.txt and tokenizer_config.json as transformers reads them.

    Raises OutputError where they can't be written.
    """
    added = {
        token.id: {"content": token.content} | {name: getattr(token, name) for name in FLAGS}
        for token in encoder.added.values()
    }
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": encoder.add_prefix_space,
        "added_tokens_decoder": added,
    }
    if END_OF_TEXT not in encoder.added:  # which transformers would add
        config |= dict.fromkeys(["bos_token", "eos_token", "unk_token"])
    config |= encoder.roles
    if encoder.chat_template is not None:
        config["chat_template"] = encoder.chat_template
    with written_together(folder, last="merges.txt", outdated=OTHER_FILES) as made:
        write_text(made / "vocab.json", json.dumps(encoder.vocab, ensure_ascii=False))
        write_text(made / "merges.txt", "\n".join(["#version: 0.2", *encoder.merges, ""]))
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        write_text(made / "tokenizer_config.json", text)
