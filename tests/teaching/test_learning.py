"""One step of learning: its numbers are those of backprop and optim, followed by hand."""

import numpy as np
import pytest
from models import small_model

import picogpt
from picogpt import optim
from picogpt.kernels import softmax
from picogpt.teaching import learning
from picogpt.teaching.page import explain
from picogpt.tools.tree import tree_leaves, tree_map

IDS, OTHER = [3, 7, 7, 1, 200, 12], [5, 3, 9]


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def learned(model):
    before = tree_map(np.copy, model.params)
    learned = learning.learn(model, IDS, OTHER)
    assert all(map(np.array_equal, tree_leaves(before), tree_leaves(model.params)))
    return learned


def test_losses_are_those_of_the_logits(model, learned):
    p = softmax(picogpt.logits(model, IDS[:-1]).astype(np.float64))
    wanted = [-np.log(row[id]) for row, id in zip(p, IDS[1:])]
    np.testing.assert_allclose(learned["losses"][0], wanted, atol=2e-5)
    assert len(learned["losses"]) == len(learned["other_losses"]) == learning.N_STEPS + 1


def test_every_step_is_adamws(model, learned):
    params = tree_map(np.copy, model.params)
    state, decays = optim.new_state(params), optim.decay_mask(params)
    for n in range(1, learning.N_STEPS + 1):
        _, grads = picogpt.loss_and_gradients(model._replace(params=params), IDS[:-1], IDS[1:])
        rate, decay = learned["rate"], learned["decay"]
        optim.adamw(params, grads, state, rate, weight_decay=decay, decays=decays)
        now = model._replace(params=params)
        np.testing.assert_allclose(learned["losses"][n], learning.token_losses(now, IDS), atol=2e-5)
        other = learning.token_losses(now, OTHER).mean()
        assert learned["other_losses"][n] == pytest.approx(other, abs=2e-5)
    assert np.mean(learned["losses"][-1]) < 0.5 * np.mean(learned["losses"][0])


def test_norms_are_the_gradients(model, learned):
    _, grads = picogpt.loss_and_gradients(model, IDS[:-1], IDS[1:])
    norms = learned["step"]["norms"]

    def norm(part):
        return np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in tree_leaves(part)))

    for row, block in zip(norms["blocks"], grads["blocks"], strict=True):
        parts = [block["ln_1"], block["attn"]["c_attn"], block["attn"]["c_proj"], block["ln_2"],
                 block["mlp"]["c_fc"], block["mlp"]["c_proj"]]  # fmt: skip
        assert row == pytest.approx([norm(part) for part in parts], rel=1e-5)
    assert norms["ends"] == pytest.approx(
        {name: norm(part) for name, part in grads.items() if name != "blocks"}, rel=1e-5
    )
    assert norms["all"] == pytest.approx(norm(grads), rel=1e-5)


def test_the_chosen_gradient_is_the_largest_and_its_finite_difference(model, learned):
    _, grads = picogpt.loss_and_gradients(model, IDS[:-1], IDS[1:])
    matrices = [block["attn"]["c_attn"]["w"] for block in grads["blocks"]]
    step = learned["step"]
    largest = max(np.abs(dw).max() for dw in matrices)
    assert abs(step["gradients"][0]) == pytest.approx(largest)
    for (row, column), g in zip(step["places"], step["gradients"]):
        assert matrices[step["block"]][row, column] == pytest.approx(g)
    assert step["checked"]["slope"] == pytest.approx(step["gradients"][0], rel=2e-3)
    mean = np.mean(learned["losses"][0])
    assert min(step["checked"]["up"], step["checked"]["down"]) < mean + 1e-4
    assert max(step["checked"]["up"], step["checked"]["down"]) > mean - 1e-4


def test_the_first_step_by_hand(learned):
    step, rate, decay = learned["step"], learned["rate"], learned["decay"]
    after = [step["after"][name] for name in ("m", "v", "w")]
    for w, g, m, v, new in zip(step["before"], step["gradients"], *after):
        assert (m, v) == (pytest.approx(0.1 * g, rel=1e-4), pytest.approx(0.001 * g * g, rel=1e-3))
        by_hand = (1 - rate * decay) * w - rate * (m / 0.1) / ((v / 0.001) ** 0.5 + 1e-8)
        assert new == pytest.approx(by_hand, abs=1e-6)
        assert abs(new - w) == pytest.approx(rate, rel=0.02)  # large gradient or small


def test_a_page_learns_where_asked():
    model = small_model(n_ctx=64)
    assert '"learning":{' in explain("The cat sat", model=model, learn=True).html
    assert '"learning":{' not in explain("The cat sat", model=model).html
    page = explain("The cat sat", "a", model=model, learn=True)  # one token foretells nothing
    assert "NaN" not in page.html.partition('id="data">')[2].partition("</script>")[0]
