"""Sampling, greedy text and generation_config.json against transformers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from models import small_encoder
from oracles import oracle

import gpt2
from picogpt import generate_batch, load, logits
from picogpt.checkpoint.generation_config import processor_settings
from picogpt.generation import distribution, end_tokens, keep_top_k, keep_top_p, sampling_for
from picogpt.kernels import softmax
from picogpt.logits_processors import penalize_repetition, process_logits
from picogpt.tokenizer.tokenizer_files import save_encoder
from picogpt.tools.cli import call

torch = oracle("torch")
transformers = oracle("transformers")
processors = oracle("transformers.generation.logits_process")

N_CTX = 64
PROMPTS = ["the rain in", "a", "There, there: 한국어 and on", "x" * 63, "y" * 64]


def some_scores(rng, n_vocab, ties):
    scores = 4 * rng.standard_normal(n_vocab).astype(np.float32)
    return np.round(2 * scores) / 2 if ties else scores


def theirs(processor, scores):
    return processor(None, torch.tensor(scores)[None])[0].numpy()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n_vocab", [2, 11, 267, 50257])
def test_filters_are_transformers(n_vocab, ties):
    rng = np.random.default_rng(n_vocab)
    for _ in range(5):
        scores = some_scores(rng, n_vocab, ties)
        for k in (1, 2, 5, 50, n_vocab - 1, n_vocab, n_vocab + 1):
            top_k = theirs(processors.TopKLogitsWarper(k), scores)
            np.testing.assert_array_equal(keep_top_k(scores, k), top_k)
        for p in (1e-12, 1e-6, 0.1, 0.5, 0.9, 0.95, 0.999, 0.999999):
            assert_same_top_p(scores, p)
            assert_same_top_p(keep_top_k(scores, 5), p)


def assert_same_top_p(scores, p):
    """As many tokens stay, of the same scores: which of several equals, their sort leaves open.

    Where the sum reaches p to within rounding, one more or less is no mistake.
    """
    ours = np.sort(keep_top_p(scores, p))
    expected = np.sort(theirs(processors.TopPLogitsWarper(p), scores))
    tail = np.cumsum(softmax(np.sort(scores).astype(np.float64)))
    assert np.all(np.abs(tail[ours != expected] - (1 - p)) < 3e-7)


@pytest.mark.parametrize("temperature", [1e-4, 0.3, 0.7, 1.0, 2.5])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (50, 1.0), (0, 0.9), (7, 0.9), (1, 0.5)])
def test_distribution_is_that_of_the_chain_of_transformers_processors(temperature, top_k, top_p):
    rng = np.random.default_rng(0)
    for ties in (False, True):
        scores = some_scores(rng, 267, ties)
        expected = theirs(processors.TemperatureLogitsWarper(temperature), scores)
        if top_k:
            expected = theirs(processors.TopKLogitsWarper(top_k), expected)
        if top_p < 1:
            expected = theirs(processors.TopPLogitsWarper(top_p), expected)
        expected = np.sort(torch.tensor(expected).softmax(-1).numpy())
        ours = np.sort(distribution(scores, temperature, top_k, top_p))
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("ids", [[3], [1, 2, 3, 1, 2], list(range(40)) * 2, [7, 9, 7, 8, 9, 7, 9]])
def test_logits_processors_are_transformers(ids):
    rng = np.random.default_rng(len(ids))
    batch = torch.tensor([ids])
    for scores in (some_scores(rng, 267, ties=False), some_scores(rng, 267, ties=True)):
        row = torch.tensor(scores)[None]
        for penalty in (0.5, 1.2, 3.0):
            expected = processors.RepetitionPenaltyLogitsProcessor(penalty)(batch, row)[0].numpy()
            np.testing.assert_array_equal(penalize_repetition(scores, ids, penalty), expected)
        for n in (1, 2, 3, 5):
            expected = processors.NoRepeatNGramLogitsProcessor(n)(batch, row)[0].numpy()
            ours = process_logits(scores, ids, 1, no_repeat_ngram_size=n)
            np.testing.assert_array_equal(ours, expected)
        words = [[9], [2, 4], [7, 9, 11], [1, 2, 3], [266], [5, 266]]
        expected = processors.NoBadWordsLogitsProcessor(words, [266])(batch, row)[0].numpy()
        ours = process_logits(scores, ids, 1, bad_words_ids=words, eos_token_id=[266])
        np.testing.assert_array_equal(ours, expected)


class Theirs:
    """A random GPT-2 with its tokenizer, as transformers loads them from a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.tokenizer = transformers.GPT2TokenizerFast.from_pretrained(folder)
        self.model = transformers.GPT2LMHeadModel.from_pretrained(folder)

    def generate(self, ids, n_tokens, **options):
        ids = torch.tensor([ids])
        return self.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_tokens, pad_token_id=0,
            return_dict_in_generate=True, output_scores=True, **options,
        )  # fmt: skip

    def greedy(self, prompt, n_tokens):
        """Their greedy text; where positions run out, from the newest half of them."""
        ids, written = self.tokenizer(prompt)["input_ids"], []
        while len(written) < n_tokens:
            if len(ids) > N_CTX:
                ids = ids[-(N_CTX // 2) :]
            room = min(N_CTX + 1 - len(ids), n_tokens - len(written))
            new = self.generate(ids, room).sequences[0, len(ids) :].tolist()
            ids, written = ids + new, written + new
            if new[-1] == 266:
                break
        return self.tokenizer.decode([id for id in written if id != 266])


@pytest.fixture(scope="module")
def their(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=267, n_positions=N_CTX, n_embd=32, n_layer=2, n_head=4, bos_token_id=266,
        eos_token_id=266, initializer_range=0.3,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    save_encoder(small_encoder(), folder / "plain")
    tokenizer = transformers.GPT2TokenizerFast.from_pretrained(folder / "plain")
    tokenizer.save_pretrained(folder)
    return Theirs(folder)


@pytest.fixture
def changed(their, tmp_path):
    """Make of `their` another: with this generation_config.json (or none), and another config."""

    def change(generation, **config):
        folder = tmp_path / "changed"
        shutil.copytree(their.folder, folder)
        values = json.loads((folder / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(values))
        (folder / "generation_config.json").unlink()
        if generation is not None:
            (folder / "generation_config.json").write_text(json.dumps(generation))
        return Theirs(folder)

    return change


def test_gpt2_py_streams_the_greedy_text_of_transformers(their, capsys):
    for prompt in PROMPTS:
        for n_tokens in (1, 40, 150):
            flags = ["--model_size", str(their.folder), "--n_tokens_to_generate", str(n_tokens)]
            assert call(gpt2.main, [prompt, *flags]) == 0
            assert capsys.readouterr().out == their.greedy(prompt, n_tokens) + "\n"


def test_so_it_does_as_a_process(their):
    done = subprocess.run(
        [sys.executable, Path(gpt2.__file__), PROMPTS[0], "--model_size", their.folder],
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.decode() == their.greedy(PROMPTS[0], 40) + "\n"


def test_a_batch_is_the_greedy_text_of_transformers(their):
    texts = generate_batch(load(their.folder), PROMPTS, 100)
    assert texts == [their.greedy(prompt, 100) for prompt in PROMPTS]


@pytest.mark.parametrize(
    "generation",
    [
        {"do_sample": True},
        {"do_sample": True, "temperature": 0.5},
        {"do_sample": True, "top_k": 0},
        {"do_sample": True, "top_k": None, "temperature": None, "top_p": None},
        {"do_sample": True, "top_k": 5, "top_p": 0.5, "temperature": 2.0},
        {"do_sample": True, "top_k": 9999, "top_p": 1.0},
    ],
    ids=str,
)
def test_generation_config_means_what_it_means_to_transformers(changed, generation):
    their = changed(generation)
    ids = their.tokenizer(PROMPTS[0])["input_ids"]
    expected = their.generate(ids, 1).scores[0][0]
    model = load(their.folder)
    ours = distribution(logits(model, ids)[-1], **sampling_for(model))
    np.testing.assert_allclose(ours, expected.softmax(-1).numpy(), rtol=1e-3, atol=1e-7)
    asked = their.generate(ids, 1, temperature=0.7).scores[0][0]
    ours = distribution(logits(model, ids)[-1], **sampling_for(model, temperature=0.7))
    np.testing.assert_allclose(ours, asked.softmax(-1).numpy(), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("generation", [{}, {"do_sample": False, "temperature": 0.7, "top_k": 3}])
def test_greedy_is_what_transformers_takes_for_greedy(changed, generation):
    their = changed(generation)
    ids = their.tokenizer(PROMPTS[2])["input_ids"]
    texts = {tuple(their.generate(ids, 20).sequences[0, len(ids) :].tolist()) for _ in range(3)}
    assert len(texts) == 1
    assert generate_batch(load(their.folder), [PROMPTS[2]], 20) == [their.tokenizer.decode(*texts)]


SETTINGS = [
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8, "no_repeat_ngram_size": 3},
    {"no_repeat_ngram_size": 1},
    {"suppress_tokens": [-1, *range(40, 200), 300]},
    {"begin_suppress_tokens": list(range(0, 267, 2))},
    {"bad_words_ids": [[id] for id in range(0, 266, 3)] + [[1, 2], [266]]},
    {"min_length": 20, "eos_token_id": list(range(0, 267, 2))},
    {"min_new_tokens": 7, "eos_token_id": list(range(0, 267, 2))},
    {"min_new_tokens": 3, "min_length": 30, "eos_token_id": list(range(0, 267, 2))},
]


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
@pytest.mark.parametrize("settings", SETTINGS, ids=", ".join)
def test_settings_are_followed_as_transformers_follows_them(changed, settings, file):
    settings = {"eos_token_id": 266} | settings
    in_config = file == "config.json"
    their = changed(None if in_config else settings, **(settings if in_config else {}))
    ids = their.tokenizer(PROMPTS[2])["input_ids"]
    new = their.generate(ids, 30).sequences[0, len(ids) :].tolist()
    ends = settings["eos_token_id"]
    if new[-1] in (ends if isinstance(ends, list) else [ends]):
        new = new[:-1]
    assert generate_batch(load(their.folder), [PROMPTS[2]], 30) == [their.tokenizer.decode(new)]


CARDS = {
    "rinna": {
        "do_sample": True, "temperature": 0.8, "top_k": 20, "top_p": 0.95,
        "bad_words_ids": [[3]], "min_length": 30, "repetition_penalty": 1.1,
    },
    "DialoGPT": {"do_sample": True, "top_k": 100, "top_p": 0.7, "no_repeat_ngram_size": 3},
    "distilgpt2": {"do_sample": True, "task_specific_params": {"text-generation": {"top_k": 2}}},
}  # fmt: skip


@pytest.mark.parametrize("card", CARDS)
def test_drawing_as_published_models_want_it(changed, card):
    """Along a text that transformers draws, each token's chances are those it drew from."""
    their = changed(None, activation_function="gelu_fast", **CARDS[card])
    prompt = their.tokenizer(PROMPTS[2])["input_ids"]
    torch.manual_seed(0)
    out = their.generate(prompt, 12)
    model = load(their.folder)
    ids, sampling = list(prompt), sampling_for(model)
    processing = processor_settings(model.generation, end_tokens(model))
    for token, scores in zip(out.sequences[0, len(prompt) :].tolist(), out.scores):
        row = process_logits(logits(model, ids)[-1], ids, len(prompt), **processing)
        expected = scores[0].softmax(-1).numpy()
        np.testing.assert_allclose(distribution(row, **sampling), expected, rtol=2e-3, atol=1e-6)
        ids.append(token)


def test_each_of_these_settings_changes_the_text(changed):
    plain = changed({"eos_token_id": 266})
    ids = plain.tokenizer(PROMPTS[2])["input_ids"]
    free = plain.generate(ids, 30).sequences[0].tolist()
    for settings in SETTINGS:
        assert plain.generate(ids, 30, **settings).sequences[0].tolist() != free


def test_a_text_ends_at_the_stop_string_where_transformers_ends_it(their, changed):
    ids = their.tokenizer(PROMPTS[2])["input_ids"]
    letters = {"suppress_tokens": list(range(94, 256))}  # a stop string is sought in whole ones
    text = their.tokenizer.decode(their.generate(ids, 30, **letters).sequences[0, len(ids) :])
    stop = text[8:11]
    other = changed({"stop_strings": [stop], **letters})
    new = other.generate(ids, 30, tokenizer=other.tokenizer).sequences[0, len(ids) :]
    said = other.tokenizer.decode(new)
    assert stop in said and len(new) < 30  # theirs keeps the string, ours ends before it
    assert generate_batch(load(other.folder), [PROMPTS[2]], 30) == [said[: said.index(stop)]]


@pytest.mark.parametrize("in_config", [None, 266, "first", ["third", 266]])
@pytest.mark.parametrize("in_generation_config", ["no file", "silent", "second", [1, "first"]])
def test_a_text_ends_where_transformers_ends_it(their, changed, in_config, in_generation_config):
    ids = their.tokenizer(PROMPTS[2])["input_ids"]
    free = their.generate(ids, 30).sequences[0, len(ids) :].tolist()
    first, second, third = list(dict.fromkeys(free))[2:7:2]  # ids in the order in which they come
    names = {"first": first, "second": second, "third": third}

    def named(ends):
        return [named(e) for e in ends] if isinstance(ends, list) else names.get(ends, ends)

    generation = {"do_sample": False, "eos_token_id": named(in_generation_config)}
    if in_generation_config == "silent":
        del generation["eos_token_id"]
    if in_generation_config == "no file":
        generation = None
    other = changed(generation, eos_token_id=named(in_config))
    new = other.generate(ids, 30).sequences[0, len(ids) :].tolist()
    if len(new) < 30:
        new = new[:-1]  # the end token is no text
    assert generate_batch(load(other.folder), [PROMPTS[2]], 30) == [their.tokenizer.decode(new)]
