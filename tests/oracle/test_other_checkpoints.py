"""Folders like those that others publish, by transformers: proteins, chats, other languages.

Small random models under their kinds of tokenizers. Ids are compared with transformers' tokenizer,
logits and greedy ids with GPT2LMHeadModel.
"""

import json

import numpy as np
import pytest
from models import MERGES, small_encoder
from oracles import oracle
from texts import NASTY, prose

from picogpt import generate, load, logits, save
from picogpt.generation import prompt_ids
from picogpt.tokenizer.tokenizer_files import load_encoder, save_encoder
from picogpt.tools.errors import TextError, UnsupportedTokenizerError

torch = oracle("torch")
transformers = oracle("transformers")
tokenizers = oracle("tokenizers")
hypothesis = oracle("hypothesis")
st = oracle("hypothesis.strategies")
models, pre_tokenizers = tokenizers.models, tokenizers.pre_tokenizers
processors = tokenizers.processors
TEXTS = [*NASTY, prose(200), "low the rain in the end", "the\nother"]


def write_model(folder, n_vocab, **changes):
    """A random GPT-2 of transformers'."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=n_vocab, n_positions=64, n_embd=24, n_layer=2, n_head=3, bos_token_id=0,
        eos_token_id=None, initializer_range=0.3, **changes,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(folder)
    return model


def greedy(model, ids, n):
    """The ids that transformers writes after others."""
    ids = torch.tensor([ids])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        whole = model.generate(
            ids, attention_mask=mask, max_new_tokens=n, do_sample=False, pad_token_id=0
        )
    return whole[0, ids.shape[1] :].tolist()


def gpt2_tokenizer(folder, tokens=(), **roles):
    """transformers' GPT-2 tokenizer of the small vocabulary, with tokens and roles added."""
    save_encoder(small_encoder(), folder)
    theirs = transformers.GPT2TokenizerFast.from_pretrained(folder)
    theirs.add_tokens(list(tokens))
    theirs.add_special_tokens(roles)
    return theirs


def proteins():
    """A token for each amino acid."""
    vocab = {letter: id for id, letter in enumerate("ACDEFGHIKLMNPQRSTVWY")} | {"<unk>": 20}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tokenizer


def kogpt2():
    """BPE over characters, words marked by ▁, as KoGPT2 has it."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=200, special_tokens=["</s>", "<usr>", "<pad>", "<sys>", "<unk>", "<mask>"],
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(["한국어 문장입니다 대한민국의 한국어"] * 20, trainer)
    return tokenizer


def rinna():
    """SentencePiece's kind, Unigram, as rinna's Japanese models have it."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(piece, -float(i)) for i, piece in enumerate("▁日本語の文章、。", 1)]
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, 0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


@pytest.mark.parametrize("kind", [proteins, kogpt2, rinna])
def test_a_model_of_another_tokenizer_gives_transformers_logits_and_ids(tmp_path, kind):
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=kind())
    wrapped.save_pretrained(tmp_path)
    theirs = write_model(tmp_path, len(wrapped))
    model = load(tmp_path)
    assert model.encoder is None
    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(logits(model, ids), expected, rtol=1e-4, atol=1e-4)
    assert list(generate(model, ids, 30)) == greedy(theirs, ids, 30)
    with pytest.raises(UnsupportedTokenizerError, match="byte-level BPE like GPT-2's: its model is|"
                       "pre-tokenizer is Metaspace"):  # fmt: skip
        generate(model, "MKV")


def test_a_dialogue_like_dialogpts(tmp_path):
    tokenizer = gpt2_tokenizer(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    theirs = write_model(tmp_path, len(tokenizer))
    model = load(tmp_path)
    text = "the rain<|endoftext|>in the end<|endoftext|>"
    ids = tokenizer(text)["input_ids"]
    assert prompt_ids(model, text, special_tokens=True) == ids
    ours = "".join(generate(model, text, 20, special_tokens=True))
    assert ours == tokenizer.decode(greedy(theirs, ids, 20))


TAGS = ["<|user|>", "<|bot|>", "<né> 한"]


@pytest.mark.parametrize("form", ["new", "old"])
def test_a_model_tuned_with_tags_of_its_own(tmp_path, form):
    roles = {"bos_token": "<s>", "pad_token": "[PAD]", "extra_special_tokens": TAGS}
    theirs = gpt2_tokenizer(tmp_path, tokens=["<new>", "lo w"], **roles)
    if form == "new":
        theirs.save_pretrained(tmp_path)
    else:  # as transformers 4.0 wrote it
        added = theirs.get_added_vocab().items() - small_encoder().vocab.items()
        said = roles | {"additional_special_tokens": roles.pop("extra_special_tokens")}
        (tmp_path / "added_tokens.json").write_text(json.dumps(dict(added)))
        (tmp_path / "special_tokens_map.json").write_text(json.dumps(said))
        (tmp_path / "tokenizer_config.json").write_text("{}")
    ours = load_encoder(tmp_path)
    assert ours.n_vocab == len(theirs)
    save_encoder(ours, tmp_path / "saved")
    again = transformers.GPT2TokenizerFast.from_pretrained(tmp_path / "saved")
    assert (again.bos_token, again.pad_token) == ("<s>", "[PAD]")
    for text in [*TEXTS, "<s><|user|>low<new>x<|bot|> [PAD]<né> 한", "<|user|", "lo wlo w"]:
        ids = ours.encode(text, allow_special=True)
        assert ids == theirs(text)["input_ids"] == again(text)["input_ids"]
        assert load_encoder(tmp_path / "saved").encode(text) == ours.encode(text)


def test_roles_of_tokens_that_stand_in_the_vocabulary_alone(tmp_path):
    save_encoder(small_encoder(), tmp_path)
    vocab = small_encoder().vocab | {"<s>": 267, "</s>": 268}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    said = {"unk_token": "<s>", "pad_token": "<p>", "sep_token": "<sep>", "eos_token": "</s>"}
    said = json.dumps(said | {"bos_token": "<s>", "cls_token": "<c>"})  # three have no id there
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / name).write_text(said)
    theirs = transformers.GPT2TokenizerFast.from_pretrained(tmp_path)
    text = "<s>low the<s> end</s><c><p><sep>"
    assert load_encoder(tmp_path).encode(text, allow_special=True) == theirs(text)["input_ids"]


