"""The forward pass and the checkpoints against transformers' GPT2LMHeadModel, both ways."""

import json
import shutil

import numpy as np
import pytest
from models import misalign, small_model
from oracles import oracle
from safetensors.numpy import load_file, save_file

import picogpt
from picogpt.activations import ACTIVATIONS, erf
from picogpt.checkpoint.config import Config, load_config
from picogpt.checkpoint.weights import load_params
from picogpt.tools.tree import tree_leaves

torch = oracle("torch")
transformers = oracle("transformers")
GPT2Config, GPT2LMHeadModel = transformers.GPT2Config, transformers.GPT2LMHeadModel


def random_config(rng):
    """An odd configuration that GPT-2 allows."""
    n_head = int(rng.integers(1, 7))
    vocab_size = int(rng.integers(2, 300))
    return GPT2Config(
        vocab_size=vocab_size,
        n_positions=int(rng.integers(1, 140)),
        n_embd=n_head * int(rng.integers(1, 10)),
        n_head=n_head,
        n_layer=int(rng.integers(1, 5)),
        n_inner=[None, int(rng.integers(1, 50))][rng.integers(2)],
        activation_function=str(rng.choice(list(ACTIVATIONS))),
        layer_norm_epsilon=float(rng.choice([1e-12, 1e-6, 1e-5, 1e-3, 0.1])),
        scale_attn_weights=bool(rng.integers(2)),
        scale_attn_by_inverse_layer_idx=bool(rng.integers(2)),
        reorder_and_upcast_attn=bool(rng.integers(2)),
        tie_word_embeddings=bool(rng.integers(2)),
        bos_token_id=0,
        eos_token_id=vocab_size - 1,
        initializer_range=float(rng.choice([0.02, 0.1])),
    )


def small(**changes):
    """A small GPT2Config."""
    sizes = {"vocab_size": 50, "n_positions": 20, "n_embd": 24, "n_layer": 2, "n_head": 3}
    return GPT2Config(**{**sizes, "bos_token_id": 0, "eos_token_id": 0, **changes})


def random_oracle(config, seed=0):
    """A model in which biases and layer norms are random too."""
    torch.manual_seed(seed)
    model = GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return model


@torch.no_grad()
def their_logits(model, ids):
    return model(torch.tensor(np.asarray(ids))[None]).logits[0].numpy()


def our_model(folder):
    """What stands in a folder without a tokenizer."""
    config = load_config(folder)
    return picogpt.Model(load_params(folder, config), config, None)


@pytest.mark.parametrize("seed", range(60))
def test_logits_of_odd_configurations(tmp_path, seed):
    rng = np.random.default_rng(seed)
    config = random_config(rng)
    oracle = random_oracle(config, seed)
    oracle.save_pretrained(tmp_path, max_shard_size=str(rng.choice(["1GB", "20KB"])))
    model = our_model(tmp_path)
    ids = rng.integers(0, config.vocab_size, config.n_positions)
    theirs, ours = their_logits(oracle, ids), picogpt.logits(model, ids)
    assert ours.shape == theirs.shape and np.abs(ours - theirs).max() < 2e-5, config
    if seed % 2:
        misalign_all(tmp_path)
        assert np.array_equal(picogpt.logits(our_model(tmp_path), ids), ours)


def misalign_all(folder):
    if (folder / "model.safetensors").exists():
        misalign(folder)


def test_a_config_that_says_nothing_is_theirs():
    theirs = GPT2Config()
    ours = Config()
    for name in Config.__dataclass_fields__:
        their_name = {"n_vocab": "vocab_size", "n_ctx": "n_positions"}.get(name, name)
        assert getattr(ours, name) == getattr(theirs, their_name), name


