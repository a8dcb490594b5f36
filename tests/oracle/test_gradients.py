"""Gradients and training steps beside torch's own, for transformers' GPT2LMHeadModel."""

import numpy as np
import pytest
from differences import relative_error
from models import random_params, small_config
from oracles import oracle

import picogpt
from picogpt import backprop, optim
from picogpt.activations import ACTIVATIONS
from picogpt.checkpoint.config import Config, save_config
from picogpt.checkpoint.weights import checkpoint_tree, save_params
from picogpt.tools.tree import tree_leaves, tree_map, tree_paths

torch = oracle("torch")
transformers = oracle("transformers")

SMALL = {"n_vocab": 300, "n_ctx": 48, "n_embd": 48, "n_head": 4, "n_layer": 3}


def both(folder, config, seed=0, std=0.1):
    """The same random model twice: ours, and theirs without dropout."""
    params = random_params(config, seed, std=std)
    save_params(params, config, folder)
    save_config(config, folder)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager")
    return picogpt.Model(params, config, None), theirs.eval()


def batch(config, lengths, seed=0):
    """Ids and targets, a fifth of which is not scored."""
    rng = np.random.default_rng(seed)
    ids, targets = rng.integers(0, config.n_vocab, (2, sum(lengths)))
    targets[rng.random(len(ids)) < 0.2] = -100
    return ids, targets


def their_loss(model, ids, targets, lengths):
    """Every sequence alone; the mean over all that is scored."""
    loss = 0
    for part, wanted in zip(*(torch.tensor(a).split(lengths) for a in (ids, targets))):
        logits = model(part[None]).logits[0]
        loss += torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
    return loss / (targets != -100).sum()


def their_parameters(model, config):
    """In the tree of ours: torch's parameters."""
    named = dict(model.named_parameters())
    names = tree_map(lambda leaf: leaf[0], checkpoint_tree(config))
    return tree_map(lambda name: named[name if name in named else f"transformer.{name}"], names)


def freeze(model, config, first):
    """What first_trained_block freezes; give back the parameters that train, with their paths."""
    parameters = their_parameters(model, config)
    frozen = [parameters["wte"], parameters["wpe"], *tree_leaves(parameters["blocks"][:first])]
    for parameter in frozen if first else []:
        parameter.requires_grad_(False)
    pairs = zip(tree_leaves(tree_paths(parameters)), tree_leaves(parameters))
    return {path: parameter for path, parameter in pairs if parameter.requires_grad}


def compare(ours, theirs, lengths, tolerance=1e-4, **options):
    config = ours.config
    ids, targets = batch(config, lengths)
    trained = freeze(theirs, config, options.get("first_trained_block", 0))
    expected = their_loss(theirs, ids, targets, lengths)
    expected.backward()
    loss, grads = picogpt.loss_and_gradients(ours, ids, targets, lengths, **options)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    found = dict(zip(tree_leaves(tree_paths(grads)), tree_leaves(grads)))
    assert list(found) == list(trained)
    for path, parameter in trained.items():
        assert relative_error(found[path], parameter.grad.numpy()) <= tolerance, path


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("tied", [True, False])
def test_every_tensors_gradient(tmp_path, activation, tied):
    config = small_config(**SMALL, activation_function=activation, tie_word_embeddings=tied)
    compare(*both(tmp_path, config), [48])


CONFIGS = [
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True},
    {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True, "n_inner": 70},
    {"layer_norm_epsilon": 0.1, "tie_word_embeddings": False, "n_inner": 17},
    {"n_head": 1, "n_layer": 1},
    {"n_layer": 0},
]


@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_odd_configurations(tmp_path, changes):
    compare(*both(tmp_path, small_config(**{**SMALL, **changes})), [20, 7])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("first", range(4))
def test_ragged_lengths_and_frozen_layers(tmp_path, first, tied):
    config = small_config(**SMALL, tie_word_embeddings=tied)
    compare(*both(tmp_path, config), [33, 1, 48, 2, 1, 17], first_trained_block=first)


def test_gpt2s_own_widths(tmp_path):
    compare(*both(tmp_path, Config(n_layer=2, n_ctx=64), std=0.02), [40, 13])


@pytest.mark.parametrize("first", [0, 1, 3])
def test_dropout_is_where_gpt2_has_it(tmp_path, monkeypatch, first):
    """Torch is given our masks: the embeddings', then each block's weights, attn and mlp."""
    config = small_config(**SMALL)
    ours, theirs = both(tmp_path, config)
    ids, targets = batch(config, [48])
    options = {"dropout": 0.3, "first_trained_block": first}
    kept = {}
    hook = backprop.keep_activations(kept)
    backprop.stack_forward(
        ours.params, ids, config, hook, rng=np.random.default_rng(1), **options
    )
    masks = [kept.get("embd_dropped", 1.0)]
    for i in range(config.n_layer):
        names = [f"blocks.{i}.{name}_dropped" for name in ("weights", "attn", "mlp")]
        masks += [kept.get(name, 1.0) for name in names]
    given = iter(masks)
    monkeypatch.setattr(
        torch.nn.functional, "dropout", lambda x, *_, **__: x * torch.as_tensor(next(given))
    )
    theirs.train()
    compare(ours, theirs, [48], rng=np.random.default_rng(1), **options)
    assert next(given, None) is None and sum(np.ndim(mask) > 0 for mask in masks) == (
        3 * (3 - first) + (first == 0)
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("first", [0, 1, 3])
def test_ten_steps_give_torchs_ten_losses(tmp_path, first, tied):
    """AdamW with decay of matrices alone, warm-up and cosine, clipping, frozen layers."""
    config, lengths = small_config(**SMALL, tie_word_embeddings=tied), [48, 20, 1]
    ours, theirs = both(tmp_path, config)
    trained = freeze(theirs, config, first)
    decays = {True: [], False: []}
    for parameter in trained.values():
        decays[parameter.ndim > 1].append(parameter)
    groups = [{"params": decays[yes], "weight_decay": 0.1 * yes} for yes in (True, False)]
    optimizer = torch.optim.AdamW(groups)
    state, mask = optim.new_state(ours.params), optim.decay_mask(ours.params)
    before = tree_map(np.copy, ours.params)
    losses, expected = [], []
    for step in range(10):
        ids, targets = batch(config, lengths, seed=step % 2)
        rate = optim.learning_rate(step, 3e-3, 10, warmup=3)
        loss, grads = picogpt.loss_and_gradients(
            ours, ids, targets, lengths, first_trained_block=first
        )
        norm = optim.clip(grads, 0.02)
        optim.adamw(ours.params, grads, state, rate, weight_decay=0.1, decays=mask)

        their = their_loss(theirs, ids, targets, lengths)
        optimizer.zero_grad()
        their.backward()
        their_norm = torch.nn.utils.clip_grad_norm_(trained.values(), 0.02).item()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()

        assert norm == pytest.approx(their_norm, rel=1e-3) and norm > 0.02
        losses.append(loss)
        expected.append(their.item())
    assert np.abs(np.subtract(losses, expected)).max() <= 1e-4
    assert losses[8] < losses[0] - 0.01 and losses[9] < losses[1] - 0.01
    trees = before, ours.params, their_parameters(theirs, config)
    paths = tree_leaves(tree_paths(ours.params))
    for path, old, new, wanted in zip(paths, *map(tree_leaves, trees), strict=True):
        assert np.array_equal(old, new) == (path not in trained), path
        assert np.abs(new - wanted.detach().numpy()).max() < 1e-3, path
