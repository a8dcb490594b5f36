"""Ten steps of the sonnet trainer beside torch's, in the same order of the poems."""

import numpy as np
import pytest
from models import small_folder
from oracles import oracle

from picogpt.checkpoint.weights import checkpoint_tree
from picogpt.model import load
from picogpt.tasks.course_files import SAMPLES, read_sonnets
from picogpt.tasks.recipes import Recipe
from picogpt.tasks.sonnets import train_sonnets
from picogpt.tools.tree import tree_leaves

torch = oracle("torch")
transformers = oracle("transformers")
torch.set_num_threads(1)  # small products

EPOCHS, BATCH, LR, SEED = 5, 5, 3e-4, 2  # nine poems: two steps an epoch


def theirs(folder, texts, first):
    """Train with torch: mean loss by epoch, the model."""
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    gpt = model.transformer
    for module in [gpt.wte, gpt.wpe, *gpt.h[:first]] if first else []:
        module.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR, eps=1e-6, weight_decay=0.0)
    losses = []
    for epoch in range(EPOCHS):
        order, loss_sum = np.random.default_rng([SEED, epoch]).permutation(len(texts)), 0.0
        for start in range(0, len(texts), BATCH):
            rows = order[start : start + BATCH]
            ids = [torch.tensor(texts[i]) for i in rows]
            inputs = torch.nn.utils.rnn.pad_sequence([x[:-1] for x in ids], batch_first=True)
            targets = torch.nn.utils.rnn.pad_sequence(
                [x[1:] for x in ids], batch_first=True, padding_value=-100
            )
            mask = (targets != -100).float()
            scores = model(inputs, attention_mask=mask).logits
            loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(rows) / len(texts)
        losses.append(loss_sum)
    return losses, model


@pytest.mark.parametrize("first", [0, 1])  # all layers; the top two of three
def test_losses_and_weights_are_torchs(tmp_path, first):
    folder = small_folder(tmp_path, n_layer=3, n_ctx=64)
    whole = read_sonnets(SAMPLES / "sonnets.txt")
    poems = ["\n".join(poem.split("\n")[: 1 + i % 3]) for i, poem in enumerate(whole)]
    model = load(folder)
    end = model.encoder.end_of_text
    texts = [[end, *model.encoder.encode(poem), end][: 1 + 64] for poem in poems]
    expected, trained = theirs(folder, texts, first)
    recipe = Recipe(EPOCHS, BATCH, LR, eps=1e-6)
    history = train_sonnets(model, poems, recipe, first=first, seed=SEED)
    np.testing.assert_allclose([row["train loss"] for row in history], expected, rtol=1e-4)
    assert expected[-1] < expected[0]
    state = trained.transformer.state_dict()
    leaves = tree_leaves(checkpoint_tree(model.config))
    for (name, _), w in zip(leaves, tree_leaves(model.params), strict=True):
        np.testing.assert_allclose(w, state[name].numpy(), atol=1e-4, err_msg=name)
