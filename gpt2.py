"""Write on from a prompt with GPT-2: python gpt2.py "Alan Turing theorized that computers"."""

import os
import signal
import sys

if __name__ == "__main__":  # `run` answers Ctrl-C in a sentence; until then it ends at once
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))

import numpy as np

from picogpt.generation import (
    Tally,
    check_sampling,
    generate,
    generate_batch,
    next_token_probabilities,
)
from picogpt.model import load
from picogpt.tools.cli import at_least, read_stdin, run


def main(
    prompt: str,
    *,
    n_tokens_to_generate: int = 40,
    model_size: str | None = None,
    models_dir: str | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    n_samples: int = 1,
    stop: str | None = None,
    special_tokens: bool = False,
    no_stream: bool = False,
    show_next: int = 0,
    no_draft: bool = False,
    int8: bool = False,
    verbose: bool = False,
):
    """Continue a prompt with GPT-2 and print the continuation.

    How it writes is the model's own choice (its generation_config.json) unless temperature, top_k
    or top_p is given; any of them turns sampling on.

    Args:
        prompt: the text to continue; - reads it from standard input, "" starts from nothing, and
            one that begins with -- is given as --prompt=TEXT.
        n_tokens_to_generate: how many tokens to write.
        model_size: 124M, 355M, 774M, 1558M, tiny, a model's folder or its id on the Hugging Face
            hub; without it 124M, or tiny where that can't be had.
        models_dir: where models are kept.
        temperature: below 1 is careful, above 1 is daring; 0 always takes the likeliest token.
        top_k: sample from the k likeliest tokens only; 0 is all of them.
        top_p: sample from the likeliest tokens that reach this probability together; 1 is all.
        seed: the same whole number gives the same text again.
        n_samples: how many continuations to write; a line --- stands between them.
        stop: end before this text comes; several are separated by |||, and \\n is the end of a line
            (a newline).
        special_tokens: <|endoftext|> and the tokenizer's other special tokens in the prompt are
            these tokens; without this they are plain text.
        no_stream: write all samples at once, as a batch, and print them when they are done.
        show_next: instead of writing on, show this many of the likeliest next tokens.
        no_draft: run the model once for every token. Otherwise, where the text repeats itself,
            several tokens are guessed and confirmed at once; the text is the same.
        int8: hold the large matrices as whole numbers of one byte, which takes about a quarter of
            the memory; the text may change a little.
        verbose: say at the end, on stderr, how many passes of the model and how long it took.
    """
    at_least(0, n_tokens_to_generate=n_tokens_to_generate, seed=seed, show_next=show_next)
    at_least(1, n_samples=n_samples)
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    check_sampling(**sampling)
    if prompt == "-":
        prompt = read_stdin()
    model = load(model_size, models_dir, needs_text=True, int8=int8)
    if show_next:
        return print_next(model, prompt, show_next, sampling, special_tokens)
    if stop is not None:
        stop = stop.replace("\\n", "\n")  # cmd.exe has no way to write a line's end
    rng = np.random.default_rng(seed)
    tally = Tally()
    options = {**sampling, "seed": rng, "stop": stop, "special_tokens": special_tokens}
    options |= {"draft": not no_draft, "tally": tally}
    if no_stream:
        texts = generate_batch(model, [prompt] * n_samples, n_tokens_to_generate, **options)
        print("\n---\n".join(texts))
    else:
        print_samples(model, prompt, n_tokens_to_generate, n_samples, options)
    if verbose:
        print(tally, file=sys.stderr)


def print_samples(model, prompt, n_tokens, n_samples, options):
    """Write one continuation after the other, and print its text as it comes."""
    for i in range(n_samples):
        if i:
            print("---")
        for text in generate(model, prompt, n_tokens, **options):
            print(text, end="", flush=True)
        print()


def print_next(model, prompt, n, sampling, special_tokens):
    """The n likeliest next tokens, each with its probability and a bar of that length."""
    asked = {name: value for name, value in sampling.items() if value is not None}
    probabilities = next_token_probabilities(
        model, prompt, special_tokens=special_tokens, **asked
    )
    best = np.argsort(-probabilities, kind="stable")[:n]
    best = best[probabilities[best] > 0]  # fewer are left by top_k, say
    tokens = [repr(model.encoder.decode([int(id)])) for id in best]
    width = max(map(len, tokens))
    print(f"next token, by {model.name}")
    for token, p in zip(tokens, probabilities[best]):
        print(f"{token:{width}} {p:6.1%} {'#' * round(50 * p)}".rstrip())


if __name__ == "__main__":
    run(main)