def test_a_tokenizer_that_was_lengthened_and_a_model_that_was_not(tmp_path):
    tokenizer = gpt2_tokenizer(tmp_path, pad_token="[PAD]")
    tokenizer.save_pretrained(tmp_path)
    theirs = write_model(tmp_path, len(tokenizer) - 1)
    model = load(tmp_path)
    ids = tokenizer("the rain")["input_ids"]
    assert model.encoder.encode("the rain") == ids
    assert list(generate(model, ids, 20)) == greedy(theirs, ids, 20)
    save(model, tmp_path / "saved")
    again = transformers.GPT2TokenizerFast.from_pretrained(tmp_path / "saved")
    assert again.pad_token_id == tokenizer.pad_token_id == 267


@pytest.mark.parametrize("add_prefix_space", [False, True])
@pytest.mark.parametrize("wrapper", ["PreTrainedTokenizerFast", "GPT2TokenizerFast"])
def test_the_prefix_space_of_tokenizer_json(tmp_path, add_prefix_space, wrapper):
    tokenizer = tokenizers.ByteLevelBPETokenizer(
        small_encoder().vocab, [tuple(merge.split()) for merge in MERGES],
        add_prefix_space=add_prefix_space,
    )  # fmt: skip
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer)
    wrapped.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": wrapper}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = load_encoder(tmp_path)
    for text in TEXTS:
        assert ours.encode(text) == theirs(text, split_special_tokens=True)["input_ids"]


END = ("<|endoftext|>", 266)
TEMPLATE = {"single": "<|endoftext|> $A", "special_tokens": [END]}
AROUND = {
    "template": processors.TemplateProcessing(**TEMPLATE),
    "among several": processors.Sequence(
        [processors.ByteLevel(), processors.TemplateProcessing(**TEMPLATE)]
    ),
    "roberta": processors.RobertaProcessing(END, END),
    "bert": processors.BertProcessing(END, END),
    "none": processors.ByteLevel(),
}


@pytest.mark.parametrize("wrapper", ["PreTrainedTokenizerFast", "GPT2Tokenizer"])
@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("kind", AROUND)
def test_tokens_that_transformers_puts_around_a_text_are_never_left_out(
    tmp_path, kind, pair, wrapper
):
    whole = tokenizers.ByteLevelBPETokenizer(
        small_encoder().vocab, [tuple(merge.split()) for merge in MERGES]
    )._tokenizer
    whole.post_processor = AROUND[kind]
    if pair:
        save_encoder(small_encoder(), tmp_path)
    whole.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": wrapper, "eos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path)("the rain")["input_ids"]
    assert (ids[0] == 266) == (kind != "none")
    if kind == "none":
        assert load_encoder(tmp_path).encode("the rain") == ids
    else:
        with pytest.raises(UnsupportedTokenizerError, match="puts tokens around every text"):
            load_encoder(tmp_path)


def test_a_tokenizer_trained_as_the_course_does_lacks_bytes(tmp_path):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False
    )
    corpus = [prose(800, seed=3)]
    tokenizer.train_from_iterator(corpus, trainer)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path)
    ours = load_encoder(tmp_path)
    for text in (corpus[0], prose(100, seed=4)):
        assert ours.encode(text) == tokenizer.encode(text).ids
        assert ours.decode(ours.encode(text)) == text
    with pytest.raises(TextError, match="no token for the byte"):
        ours.encode("日本語")


FLAGS = st.fixed_dictionaries(
    dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), st.booleans())
)
CONTENTS = ["cat", "<sep>", "<s", "s", "a b", " t", "é", "한국", "_x"]
PARTS = [*CONTENTS, " ", "  ", "\n", "\t ", "x", "1", "_", "-", "the", "\x1c", "\u0301", "\u00a0"]


def test_added_tokens_of_all_flags_are_cut_out_as_tokenizers_does(tmp_path):
    @hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
    @hypothesis.given(
        st.lists(st.tuples(st.sampled_from(CONTENTS), FLAGS), max_size=5, unique_by=lambda t: t[0]),
        st.lists(st.sampled_from(PARTS), max_size=14).map("".join),
        st.booleans(),
    )
    def run(tokens, text, add_prefix_space):
        whole = tokenizers.ByteLevelBPETokenizer(
            small_encoder().vocab, [tuple(merge.split()) for merge in MERGES],
            add_prefix_space=add_prefix_space,
        )._tokenizer  # fmt: skip
        for content, flags in tokens:
            whole.add_tokens([tokenizers.AddedToken(content, **flags)])
        whole.save(str(tmp_path / "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast"}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        ours = load_encoder(tmp_path)
        for allow_special in (True, False):
            whole.encode_special_tokens = not allow_special
            assert ours.encode(text, allow_special) == whole.encode(text).ids, tokens

    run()
