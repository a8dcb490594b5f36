"""What else a generation config may ask for before a token is chosen: from logits to changed ones.

Temperature, top-k and top-p are `distribution` in generation.py.
Each function takes the logits `[n_vocab]` of the token that comes next and gives back new ones; a
token that must not come has -inf there. They compute what transformers' LogitsProcessors compute.
"""

import numpy as np

from picogpt.tools.errors import CheckpointError


def penalize_repetition(logits, ids, penalty):
    """Make each token that the text holds already less likely: logits `[n_vocab]` -> `[n_vocab]`.

    `ids` are the text's tokens. A positive logit is divided by the penalty and a negative one
    multiplied, so that both sink where the penalty is above 1 (below 1, both rise). Keskar et al.
    2019, "CTRL", sec. 4.1, where all are divided; transformers corrected that.
    """
    present = np.unique(ids)
    present = present[present < len(logits)]
    old = logits[present]
    logits = logits.copy()
    logits[present] = np.where(old < 0, old * penalty, old / penalty)
    return logits


def repeated_ngram_ends(ids, n):
    """The tokens that would complete a group of n tokens which the text `ids` holds already.

    Paulus, Xiong & Socher 2017, "A Deep Reinforced Model for Abstractive Summarization", sec. 2.5.
    """
    if len(ids) < n:
        return []
    ngrams = np.lib.stride_tricks.sliding_window_view(np.asarray(ids), n)  # [len(ids) - n + 1, n]
    newest = ids[len(ids) - n + 1 :]  # the n - 1 tokens that the next one would complete
    return ngrams[(ngrams[:, :-1] == newest).all(axis=1), -1].tolist()


def bad_word_ends(ids, bad_words_ids):
    """The tokens that would complete one of the bad words, each a list of token ids."""
    ends = []
    for *beginning, last in bad_words_ids:
        if ids[len(ids) - len(beginning) :] == beginning:
            ends.append(last)
    return ends


def ban(logits, tokens):
    """Give -inf to the listed token ids; what lies outside the vocabulary is passed over."""
    logits = logits.copy()
    logits[[token for token in tokens if 0 <= token < len(logits)]] = -np.inf
    return logits


def process_logits(
    logits,
    ids,
    n_prompt,
    *,
    repetition_penalty=1.0,
    no_repeat_ngram_size=0,
    bad_words_ids=(),
    min_length=0,
    min_new_tokens=None,
    suppress_tokens=(),
    begin_suppress_tokens=(),
    eos_token_id=(),
):
    """Logits `[n_vocab]` after all that a generation config asks for; the defaults ask for nothing.

    `ids` is the list of all tokens so far, the first n_prompt of them the prompt's; the logits are
    those of the token after them. min_length counts the prompt's tokens, too, min_new_tokens
    doesn't; where both are given, min_new_tokens holds. eos_token_id lists the tokens that end a
    text. generation_config.py checks the values. Raises CheckpointError where no token is left.
    """
    if repetition_penalty != 1:
        logits = penalize_repetition(logits, ids, repetition_penalty)
    # what ends a text is never a bad word: else no text would end
    words = [word for word in bad_words_ids if len(word) > 1 or word[0] not in eos_token_id]
    banned = [*suppress_tokens, *bad_word_ends(ids, words)]
    if no_repeat_ngram_size:
        banned += repeated_ngram_ends(ids, no_repeat_ngram_size)
    if len(ids) == n_prompt:
        banned += begin_suppress_tokens
    if len(ids) < (min_length if min_new_tokens is None else n_prompt + min_new_tokens):
        banned += eos_token_id
    if banned:
        logits = ban(logits, banned)
    if logits.max() == -np.inf:
        raise CheckpointError("the model's generation config forbids every token that could follow")
    return logits
