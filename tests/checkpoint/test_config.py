"""Reading config.json: what other people's files hold, and what must be refused in one sentence."""

import json
import re

import numpy as np
import pytest

from picogpt import kernels
from picogpt.checkpoint.config import Config, load_config, save_config
from picogpt.tools.errors import CheckpointError

# openai-community/gpt2's own file, but for its size
HUB = {
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
    "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 77, "n_embd": 48, "n_head": 4,
    "n_layer": 3, "n_positions": 64, "resid_pdrop": 0.1, "summary_activation": None,
    "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
    "summary_use_proj": True, "task_specific_params": {"text-generation": {"max_length": 50}},
    "vocab_size": 1000, "dtype": "float16", "torch_dtype": "bfloat16", "use_cache": True,
}  # fmt: skip


def load(folder, values):
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    return load_config(folder)


def test_the_hubs_config(tmp_path):
    config = load(tmp_path, HUB)
    assert config == Config(n_vocab=1000, n_ctx=64, n_embd=48, n_head=4, n_layer=3)
    assert config.d_inner == 192 and config.act is kernels.gelu
    assert config.scales == [12**-0.5] * 3
    assert load(tmp_path, HUB | {"architectures": ["GPT2Model"]}) == config


def test_what_a_config_does_not_say_is_as_in_124m(tmp_path):
    assert load(tmp_path, {}) == Config(50257, 1024, 768, 12, 12)
    assert load(tmp_path, {"n_inner": None, "eos_token_id": None}).eos_token_id is None


def test_the_other_names_that_transformers_reads(tmp_path):
    other = {"hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 3}
    config = load(tmp_path, {**other, "max_position_embeddings": 64, "vocab_size": 1000})
    assert config == Config(n_vocab=1000, n_ctx=64, n_embd=48, n_head=4, n_layer=3)


def test_scales_and_options(tmp_path):
    said = {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True, "n_inner": 7}
    said |= {"layer_norm_epsilon": 0.25, "activation_function": "relu", "eos_token_id": [1, 2]}
    config = load(tmp_path, HUB | said)
    assert config.scales == [1, 1 / 2, 1 / 3] and config.d_inner == 7
    options = config.kernel_options
    assert options["n_head"] == 4 and options["eps"] == 0.25 and options["scale"] == config.scales
    assert np.array_equal(options["act"](np.array([-1, 2])), [0, 2])
    config = load(tmp_path, HUB | {"scale_attn_by_inverse_layer_idx": True})
    assert config.scales == pytest.approx([12**-0.5 / i for i in (1, 2, 3)])


def test_what_is_saved_is_loaded(tmp_path):
    config = Config(
        100, 7, 6, 2, 3, 5, "silu", 1e-3, scale_attn_weights=False, tie_word_embeddings=False,
        scale_attn_by_inverse_layer_idx=True, bos_token_id=None, eos_token_id=[3, 4],
    )  # fmt: skip
    save_config(config, tmp_path)
    assert load_config(tmp_path) == config
    values = json.loads((tmp_path / "config.json").read_bytes())
    assert values["model_type"] == "gpt2" and values["architectures"] == ["GPT2LMHeadModel"]
    assert values["n_positions"] == 7 and values["vocab_size"] == 100


def test_a_byte_order_mark_does_no_harm(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(HUB), encoding="utf-8-sig")
    assert load_config(tmp_path).n_embd == 48


BAD = [
    ({"model_type": "llama"}, "model_type is 'llama', only gpt2 can run"),
    ({"model_type": ["gpt2"]}, "only gpt2 can run"),
    ({"model_type": None}, "only gpt2 can run"),
    ({"add_cross_attention": True}, "add_cross_attention is set, which is not supported"),
    ({"activation_function": "prelu"}, "activation_function is 'prelu', not one of gelu"),
    ({"activation_function": ["gelu"]}, r"activation_function is \['gelu'\], not one of gelu"),
    ({"activation_function": None}, "activation_function is None, not one of gelu"),
    ({"n_embd": 50}, "n_embd is 50, not a multiple of n_head 4"),
    ({"n_inner": 0}, "n_inner is 0, not a whole number above 0"),
    ({"scale_attn_weights": "false"}, "scale_attn_weights is 'false', not true or false"),
    ({"scale_attn_by_inverse_layer_idx": 1}, "layer_idx is 1, not true or false"),
    ({"tie_word_embeddings": None}, "tie_word_embeddings is None, not true or false"),
    ({"bos_token_id": "0"}, "bos_token_id is '0', not a token id or null"),
    ({"bos_token_id": [0]}, r"bos_token_id is \[0\], not a token id or null"),
    ({"eos_token_id": [0, 1.5]}, r"eos_token_id is \[0, 1.5\], not a token id or null"),
    ({"num_attention_heads": "4"}, "n_head is '4', not a whole number above 0"),
]
BAD += [
    ({name: value}, f"{name} is {re.escape(repr(value))}, not a whole number above 0")
    for name in ("vocab_size", "n_positions", "n_embd", "n_head", "n_layer")
    for value in (0, -12, "768", 12.0, True, None, [12])
]
BAD += [
    ({"layer_norm_epsilon": value}, f"layer_norm_epsilon is {value!r}, not between 0 and 1")
    for value in (float("nan"), float("inf"), -1e-5, 0, True, None, "1e-5")
]
BAD += [
    ({"layer_norm_epsilon": 10**400}, r"layer_norm_epsilon is 10{59}\.\.\., not between 0 and 1"),
    ({"activation_function": "x" * 10**6}, r"is 'x{59}\.\.\., not one of gelu_new"),
    ({"model_type": ["x"] * 10**5}, r"model_type is \['x', .*\.\.\., only gpt2 can run$"),
]


@pytest.mark.parametrize("changes, message", BAD, ids=lambda value: str(value)[:60])
def test_what_cannot_run_is_refused_in_one_sentence(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        load(tmp_path, HUB | changes)
    assert str(tmp_path / "config.json") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[]", b"5", b"[" * 100_000])
def test_a_damaged_file_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(CheckpointError, match=r"config.json (can't be read|is no JSON object)"):
        load_config(tmp_path)


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="has no config.json: is it a GPT-2 model folder?"):
        load_config(tmp_path / "nowhere")
