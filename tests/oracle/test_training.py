"""Trained models and perplexity beside transformers."""

import math
import signal

import numpy as np
import pytest
from models import small_folder
from oracles import oracle

from picogpt.model import load, logits
from picogpt.tasks.metrics import text_loss
from picogpt.tools.cli import call
from picogpt.train import main
from picogpt.training import loop

torch = oracle("torch")
transformers = oracle("transformers")


def transformers_loss(folder, ids, n_ctx, stride):
    """The strided rule of Hugging Face's page on perplexity, over ids whose first is not scored."""
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    ids, loss, end_before = torch.tensor([ids]), 0.0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + n_ctx, ids.shape[1])
        targets = ids[:, begin:end].clone()
        targets[:, : -(end - end_before)] = -100
        n_scored = int((targets[:, 1:] != -100).sum())
        with torch.no_grad():
            loss += float(model(ids[:, begin:end], labels=targets).loss) * n_scored
        end_before = end
        if end == ids.shape[1]:
            return loss


@pytest.mark.parametrize("text", ["one", "the other one in the stone tower " * 40])
def test_perplexity_agrees_with_transformers(tmp_path, text):
    folder = small_folder(tmp_path, n_ctx=32)
    model = load(folder)
    ids = [model.encoder.end_of_text, *model.encoder.encode(text)]
    loss, n_tokens = text_loss(model, [text])
    expected = transformers_loss(folder, ids, 32, 16)
    assert math.exp(loss / n_tokens) == pytest.approx(math.exp(expected / n_tokens), rel=1e-4)


@pytest.mark.parametrize("stopped", [False, True])
def test_transformers_loads_what_the_trainer_writes(tmp_path, monkeypatch, stopped):
    text = tmp_path / "text.txt"
    rng = np.random.default_rng(0)
    text.write_text("".join(f"{a} and {b}\n" for a, b in rng.integers(0, 99, (2000, 2))))
    out = tmp_path / "out"
    flags = {"data": text, "out": out, "n_layer": 2, "n_embd": 24, "n_head": 2, "n_ctx": 16}
    flags |= {"vocab_size": 300, "n_steps": 20}
    if stopped:
        train_step = loop.train_step

        def step_and_press(model, state, windows, step, *rest):
            if step == 12:
                signal.raise_signal(signal.SIGINT)
            return train_step(model, state, windows, step, *rest)

        monkeypatch.setattr(loop, "train_step", step_and_press)
    code = call(main, [f"--{name}={value}" for name, value in flags.items()])
    assert code == (130 if stopped else 0)
    model = load(out)
    tokenizer = transformers.GPT2TokenizerFast.from_pretrained(out)
    ids = model.encoder.encode("12 and 34\n")
    assert tokenizer("12 and 34\n").input_ids == ids
    with torch.no_grad():
        theirs = transformers.GPT2LMHeadModel.from_pretrained(out)(torch.tensor([ids])).logits[0]
    np.testing.assert_allclose(logits(model, ids), theirs.numpy(), atol=2e-5)
