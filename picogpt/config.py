"""A model's hyper-parameters, from Hugging Face's config.json, checked; and what they ask for."""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from picogpt.activations import ACTIVATIONS
from picogpt.errors import CheckpointError


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


def load_config(folder):
    """Read `folder`/config.json into a Config.

    Raises CheckpointError, which names what is missing, damaged or of another architecture.
    """
    path = Path(folder) / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no config.json: is it a GPT-2 model folder?") from None
    except (OSError, ValueError) as e:
        raise CheckpointError(f"{path} can't be read: {e}") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    if values.get("model_type", "gpt2") != "gpt2":
        raise CheckpointError(f"{path}: model_type is {values['model_type']!r}, only gpt2 can run")
    known = {}
    for field in fields(Config):
        name = HUGGING_FACE_NAMES.get(field.name, field.name)
        if name in values:
            known[field.name] = values[name]
    return check(Config(**known), values, path)


def check(config, values, path):
    """Give back config, or raise CheckpointError for what this project can't run."""
    if values.get("add_cross_attention"):
        raise CheckpointError(f"{path}: add_cross_attention is set, which is not supported")
    for name in ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer", "n_inner"):
        n = getattr(config, name)
        if name == "n_inner" and n is None:
            continue
        if not isinstance(n, int) or isinstance(n, bool) or n < (0 if name == "n_layer" else 1):
            said = HUGGING_FACE_NAMES.get(name, name)
            raise CheckpointError(f"{path}: {said} is {n!r}, it must be a positive whole number")
    if config.n_embd % config.n_head:
        raise CheckpointError(
            f"{path}: n_embd {config.n_embd} can't be split among n_head {config.n_head} heads"
        )
    eps = config.layer_norm_epsilon
    if not isinstance(eps, int | float) or not math.isfinite(eps) or eps <= 0:
        raise CheckpointError(f"{path}: layer_norm_epsilon is {eps!r}, it must be above 0")
    if config.activation_function not in ACTIVATIONS:
        raise CheckpointError(
            f"{path}: activation_function {config.activation_function!r} is unknown; "
            f"known are {', '.join(ACTIVATIONS)}"
        )
    return config


def save_config(config, folder):
    """Write config.json as transformers' GPT2Config reads it."""
    values = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}
    for name, value in asdict(config).items():
        values[HUGGING_FACE_NAMES.get(name, name)] = value
    text = json.dumps(values, indent=2) + "\n"
    (Path(folder) / "config.json").write_text(text, encoding="utf-8")
