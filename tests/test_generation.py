"""Sampling and the decode loop; tests/oracle/test_generation.py compares them with transformers."""

import inspect

import numpy as np
import pytest
from models import MERGES, small_encoder, small_model
from reciter import END, ID_OF_BYTE, reciter

from picogpt import generate, generate_batch, logits
from picogpt.generation import (
    begin,
    distribution,
    keep_top_k,
    keep_top_p,
    next_token_probabilities,
    notify,
    sample,
    sampling_for,
    stream,
    truncate,
)
from picogpt.logits_processors import process_logits
from picogpt.tokenizer.encoder import Encoder
from picogpt.tools.errors import CheckpointError, TextError, UsageError

OUT = -np.inf
PROMPTS = ["the rain in", "a", "one on the other, there and then at"]


def naive_greedy(model, prompt, n_tokens):
    """Greedy ids without caches, batches or streams: the rule of the window, spelled out."""
    n_ctx = model.config.n_ctx
    ids, written = model.encoder.encode(prompt), []
    if len(ids) > n_ctx:
        ids = ids[-(n_ctx // 2) :]
    for _ in range(n_tokens):
        written.append(int(np.argmax(logits(model, ids)[-1, : model.encoder.n_vocab])))
        ids = [*ids, written[-1]]
        if len(ids) > n_ctx:
            ids = ids[-(n_ctx // 2) :]
    return written


def endless_model(**changes):
    """A random model that knows no end of text."""
    return small_model(generation={"eos_token_id": None}, **changes)


@pytest.mark.parametrize(
    ("k", "kept"),
    [
        (1, [OUT, 3, OUT, OUT, 3]),  # both of the best: neither is better
        (2, [OUT, 3, OUT, OUT, 3]),
        (3, [1, 3, 1, OUT, 3]),  # what equals the third stays, too
        (5, [1, 3, 1, 0, 3]),
        (50, [1, 3, 1, 0, 3]),
    ],
)
def test_top_k_keeps_the_best_and_their_equals(k, kept):
    logits = np.array([1, 3, 1, 0, 3], np.float32)
    np.testing.assert_array_equal(keep_top_k(logits, k), np.array(kept, np.float32))
    assert logits.tolist() == [1, 3, 1, 0, 3]


@pytest.mark.parametrize(
    ("p", "kept"),
    [(1e-9, [3]), (0.45, [3]), (0.55, [0, 3]), (0.79, [0, 3]), (0.85, [0, 2, 3]), (0.99, range(4))],
)
def test_top_p_keeps_the_likeliest_that_reach_p(p, kept):
    logits = np.log(np.array([0.3, 0.05, 0.15, 0.5], np.float32))
    before = logits.copy()
    assert np.flatnonzero(keep_top_p(logits, p) > OUT).tolist() == list(kept)
    np.testing.assert_array_equal(logits, before)
    logits[1] = OUT  # as top-k leaves it
    assert 1 not in np.flatnonzero(keep_top_p(logits, p) > OUT)


def test_distribution_is_a_softmax_after_temperature_then_top_k_then_top_p():
    logits = np.log(np.array([0.1, 0.4, 0.2, 0.3], np.float32))
    np.testing.assert_allclose(distribution(logits), [0.1, 0.4, 0.2, 0.3], rtol=1e-6)
    squared = np.array([0.01, 0.16, 0.04, 0.09])
    np.testing.assert_allclose(distribution(logits, 0.5), squared / squared.sum(), rtol=1e-6)
    # of the two that top_k leaves, the better one has 0.16 / 0.25 = 0.64 at temperature 0.5
    np.testing.assert_allclose(distribution(logits, 0.5, 2), [0, 0.64, 0, 0.36], rtol=1e-6)
    assert distribution(logits, 0.5, 2, 0.63).tolist() == [0, 1, 0, 0]
    assert distribution(logits, 1.0, 2, 0.63).tolist() != [0, 1, 0, 0]  # 0.57 is less than 0.63


@pytest.mark.parametrize("temperature", [0, 1e-320, 1e-40, 1e-7])
@pytest.mark.filterwarnings("error")
def test_a_temperature_of_nearly_0_is_greedy(temperature):
    logits = np.array([1, 3, 2, 3], np.float32)
    assert distribution(logits, temperature).tolist() == [0, 1, 0, 0]
    sampling = {"temperature": temperature, "top_k": 0, "top_p": 1.0}
    assert sample(logits, np.random.default_rng(0), sampling) == 1


def test_samples_are_as_frequent_as_they_are_likely():
    logits = np.log(np.array([0.1, 0.4, 0.2, 0.3], np.float32))
    rng, sampling = np.random.default_rng(0), {"temperature": 1.0, "top_k": 3, "top_p": 1.0}
    sampled = [sample(logits, rng, sampling) for _ in range(9000)]
    frequencies = np.bincount(sampled, minlength=4) / len(sampled)
    np.testing.assert_allclose(frequencies, [0, 4 / 9, 2 / 9, 3 / 9], atol=0.02)


@pytest.mark.parametrize(
    ("said", "asked", "expected"),
    [
        ({}, {}, "greedy"),
        ({"do_sample": False, "temperature": 0.7, "top_k": 3}, {}, "greedy"),
        ({"do_sample": True}, {}, (1.0, 50, 1.0)),
        ({"do_sample": True, "temperature": None, "top_k": None}, {}, (1.0, 50, 1.0)),
        ({"do_sample": True, "temperature": 0.7, "top_k": 0, "top_p": 0.9}, {}, (0.7, 0, 0.9)),
        ({}, {"temperature": 0.8}, (0.8, 50, 1.0)),
        ({}, {"top_k": 0}, (1.0, 0, 1.0)),
        ({}, {"top_p": 0.9}, (1.0, 50, 0.9)),
        ({"do_sample": False, "temperature": 0.7}, {"top_p": 0.9}, (0.7, 50, 0.9)),
        ({"do_sample": True, "top_k": 5}, {"temperature": 0}, (0, 5, 1.0)),
        ({"do_sample": True, "temperature": "hot"}, {"temperature": 2}, (2, 50, 1.0)),
    ],
)  # fmt: skip
def test_what_is_asked_goes_before_the_file_and_the_file_before_the_defaults(said, asked, expected):
    sampling = sampling_for(small_model(generation=said), **asked)
    if expected == "greedy":
        assert sampling["temperature"] == 0
    else:
        assert sampling == dict(zip(("temperature", "top_k", "top_p"), expected))


BAD_SAMPLING = [
    {"temperature": -1}, {"temperature": np.inf}, {"temperature": np.nan}, {"top_k": -1},
    {"top_k": 1.5}, {"top_k": 50.0}, {"top_p": 0}, {"top_p": 1.1}, {"top_p": np.nan},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_SAMPLING)
def test_sampling_that_makes_no_sense_is_refused_before_any_work(bad):
    name = next(iter(bad))
    with pytest.raises(UsageError, match=f"{name} must be"):
        generate(small_model(), "a", **bad)
    with pytest.raises(CheckpointError, match=f"{name} must be.*generation_config.json"):
        generate(small_model(generation={"do_sample": True, **bad}), "a")
    with pytest.raises(UsageError, match=f"{name} must be"):
        next_token_probabilities(small_model(), "a", **bad)


@pytest.mark.parametrize(
    "options",
    [{"n_tokens": -1}, {"seed": -1}, {"seed": 1.5}, {"seed": "x"}],
    ids=str,
)
def test_other_arguments_that_cannot_be_are_refused_before_any_work(options):
    with pytest.raises(UsageError, match=f"{next(iter(options))} must be"):
        generate(small_model(), "a", **options)


def test_a_prompt_with_half_a_character_is_refused_before_any_work():
    with pytest.raises(TextError, match="U\\+D800"):
        generate(small_model(), "a\ud800")


@pytest.mark.parametrize("prompt", [*PROMPTS, "in the end " * 20], ids=len)
def test_greedy_text_is_the_argmax_of_a_full_pass_also_past_the_models_positions(prompt):
    model = endless_model()
    expected = model.encoder.decode(naive_greedy(model, prompt, 100))
    assert len(set(naive_greedy(model, prompt, 100))) > 5  # else it proves little
    assert "".join(generate(model, prompt, 100)) == expected


def test_a_model_of_one_position_goes_on_as_well():
    model = endless_model(n_ctx=1)
    expected = model.encoder.decode(naive_greedy_of_one(model, "x", 10))
    assert "".join(generate(model, "x", 10)) == expected


def naive_greedy_of_one(model, prompt, n_tokens):
    ids = model.encoder.encode(prompt)
    for _ in range(n_tokens):
        ids.append(int(np.argmax(logits(model, ids[-1:])[0])))
    return ids[1:]


def test_running_out_of_positions_is_said_once(capsys):
    notify.cache_clear()
    prompts = ["in the end " * 20] * 2 + ["a"] * 2
    generate_batch(endless_model(), prompts, 100)
    generate_batch(endless_model(), prompts, 100)
    output = capsys.readouterr()
    assert output.out == ""
    assert sorted(output.err.splitlines()) == [
        "the prompt is longer than the model's 32 positions: it goes on from the newest 16 tokens",
        "the text outgrows the model's 32 positions: it goes on from the newest 16 tokens",
    ]


def test_nothing_is_said_as_long_as_the_text_fits(capsys):
    notify.cache_clear()
    model = endless_model()
    prompt = "x" * 31
    assert len(model.encoder.encode(prompt)) == 31
    "".join(generate(model, prompt, 2))  # 33 tokens, but the last one is never run
    assert capsys.readouterr().err == ""
    "".join(generate(model, prompt, 3))
    assert "outgrows" in capsys.readouterr().err


def test_seed_fixes_the_text_and_without_one_every_text_is_new():
    model, options = endless_model(), {"n_tokens": 25, "temperature": 1.0, "top_k": 0}
    first = generate_batch(model, PROMPTS, seed=1, **options)
    assert generate_batch(model, PROMPTS, seed=1, **options) == first
    assert generate_batch(model, PROMPTS, seed=2, **options) != first
    assert len({"".join(generate(model, "a", **options)) for _ in range(5)}) == 5


def test_a_generator_as_seed_gives_every_call_a_text_of_its_own():
    model, options = endless_model(), {"n_tokens": 25, "temperature": 1.0}
    rng = np.random.default_rng(7)
    one_by_one = ["".join(generate(model, "a", seed=rng, **options)) for _ in range(3)]
    assert len(set(one_by_one)) == 3
    assert generate_batch(model, ["a"] * 3, seed=7, **options) == one_by_one


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_text_does_not_depend_on_what_is_written_beside_it(temperature):
    model, options = endless_model(), {"n_tokens": 50, "temperature": temperature, "seed": 5}
    texts = generate_batch(model, PROMPTS, **options)
    assert texts[0] == "".join(generate(model, PROMPTS[0], **options))
    others = ["in the end " * 30, "x", ""]
    assert generate_batch(model, [PROMPTS[0], *others], **options)[0] == texts[0]
    assert generate_batch(model, ["x", PROMPTS[1], "a" * 40], **options)[1] == texts[1]


def test_texts_that_end_leave_the_batch_and_the_others_go_on():
    model = small_model(generation={"eos_token_id": None})
    alone = [naive_greedy(model, prompt, 60) for prompt in PROMPTS]
    end = next(id for id in alone[0][5:] if id not in alone[0][:5])
    assert any(end not in ids for ids in alone) or len({ids.index(end) for ids in alone}) > 1
    model = model._replace(generation={"eos_token_id": end})
    ended = [ids[: ids.index(end)] if end in ids else ids for ids in alone]
    assert generate_batch(model, PROMPTS, 60) == [model.encoder.decode(ids) for ids in ended]


def test_no_prompts_and_no_tokens():
    assert generate_batch(small_model(), []) == []
    assert generate_batch(small_model(), ["a", ""], 0) == ["", ""]
    assert list(generate(small_model(), "a", 0)) == []


@pytest.mark.parametrize(
    ("generation", "end_in_config", "ends"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"eos_token_id": END}, False, True),
        ({"eos_token_id": [3, END]}, False, True),
        ({"eos_token_id": 3}, True, False),
        ({"eos_token_id": None}, True, False),
        ({"do_sample": False}, True, False),  # the file is there, and silent
    ],
)
def test_generation_config_says_where_a_text_ends_and_config_only_without_it(
    generation, end_in_config, ends
):
    model = reciter("so it ends", generation=generation)
    if not end_in_config:
        config = type(model.config)(**{**vars(model.config), "eos_token_id": None})
        model = model._replace(config=config)
    text = "".join(generate(model, "x", 11))
    assert text == ("so it ends" if ends else "so it ends<|endoftext|>")


def test_eos_may_be_a_list_in_config_too():
    model = reciter("so. it ends")
    config = type(model.config)(**{**vars(model.config), "eos_token_id": [END, ID_OF_BYTE[b"."]]})
    assert "".join(generate(model._replace(config=config), "x")) == "so"


def test_an_empty_prompt_starts_from_end_of_text():
    model = endless_model()
    ids = [END]
    for _ in range(20):
        ids.append(int(np.argmax(logits(model, ids)[-1])))
    assert "".join(generate(model, "", 20)) == model.encoder.decode(ids[1:])
    encoder = small_encoder()
    vocab = {token: id for token, id in encoder.vocab.items() if id != END}
    without = model._replace(encoder=Encoder(vocab, encoder.merges))
    assert without.encoder.end_of_text is None
    assert "".join(generate(without, "", 1))  # from config.json's bos_token_id
    config = type(model.config)(**{**vars(model.config), "bos_token_id": None})
    with pytest.raises(TextError, match="no <|endoftext|> to start from"):
        generate(without._replace(config=config), "")


def test_ids_past_the_tokenizers_are_never_written():
    model = reciter("plain text", n_padding=37)
    assert logits(model, range(10)).argmax(-1).min() > END  # the model would like to
    assert "".join(generate(model, "x")) == "plain text"
    for seed in range(3):
        options = {"n_tokens": 10, "temperature": 3.0, "top_k": 0, "seed": seed}
        assert generate_batch(model, ["x"] * 8, **options)  # an unknown id would be a TextError
    assert len(next_token_probabilities(model, "x")) == END + 1


def test_ids_that_the_tokenizer_leaves_out_are_never_written():
    vocab = small_encoder().vocab | {"<x>": END + 40}
    model = reciter("plain text", n_padding=40)._replace(encoder=Encoder(vocab, MERGES))
    model.encoder.fit_to(model.config.n_vocab)
    model.params["lm_head"][END + 40] = 0
    assert logits(model, range(10)).argmax(-1).min() > END  # the model would like to
    assert "".join(generate(model, "x")) == "plain text"
    p = next_token_probabilities(model, "x")
    assert len(p) == END + 41 and p[END + 1 : END + 40].max() == 0 < p[END + 40]
    model.encoder.fit_to(END - 1)
    assert model.encoder.gaps == []


def test_ids_are_continued_by_ids():
    model = endless_model()
    for prompt in PROMPTS:
        ids = model.encoder.encode(prompt)
        written = list(generate(model, ids, 40))
        assert written == naive_greedy(model, prompt, 40)
        assert list(generate(model, np.array(ids), 40, draft=False)) == written
    texts = generate_batch(model, PROMPTS, 12)
    several = [model.encoder.encode(prompt) for prompt in PROMPTS]
    assert generate_batch(model, [several[0], PROMPTS[1], tuple(several[2])], 12) == [
        naive_greedy(model, PROMPTS[0], 12), texts[1], naive_greedy(model, PROMPTS[2], 12)
    ]  # fmt: skip
    written = list(generate(reciter("né"), [END], 9))  # without the end
    assert written == [ID_OF_BYTE[bytes([byte])] for byte in "né".encode()]
    assert list(generate(model, [5], 0)) == []


def test_special_tokens_in_a_prompt_where_asked_for():
    model = endless_model()
    text, end = "in<|endoftext|>the<|endoftext|>", [model.encoder.end_of_text]
    ids = [*model.encoder.encode("in"), *end, *model.encoder.encode("the"), *end]
    asked = "".join(generate(model, text, 9, special_tokens=True))
    assert asked == model.encoder.decode(list(generate(model, ids, 9)))
    assert asked != "".join(generate(model, text, 9))
    assert generate_batch(model, [text] * 2, 9, special_tokens=True) == [asked] * 2
    plain = next_token_probabilities(model, text)
    special = next_token_probabilities(model, text, special_tokens=True)
    np.testing.assert_array_equal(special, next_token_probabilities(model, ids))
    assert abs(special - plain).max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ([5], {}, "a prompt is a text or a list of token ids, not 5"),
        ([None], {}, "not None"),
        ([b"text"], {}, "not b'text'"),
        ([["one", "two"]], {}, "generate_batch takes a list of prompts"),
        ([[]], {}, "a prompt is a text or a list of token ids"),
        ([[[1, 2], [3]]], {}, "a prompt is a text or a list of token ids"),
        ([[1.5]], {}, "a prompt is a text or a list of token ids"),
        ([np.array(5)], {}, "a prompt is a text or a list of token ids"),
        ([np.array([[5]])], {}, "a prompt is a text or a list of token ids"),
        ([np.array([], int)], {}, "a prompt is a text or a list of token ids"),
        (["a", "40"], {}, "n_tokens must be a whole number, 0 or more, not '40'"),
        (["a", 4.0], {}, "n_tokens must be a whole number"),
        (["a", None], {}, "n_tokens must be a whole number"),
        (["a"], {"temperature": "0.7"}, "temperature must be a number, not '0.7'"),
        (["a"], {"top_p": [1]}, "top_p must be a number"),
        (["a"], {"top_k": "5"}, "top_k must be a whole number"),
        (["a"], {"stop": 5}, "stop must be a text or a list of texts, not 5"),
        (["a"], {"stop": ["x", None]}, "stop must be a text or a list of texts"),
        (["a"], {"seed": "x"}, "seed must be a whole number"),
        ([[1, 2]], {"stop": "x"}, "stop is a text, and a prompt of token ids gets ids"),
    ],
    ids=str,
)
def test_wrong_types_are_one_sentence(arguments, options, said):
    with pytest.raises(UsageError) as caught:
        generate(small_model(), *arguments, **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_batch_is_a_list_and_a_model_is_a_model():
    model = small_model()
    for prompts in ("The king", b"The king", None, 5):
        with pytest.raises(UsageError, match="prompts must be a list of texts; generate takes a"):
            generate_batch(model, prompts)
    with pytest.raises(UsageError, match="a prompt is a text or a list of token ids, not 1"):
        generate_batch(model, [1, 2, 3])
    with pytest.raises(TextError, match="token ids must lie between 0 and 266, not be 267"):
        generate(model, [1, 267])
    with pytest.raises(UsageError, match="model must be what picogpt.load gives, not 'tiny'"):
        generate("tiny", "text")
    assert generate_batch(model, iter(["in", "the"]), 3) == generate_batch(model, ["in", "the"], 3)
    assert generate_batch(model, []) == []


def test_next_token_probabilities_are_those_of_the_prompts_last_token(capsys):
    model = small_model()
    scores = logits(model, model.encoder.encode("in the"))[-1].astype(np.float64)
    expected = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(next_token_probabilities(model, "in the"), expected, rtol=1e-4)
    filtered = next_token_probabilities(model, "in the", top_k=3)
    assert np.flatnonzero(filtered).tolist() == sorted(np.argsort(expected)[-3:])
    notify.cache_clear()
    newest = model.encoder.decode(model.encoder.encode("in the end " * 20)[-16:])
    np.testing.assert_allclose(
        next_token_probabilities(model, "in the end " * 20),
        next_token_probabilities(model, newest),
        rtol=1e-4,
    )
    assert "longer than the model's 32 positions" in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weights_that_give_no_numbers_are_said_to_be_damaged(bad):
    model = small_model()
    model.params["ln_f"]["g"][0] = model.params["blocks"][0]["mlp"]["c_fc"]["b"][0] = bad
    for options in ({}, {"temperature": 1.0}):
        with pytest.raises(CheckpointError, match="damaged"):
            list(generate(model, "a", **options))
    with pytest.raises(CheckpointError, match="damaged"):
        next_token_probabilities(model, "a")


def test_what_is_not_followed_is_named_once(capsys):
    plain = {"repetition_penalty": 1.0, "num_beams": 1, "no_repeat_ngram_size": None}
    assert generate_batch(small_model(generation=plain), ["a"], 2)
    assert capsys.readouterr().err == ""
    model = small_model(generation={"top_k": 3, "min_p": 0.1, "typical_p": 0.9, "num_beams": 1})
    notify.cache_clear()
    for _ in range(2):
        assert generate_batch(model, ["a"], 2)
    said = "the model's generation config sets min_p, typical_p, which is not followed here\n"
    assert capsys.readouterr().err == said


def test_the_processors_see_each_text_whole():
    """Also what was written before positions ran out, and whatever is written beside it."""
    settings = {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "min_new_tokens": 4}
    model = small_model(generation={**settings, "eos_token_id": 266})
    expected = []
    for prompt in PROMPTS:
        ids = model.encoder.encode(prompt)
        n_prompt, window = len(ids), list(ids)
        for _ in range(50):
            row = logits(model, window)[-1]
            row = process_logits(row, ids, n_prompt, **settings, eos_token_id=[266])
            ids.append(int(np.argmax(row)))
            window = truncate([*window, ids[-1]], model.config.n_ctx)
            if ids[-1] == 266:
                break
        pairs = list(zip(ids, ids[1:]))
        assert len(set(pairs)) == len(pairs)
        expected.append(model.encoder.decode([id for id in ids[n_prompt:] if id != 266]))
    assert max(map(len, expected)) > model.config.n_ctx
    assert generate_batch(model, PROMPTS, 50) == expected


def test_a_text_ends_before_the_models_own_stop_strings_unless_asked_otherwise():
    generation = {"stop_strings": ["tale", "never"], "eos_token_id": END}
    model = reciter("tell me a tale, then stop", generation=generation)
    assert "".join(generate(model, "x")) == "tell me a "
    assert "".join(generate(model, "x", stop="then")) == "tell me a tale, "
    assert "".join(generate(model, "x", stop=[])) == "tell me a tale, then stop"
    model = model._replace(generation=generation | {"stop_strings": "|||"})
    assert "".join(generate(model, "x")) == "tell me a tale, then stop"


@pytest.mark.parametrize(
    "bad", [{"repetition_penalty": 0}, {"suppress_tokens": "all"}, {"stop_strings": 7}]
)
def test_a_setting_of_the_model_that_makes_no_sense_is_refused_before_any_work(bad):
    with pytest.raises(CheckpointError, match=f"{next(iter(bad))} must be.*generation_config.json"):
        generate(small_model(generation=bad), "a")


@pytest.mark.parametrize("function", [generate, generate_batch])
def test_help_names_every_option(function):
    parameters = inspect.signature(function).parameters
    asked = inspect.signature(stream).parameters
    assert list(parameters)[2:] == list(asked)[2:]
    assert [p.default for p in parameters.values()] == [p.default for p in asked.values()]
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters.values())


def test_a_small_type_for_the_number_of_tokens_does_not_run_over():
    prompt = "x" * 100
    model = endless_model(n_ctx=200)
    expected = generate_batch(model, [prompt], 200)
    assert generate_batch(model, [prompt], np.uint8(200)) == expected


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int8])
def test_a_small_type_for_top_k_does_not_run_over(kind):
    model = endless_model()
    expected = next_token_probabilities(model, "x", top_k=5)
    assert (expected > 0).sum() == 5
    np.testing.assert_array_equal(next_token_probabilities(model, "x", top_k=kind(5)), expected)


@pytest.mark.parametrize("n_tokens, room", [(5, 8), (100, 20)])
def test_a_cache_has_room_for_what_may_be_written_and_no_more(n_tokens, room):
    model = small_model(n_ctx=20)
    sequence = begin(model, 0, [1, 2, 3], n_tokens, None, [], draft=True, special_tokens=False)
    assert sequence.cache[0]["k"].shape[1] == room
