"""`picogpt.trace`: the forward pass itself, every value under its name, and what an edit does."""

import numpy as np
import pytest
from models import small_model

import picogpt
from picogpt import kernels
from picogpt.backprop import keep_activations, stack_forward
from picogpt.tools.errors import TextError

A = [5, 17, 3, 200, 5, 40, 41]
B = [9, 17, 80, 200, 1, 2, 3]
CONFIGS = [
    {},
    {"activation_function": "relu", "scale_attn_by_inverse_layer_idx": True},
    {"tie_word_embeddings": False, "n_inner": 40, "scale_attn_weights": False},
]


@pytest.mark.parametrize("changes", CONFIGS)
def test_is_the_forward_pass(changes):
    model = small_model(**changes)
    np.testing.assert_allclose(
        picogpt.trace(model, A)["logits"], picogpt.logits(model, A), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("changes", CONFIGS)
def test_every_block_is_the_kernels(changes):
    model = small_model(**changes)
    seen, options = picogpt.trace(model, A), model.config.kernel_options
    scales = options.pop("scale")
    x = seen["wte"] + seen["wpe"]
    for i, block in enumerate(model.params["blocks"]):
        np.testing.assert_array_equal(seen[f"blocks.{i}.x"], x)
        y = kernels.transformer_block(x, **block, scale=scales[i], **options)
        x = seen[f"blocks.{i}.y"]
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
    ln_f = kernels.layer_norm(x, **model.params["ln_f"], eps=options["eps"])
    np.testing.assert_array_equal(seen["ln_f"], ln_f)


def test_names_hold_what_they_say():
    model = small_model()
    seen = picogpt.trace(model, A)
    block, n = model.params["blocks"][1], len(A)
    step = {name.removeprefix("blocks.1."): a for name, a in seen.items() if "blocks.1." in name}
    same = np.testing.assert_allclose
    same(seen["wte"], model.params["wte"][A])
    same(seen["wpe"], model.params["wpe"][:n])
    same(step["ln_1"], kernels.layer_norm(step["x"], **block["ln_1"]))
    same(step["c_attn"], kernels.linear(step["ln_1"], **block["attn"]["c_attn"]), rtol=1e-6)
    same(step["q"][2], step["c_attn"][:, 16:24])  # the third head's columns of the first third
    same(step["k"][0], step["c_attn"][:, 24:32])
    same(step["v"][1], step["c_attn"][:, 56:64])
    same(step["scores"][2, 5, 3], step["q"][2, 5] @ step["k"][2, 3], rtol=1e-4)
    same(step["scaled"], step["scores"] / 8**0.5, rtol=1e-6)
    same(step["masked"], np.where(np.tri(n), step["scaled"], -1e10), rtol=1e-6)
    same(step["weights"], kernels.softmax(step["masked"]))
    same(step["heads"], step["weights"] @ step["v"], rtol=1e-5)
    same(step["joined"], np.concatenate(list(step["heads"]), axis=-1))
    same(step["attn"], kernels.linear(step["joined"], **block["attn"]["c_proj"]), rtol=1e-5)
    same(step["x_mid"], step["x"] + step["attn"])
    same(step["ln_2"], kernels.layer_norm(step["x_mid"], **block["ln_2"]), rtol=1e-6)
    same(step["act"], kernels.gelu(step["c_fc"]), rtol=1e-6)
    same(step["mlp"], kernels.linear(step["act"], **block["mlp"]["c_proj"]), rtol=1e-5)
    same(step["y"], step["x_mid"] + step["mlp"])


def test_sees_what_training_sees():
    model = small_model()
    seen = picogpt.trace(model, A)
    kept = {}
    stack_forward(model.params, np.array(A), model.config, keep_activations(kept))
    names = [name for name in kept if not name.endswith("_dropped")]
    used = ("x", "q", "k", "v", "weights", "c_fc")
    assert {f"blocks.{i}.{name}" for i in range(2) for name in used} <= set(names)
    for name in names:
        np.testing.assert_array_equal(seen[name], kept[name])


def test_an_edit_that_changes_nothing():
    model, names = small_model(), []

    def edit(name, array):
        names.append(name)
        return array

    edited, plain = picogpt.trace(model, A, edit), picogpt.trace(model, A)
    assert names == list(plain) == list(edited)
    for name in plain:
        np.testing.assert_array_equal(edited[name], plain[name])


def test_a_silenced_head_is_a_head_without_output_rows():
    def silence(name, array):
        if name == "blocks.1.heads":
            array[2] = 0
        return array

    model, without = small_model(), small_model()
    without.params["blocks"][1]["attn"]["c_proj"]["w"][16:24] = 0  # what head 2 writes to
    edited = picogpt.trace(model, A, silence)["logits"]
    np.testing.assert_allclose(edited, picogpt.logits(without, A), rtol=1e-5, atol=1e-5)
    assert abs(edited - picogpt.logits(model, A)).max() > 0.1


def test_another_sentence_put_in():
    model = small_model()
    other = picogpt.trace(model, B)

    def put_all(name, array):
        return other[name] if name == "blocks.0.y" else array

    def put_one(name, array):
        if name == "blocks.0.y":
            array[4] = other[name][4]
        return array

    np.testing.assert_array_equal(picogpt.trace(model, A, put_all)["logits"], other["logits"])
    moved = abs(picogpt.trace(model, A, put_one)["logits"] - picogpt.trace(model, A)["logits"])
    assert moved[:4].max() == 0  # no token sees what comes after it
    assert moved[4:].max(axis=-1).min() > 1e-3


def test_writing_into_what_is_handed_out_leaves_the_model_alone():
    def spoil(_, array):
        array[:] = 7
        return array

    model = small_model()
    before = picogpt.logits(model, A)
    for array in picogpt.trace(model, A, spoil).values():
        array[:] = 9
    plain = picogpt.trace(model, A)
    edited = picogpt.trace(model, A, lambda name, x: spoil(name, x) if name == "blocks.1.x" else x)
    np.testing.assert_array_equal(edited["blocks.0.y"], plain["blocks.0.y"])
    assert (edited["blocks.1.x"] == 7).all()
    for array in plain.values():
        array[:] = 9
    np.testing.assert_array_equal(picogpt.logits(model, A), before)


def test_refusals():
    model = small_model()
    with pytest.raises(TextError, match="between 0 and 266"):
        picogpt.trace(model, [267])
    with pytest.raises(ValueError, match="33 tokens are more than the model's 32"):
        picogpt.trace(model, [1] * 33)
    with pytest.raises(ValueError, match=r"edit made \[24\] of wte, which is \[7, 24\]"):
        picogpt.trace(model, A, lambda _, array: array[0])
    with pytest.raises(ValueError, match="edit made nothing of wte: it must return the array"):
        picogpt.trace(model, A, lambda *_: None)


def test_a_name_that_never_comes_is_told():
    model = small_model()

    def edit(name, array):
        if name == "blocks.2.scores" or name in ("blocks.0.x", "blocks.0.queries"):
            return 0 * array
        return array

    with pytest.raises(ValueError, match=r"for blocks.2.scores, blocks.0.queries, which never"):
        picogpt.trace(model, A, edit)
    changed = picogpt.trace(model, A, lambda name, x: 0 * x if name == "blocks.1.y" else x)
    assert not changed["blocks.1.y"].any()
    seen = []
    picogpt.trace(model, A, lambda name, x: seen.append({name: f"{name}!"}) or x)
    assert {"wte": "wte!"} in seen and {"logits": "logits!"} in seen  # a name is a str
