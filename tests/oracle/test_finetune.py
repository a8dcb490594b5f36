"""Twenty steps of fine-tuning a classifier beside torch's, in the same order of the data."""

import numpy as np
import pytest
from models import small_folder
from oracles import oracle

from picogpt.checkpoint.weights import checkpoint_tree
from picogpt.model import load
from picogpt.optim import learning_rate
from picogpt.tasks.classifier import train_classifier
from picogpt.tasks.heads import new_head
from picogpt.tasks.recipes import Recipe
from picogpt.tools.tree import tree_leaves

torch = oracle("torch")
transformers = oracle("transformers")
torch.set_num_threads(1)  # small products

N, EPOCHS, BATCH, LR, DECAY = 80, 4, 16, 3e-4, 0.05  # 20 steps
SEED = 3


def data():
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 267, n).tolist() for n in rng.integers(1, 32, N)]
    return sequences, rng.integers(0, 3, N)


class Classifier(torch.nn.Module):
    """A GPT-2 of transformers, and a linear layer on the last token or on the mean."""

    def __init__(self, folder, head, pool):
        super().__init__()
        self.gpt = transformers.GPT2Model.from_pretrained(folder)
        self.head = torch.nn.Linear(*head["w"].shape)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor(head["w"].T))
            self.head.bias.copy_(torch.tensor(head["b"]))
        self.pool = pool

    def forward(self, sequences):
        lengths = torch.tensor([len(ids) for ids in sequences])
        ids = torch.nn.utils.rnn.pad_sequence(map(torch.tensor, sequences), batch_first=True)
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).float()
        x = self.gpt(ids, attention_mask=mask).last_hidden_state
        if self.pool == "mean":
            return self.head((x * mask[..., None]).sum(dim=1) / lengths[:, None])
        return self.head(x[torch.arange(len(x)), lengths - 1])


def theirs(folder, head, pool, first, epsilon):
    """Train with torch: losses by epoch, the module."""
    sequences, labels = data()
    model = Classifier(folder, head, pool).eval()  # no dropout
    if first:
        frozen = [model.gpt.wte, model.gpt.wpe, *model.gpt.h[:first]]
        for module in frozen:
            module.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, eps=epsilon)
    losses, n_batches = [], -(-N // BATCH)
    for epoch in range(EPOCHS):
        order, loss_sum = np.random.default_rng([SEED, epoch]).permutation(N), 0.0
        for batch in range(n_batches):
            rows = order[batch * BATCH : (batch + 1) * BATCH]
            step = epoch * n_batches + batch
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, LR, EPOCHS * n_batches, 2, 0.0)
            scores = model([sequences[i] for i in rows])
            loss = torch.nn.functional.cross_entropy(scores, torch.tensor(labels[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(rows) / N
        losses.append(loss_sum)
    return losses, model


@pytest.mark.parametrize("pool", ["last", "mean"])
@pytest.mark.parametrize("first", [0, 1])  # all layers; the top two of three
def test_losses_and_weights_are_torchs(tmp_path, first, pool):
    folder = small_folder(tmp_path, n_layer=3)
    head = new_head(24, 3, seed=1)
    epsilon = 1e-6  # the keys' bias has no gradient but rounding errors, and no size in AdamW then
    expected, trained = theirs(folder, head, pool, first, epsilon)
    model = load(folder)
    history = train_classifier(
        model, head, *data(),
        Recipe(EPOCHS, BATCH, LR, warmup=0.1, final=0.0, eps=epsilon, weight_decay=DECAY),
        first=first, pool=pool, seed=SEED,
    )  # fmt: skip
    np.testing.assert_allclose([row["train loss"] for row in history], expected, rtol=1e-4)
    assert expected[-1] < 0.97 * expected[0]
    state = trained.gpt.state_dict()
    for (name, _), w in zip(
        tree_leaves(checkpoint_tree(model.config)), tree_leaves(model.params), strict=True
    ):
        np.testing.assert_allclose(w, state[name].numpy(), atol=1e-4, err_msg=name)
    np.testing.assert_allclose(head["w"], trained.head.weight.detach().numpy().T, atol=1e-4)
    np.testing.assert_allclose(head["b"], trained.head.bias.detach().numpy(), atol=1e-4)
