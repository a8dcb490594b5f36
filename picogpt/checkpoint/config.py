"""A model's hyper-parameters, from Hugging Face's config.json, checked; and what they ask for."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from picogpt.activations import ACTIVATIONS
from picogpt.tools.errors import CheckpointError, brief
from picogpt.tools.files import read_json, write_text


@dataclass(frozen=True)
class Config:
    """GPT-2's hyper-parameters under Hugging Face's names; defaults are those of 124M."""

    n_vocab: int = 50257
    n_ctx: int = 1024
    n_embd: int = 768
    n_head: int = 12
    n_layer: int = 12
    n_inner: int | None = None  # width of the feed-forward layer; None is 4 * n_embd
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256

    @property
    def d_inner(self):
        """Width of the feed-forward layer."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    @property
    def act(self):
        """The activation function between the feed-forward layer's two products."""
        return ACTIVATIONS[self.activation_function][0]

    @property
    def act_backward(self):
        """Its derivative: from the gradient of the output and the input to that of the input."""
        return ACTIVATIONS[self.activation_function][1]

    @property
    def scales(self):
        """For every block, what its attention scores are multiplied by: `[n_layer]` floats."""
        scale = (self.n_embd // self.n_head) ** -0.5 if self.scale_attn_weights else 1.0
        depth = range(1, self.n_layer + 1)
        return [scale / i if self.scale_attn_by_inverse_layer_idx else scale for i in depth]

    @property
    def kernel_options(self):
        """What `kernels.gpt2` takes beside the inputs and the parameters, to be spread by name."""
        return {
            "n_head": self.n_head,
            "eps": self.layer_norm_epsilon,
            "act": self.act,
            "scale": self.scales,
        }


HUGGING_FACE_NAMES = {"n_vocab": "vocab_size", "n_ctx": "n_positions"}  # the others are the same
OTHER_NAMES = {  # which transformers reads as well, and prefers
    "max_position_embeddings": "n_ctx",
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}


def load_config(folder):
    """Read `folder`/config.json into a Config.

    Raises CheckpointError, which names what is missing, damaged or of another architecture.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} has no config.json: is it a GPT-2 model folder?")
    values = read_json(path)
    if values.get("model_type", "gpt2") != "gpt2":
        kind = brief(values["model_type"])
        raise CheckpointError(f"{path}: model_type is {kind}, only gpt2 can run")
    names = {HUGGING_FACE_NAMES.get(field.name, field.name): field.name for field in fields(Config)}
    names |= OTHER_NAMES
    known = {name: values[key] for key, name in names.items() if key in values}
    return check_config(Config(**known), values, path)


def check_config(config, values, path):
    """Give back config, or raise CheckpointError for what this project can't run."""

    def require(fits, name, wanted):
        if not fits:
            said = HUGGING_FACE_NAMES.get(name, name)
            raise CheckpointError(f"{path}: {said} is {brief(getattr(config, name))}, not {wanted}")

    if values.get("add_cross_attention"):
        raise CheckpointError(f"{path}: add_cross_attention is set, which is not supported")
    for name in ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer", "n_inner"):
        n = config.d_inner if name == "n_inner" else getattr(config, name)
        require(type(n) is int and n > 0, name, "a whole number above 0")
    require(config.n_embd % config.n_head == 0, "n_embd", f"a multiple of n_head {config.n_head}")
    eps = config.layer_norm_epsilon
    require(type(eps) in (int, float) and 0 < eps < 1, "layer_norm_epsilon", "between 0 and 1")
    for name in ("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "tie_word_embeddings"):
        require(type(getattr(config, name)) is bool, name, "true or false")
    act = config.activation_function
    known = type(act) is str and act in ACTIVATIONS
    require(known, "activation_function", f"one of {', '.join(ACTIVATIONS)}")
    for name in ("bos_token_id", "eos_token_id"):
        ids = getattr(config, name)
        ids = ids if name == "eos_token_id" and type(ids) is list else [ids]
        require(all(id is None or type(id) is int for id in ids), name, "a token id or null")
    return config


def save_config(config, folder):
    """Write config.json as transformers' GPT2Config reads it; OutputError where that fails."""
    values = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}
    for name, value in asdict(config).items():
        values[HUGGING_FACE_NAMES.get(name, name)] = value
    write_text(Path(folder) / "config.json", json.dumps(values, indent=2) + "\n")