def test_other_names_of_sizes_are_read_as_they_read_them(tmp_path):
    values = {"n_embd": 8, "hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2}
    values |= {"max_position_embeddings": 9, "n_ctx": 7, "vocab_size": 50, "model_type": "gpt2"}
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    theirs, ours = GPT2Config.from_pretrained(tmp_path), load_config(tmp_path)
    assert (theirs.n_embd, theirs.n_head, theirs.n_layer, theirs.n_positions) == (24, 3, 2, 9)
    assert (ours.n_embd, ours.n_head, ours.n_layer, ours.n_ctx) == (24, 3, 2, 9)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("tied", [True, False])
def test_checkpoints_in_other_precisions(tmp_path, dtype, tied):
    config = small(tie_word_embeddings=tied, initializer_range=0.1)
    random_oracle(config).to(getattr(torch, dtype)).save_pretrained(tmp_path)
    oracle = GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = np.arange(20)
    difference = picogpt.logits(our_model(tmp_path), ids) - their_logits(oracle, ids)
    assert np.abs(difference).max() < 2e-5


def test_the_bare_gpt2model_without_prefix(tmp_path):
    oracle = random_oracle(small())
    oracle.transformer.save_pretrained(tmp_path)
    assert "wte.weight" in load_file(tmp_path / "model.safetensors")
    difference = picogpt.logits(our_model(tmp_path), np.arange(20)) - their_logits(
        oracle, np.arange(20)
    )
    assert np.abs(difference).max() < 2e-5


@pytest.mark.parametrize(
    "tied, kept",
    [(True, "both"), (False, "both"), (True, "another head"), (False, "another head")]
    + [(True, "head only")],  # untied, they make up a random wte; we refuse: see test_params.py
)
def test_heads_are_tied_where_they_tie_them(tmp_path, tied, kept):
    config = small(tie_word_embeddings=tied, initializer_range=0.1)
    random_oracle(config).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    head = tensors["transformer.wte.weight"]
    tensors["lm_head.weight"] = head + 1 * (kept == "another head")
    if kept == "head only":
        del tensors["transformer.wte.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    oracle = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    difference = picogpt.logits(our_model(tmp_path), np.arange(20)) - their_logits(
        oracle, np.arange(20)
    )
    assert np.abs(difference).max() < 2e-5


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False, "n_vocab": 300, "n_inner": 31, "layer_norm_epsilon": 1e-3},
        {"activation_function": "silu", "scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False, "eos_token_id": [266, 3], "bos_token_id": None},
    ],
)
def test_transformers_loads_what_save_writes(tmp_path, dtype, changes):
    model = small_model(generation={"do_sample": True, "top_k": 7}, **changes)
    model.params["wte"] *= 0.1  # so that logits stay small
    picogpt.save(model, tmp_path, dtype)
    oracle, info = GPT2LMHeadModel.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info.values()), info
    assert oracle.generation_config.top_k == 7 and oracle.generation_config.do_sample
    ids = np.random.default_rng(0).integers(0, model.config.n_vocab, model.config.n_ctx)
    saved = picogpt.load(tmp_path)
    assert np.abs(picogpt.logits(saved, ids) - their_logits(oracle.eval(), ids)).max() < 2e-5
    if dtype == np.float32:
        assert np.array_equal(picogpt.logits(saved, ids), picogpt.logits(model, ids))
    else:
        assert GPT2LMHeadModel.from_pretrained(tmp_path).dtype == torch.float16
    tokenizer = transformers.GPT2TokenizerFast.from_pretrained(tmp_path)
    text = "the train on the hill\n\n  is late again: naïve 日本 🙂"
    assert tokenizer(text)["input_ids"] == saved.encoder.encode(text)
    assert tokenizer.eos_token_id == 266 and len(tokenizer) == 267


