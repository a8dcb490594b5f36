"""Features beside those of transformers, and on a cluster that loses a worker."""

import os

import numpy as np
import pytest
from models import small_folder
from oracles import oracle

from picogpt.model import load
from picogpt.tasks import features as module
from picogpt.tasks.features import features

torch = oracle("torch")
transformers = oracle("transformers")
distributed = oracle("distributed")


def sequences(n=80):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 267, size).tolist() for size in rng.integers(1, 33, n)]


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_features_are_transformers_hidden_states(tmp_path, layer):
    """The states that leave each block; the last through ln_f, as output_hidden_states has them."""
    folder, texts = small_folder(tmp_path), sequences()
    model = transformers.GPT2Model.from_pretrained(folder).eval()
    got = {pool: features(load(folder), texts, layer, pool) for pool in ("last", "mean", "tokens")}
    for i, ids in enumerate(texts):
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        theirs = states[layer][0].numpy()
        np.testing.assert_allclose(got["tokens"][i], theirs, atol=1e-4)
        np.testing.assert_allclose(got["last"][i], theirs[-1], atol=1e-4)
        np.testing.assert_allclose(got["mean"][i], theirs.mean(axis=0), atol=1e-4)


def test_a_dask_cluster_that_loses_a_worker_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "N_TOKENS", 64)
    folder, texts = str(small_folder(tmp_path)), sequences()
    model, n_done, real = load(folder), 0, module.run_all
    expected = features(model, texts)
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(processes=True, **options) as cluster,
        distributed.Client(cluster) as client,
    ):

        def losing(*args):
            nonlocal n_done
            for done in real(*args):
                n_done += 1
                if n_done == 5:
                    (pid, *_) = client.run(os.getpid).values()
                    os.kill(pid, 9)
                yield done

        monkeypatch.setattr(module, "run_all", losing)
        got = features(model, texts, executor=client.get_executor(), folder=folder)
        assert n_done == len(module.cut_into_batches([len(ids) for ids in texts])) > 10
    np.testing.assert_allclose(got, expected, atol=1e-6)
