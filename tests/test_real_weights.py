"""Is this GPT-2? What others published for the trained weights: pytest -m weights, with 124M."""

from pathlib import Path

import numpy as np
import pytest

from picogpt import generate, load, logits, loss_and_gradients
from picogpt.checkpoint.download import fetch_file
from picogpt.checkpoint.hub import find_model
from picogpt.optim import adamw, new_state
from picogpt.tools.errors import DownloadError
from picogpt.tools.tree import tree_map

pytestmark = pytest.mark.weights

SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"


@pytest.fixture(scope="module")
def model():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")  # a test run fetches no half gigabyte
        try:
            return load(find_model("124M"))
        except DownloadError:
            pytest.skip("124M isn't here: python gpt2.py hello --model_size 124M fetches it")


def test_picogpts_readme(model):
    prompt = "Alan Turing theorized that computers would one day become"
    assert "".join(generate(model, prompt, 40)) == (
        " the most powerful machines on the planet.\n\n"
        "The computer is a machine that can perform complex calculations, and it can perform these "
        "calculations in a way that is very similar to the human brain."
    )


def test_transformers_own_test(model):
    """test_lm_generate_gpt2 in tests/models/gpt2/test_modeling_gpt2.py."""
    ids = [464, 3290]  # The dog
    for _ in range(18):
        ids.append(int(logits(model, ids, last_only=True).argmax()))
    assert ids[2:] == [
        373, 1043, 287, 257, 2214, 1474, 262, 16246, 286, 2688, 290, 2688, 27262, 13, 198, 198,
        464, 3290,
    ]  # fmt: skip


def test_llm_cs_ten_training_losses(model):
    """test_gpt2.c: the same 4 x 64 tokens of tiny-shakespeare in every step."""
    ids = np.array(tiny_shakespeare_ids(model.encoder, 4 * 64 + 1))
    params = tree_map(np.copy, model.params)
    state, losses = new_state(params), []
    for _ in range(10):
        own = model._replace(params=params)
        loss, grads = loss_and_gradients(own, ids[:-1], ids[1:], lengths=[64] * 4)
        adamw(params, grads, state, lr=1e-4, weight_decay=0.01)
        losses.append(loss)
    published = [
        5.270007, 4.059707, 3.375123, 2.800783, 2.315382, 1.849029, 1.394656, 0.999147, 0.624080,
        0.376511,
    ]  # fmt: skip
    np.testing.assert_allclose(losses, published, rtol=0, atol=1e-2)


def tiny_shakespeare_ids(encoder, n):
    """The first n ids as llm.c has them: <|endoftext|> before every section between blank lines."""
    path = Path("~/.cache/picogpt/tinyshakespeare.txt").expanduser()
    try:
        fetch_file(SHAKESPEARE, path)
    except DownloadError as error:
        pytest.skip(f"tiny-shakespeare is not on this machine: {error}")
    ids = []
    for section in path.read_text(encoding="utf-8").split("\n\n"):
        ids += [encoder.end_of_text, *encoder.encode(section + "\n\n")]
        if len(ids) >= n:
            return ids[:n]