def test_there_and_back(tmp_path):
    """transformers writes, picogpt loads and saves over it, transformers loads the same."""
    picogpt.save(small_model(), tmp_path)  # for its tokenizer
    oracle = random_oracle(small(vocab_size=267))
    oracle.save_pretrained(tmp_path)
    misalign(tmp_path)
    picogpt.save(picogpt.load(tmp_path), tmp_path)
    again = GPT2LMHeadModel.from_pretrained(tmp_path)
    for (name, a), b in zip(oracle.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_theirs(name):
    act = transformers.activations.ACT2FN[name]
    x = np.linspace(-30, 30, 60_001)
    with torch.no_grad():
        assert np.abs(ACTIVATIONS[name][0](x) - act(torch.tensor(x)).numpy()).max() < 1e-6
        x = x.astype(np.float32)
        assert np.abs(ACTIVATIONS[name][0](x) - act(torch.tensor(x)).numpy()).max() < 1e-5


def test_every_activation_without_weights_of_its_own_is_known():
    assert transformers.activations.ACT2FN.keys() - ACTIVATIONS.keys() <= {"prelu", "xielu"}


def test_erf_to_1e_7():
    x = np.random.default_rng(0).normal(0, 3, 1_000_000)
    assert np.abs(erf(x) - torch.erf(torch.tensor(x)).numpy()).max() < 1e-7


@pytest.fixture(scope="module")
def gpt2_124m(tmp_path_factory):
    """A folder with GPT-2 124M's shapes and transformers' own random weights."""
    folder = tmp_path_factory.mktemp("124M")
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config()).eval()
    model.save_pretrained(folder)
    yield folder, model
    shutil.rmtree(folder)


def greedy(model, ids, n_tokens):
    """Through the cache: the next n_tokens ids."""
    caches, new = picogpt.new_caches(model.config), list(ids)
    for _ in range(n_tokens):
        rows = picogpt.logits(model, new, caches=caches, last_only=True)
        new = [int(np.argmax(rows[0]))]
        yield new[0]


def test_124m_over_300_tokens_and_64_greedy_ones(gpt2_124m):
    folder, oracle = gpt2_124m
    model = our_model(folder)
    ids = np.random.default_rng(0).integers(0, 50257, 300)
    theirs, ours = their_logits(oracle, ids), picogpt.logits(model, ids)
    assert np.abs(ours - theirs).max() < 2e-4
    caches = picogpt.new_caches(model.config)
    parts = [picogpt.logits(model, part, caches=caches) for part in np.split(ids, [200, 297, 298])]
    assert np.abs(np.concatenate(parts) - ours).max() < 1e-5
    batched = picogpt.logits(model, ids, lengths=[7, 200, 93], last_only=True)
    alone = [picogpt.logits(model, part)[-1] for part in np.split(ids, [7, 207])]
    assert np.abs(batched - np.stack(alone)).max() < 1e-5

    prompt = torch.tensor(ids[:10])[None]
    options = {"max_new_tokens": 64, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = oracle.generate(prompt, attention_mask=torch.ones_like(prompt), **options)[0, 10:]
    assert list(greedy(model, ids[:10], 64)) == expected.tolist()
    misalign(folder)
    assert list(greedy(our_model(folder), ids[:10], 64)) == expected.tolist()


def test_64_greedy_tokens_of_an_odd_model(tmp_path):
    config = small(
        vocab_size=300, n_positions=80, n_embd=60, n_inner=77, activation_function="relu",
        initializer_range=0.2, scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False,
    )  # fmt: skip
    oracle = random_oracle(config)
    oracle.save_pretrained(tmp_path)
    prompt = torch.arange(10)[None]
    options = {"max_new_tokens": 64, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = oracle.generate(prompt, attention_mask=torch.ones_like(prompt), **options)[0, 10:]
    assert len(set(expected.tolist())) > 5  # it does not say the same thing all the time
    assert list(greedy(our_model(tmp_path), range(10), 64)) == expected.tolist()


def test_every_leaf_of_a_hub_like_file_is_aligned(gpt2_124m):
    folder, _ = gpt2_124m
    params = our_model(misalign(folder)).params
    for array in tree_leaves(params):
        assert array.flags.aligned and array.ctypes.data % 4 == 0
