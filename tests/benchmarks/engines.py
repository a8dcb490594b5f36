"""picoGPT beside other engines on GPT-2 124M's shapes: python tests/benchmarks/engines.py

Needs the extras `oracle` and `bench`. Weights are random; every engine gets the same ones, in its
own file format. Each runs in a process of its own, for they slow each other down in one: beside
torch, CTranslate2 decodes at two thirds of its speed. They take turns, and the table holds medians.
Two threads each.
"""

import argparse
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

N_THREADS = 2
os.environ.setdefault("OMP_NUM_THREADS", str(N_THREADS))
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(N_THREADS))
sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import numpy as np  # noqa: E402
from models import random_params  # noqa: E402

import picogpt  # noqa: E402
from picogpt import reference  # noqa: E402
from picogpt.checkpoint.config import Config  # noqa: E402
from picogpt.tokenizer.encoder import BYTE_OF_SYMBOL, Encoder  # noqa: E402
from picogpt.tools.cores import blas_kernel  # noqa: E402

SHORT, LONG, PREFILL = 10, 462, 512
BATCH = [10, 24, 17, 40, 5, 33, 12, 28]  # lengths of the eight prompts
ROWS = ["prefill 512", "decode at 10", "decode at 462", "eight prompts"]


def write_model(folder, **shape):
    """Random weights, in 124M's shapes but for `shape`; a token is a byte or a pair of bytes."""
    pairs = [f"{a} {b}" for a in BYTE_OF_SYMBOL for b in BYTE_OF_SYMBOL]
    config = Config(**shape)
    encoder = Encoder.from_merges(pairs[: config.n_vocab - 257])
    model = picogpt.Model(random_params(config, std=0.02), config, encoder)
    picogpt.save(model, folder)


class Ours:
    def __init__(self, folder, int8=False):
        self.name = "picoGPT, int8" if int8 else "picoGPT"
        self.model = picogpt.load(folder, int8=int8)

    def prefill(self, ids):
        start = time.perf_counter()
        picogpt.logits(
            self.model, ids, caches=picogpt.new_caches(self.model.config), last_only=True
        )
        return time.perf_counter() - start

    def decode(self, prompts, n):
        """Seconds for n greedy steps after the prompts have been read."""
        caches = picogpt.new_caches(self.model.config, len(prompts))
        lengths = [len(ids) for ids in prompts]
        rows = picogpt.logits(self.model, sum(prompts, []), lengths, caches, last_only=True)
        start = time.perf_counter()
        for _ in range(n):
            rows = picogpt.logits(
                self.model, rows.argmax(-1), [1] * len(prompts), caches, last_only=True
            )
        return time.perf_counter() - start


class Reference:
    """reference.py: every token runs all tokens again, and the batch is a loop."""

    name = "reference"

    def __init__(self, folder):
        self.model = picogpt.load(folder)

    def prefill(self, ids):
        start = time.perf_counter()
        reference.gpt2(ids, **self.model.params, n_head=self.model.config.n_head)
        return time.perf_counter() - start

    def decode(self, prompts, n):
        start = time.perf_counter()
        for ids in prompts:
            reference.generate(ids, self.model.params, self.model.config.n_head, 2)
        return (time.perf_counter() - start) * n / 2


class Transformers:
    """transformers in fp32; attention as its name says, eager or sdpa."""

    def __init__(self, folder, attention):
        import torch
        from transformers import GPT2LMHeadModel

        self.name = f"transformers {attention}"
        self.torch = torch
        torch.set_num_threads(N_THREADS)
        self.model = GPT2LMHeadModel.from_pretrained(
            folder, attn_implementation=attention, dtype=torch.float32
        ).eval()

    def prefill(self, ids):
        with self.torch.inference_mode():
            start = time.perf_counter()
            self.model(self.torch.tensor([ids]), logits_to_keep=1, use_cache=True)
            return time.perf_counter() - start

    def decode(self, prompts, n):
        torch, n_max = self.torch, max(map(len, prompts))
        ids = torch.tensor([[0] * (n_max - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (n_max - len(p)) + [1] * len(p) for p in prompts])
        options = {} if len(prompts) == 1 else {"attention_mask": mask}
        with torch.inference_mode():
            out = self.model(ids, logits_to_keep=1, use_cache=True, **options)
            start = time.perf_counter()
            for _ in range(n):
                if options:
                    mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
                    options["attention_mask"] = mask
                    options["position_ids"] = mask.sum(-1, keepdim=True) - 1
                out = self.model(
                    out.logits[:, -1].argmax(-1, keepdim=True), use_cache=True,
                    past_key_values=out.past_key_values, **options,
                )  # fmt: skip
            return time.perf_counter() - start


class CTranslate2:
    def __init__(self, folder, compute_type):
        import ctranslate2

        self.name = f"CTranslate2 {compute_type}"
        target = folder.with_name("ctranslate2")
        if not target.exists():
            ctranslate2.converters.TransformersConverter(str(folder)).convert(str(target))
        self.generator = ctranslate2.Generator(
            str(target), compute_type=compute_type, intra_threads=N_THREADS
        )
        self.tokens = list(picogpt.load(folder).encoder.vocab)

    def generate(self, prompts, n, callback=None):
        self.generator.generate_batch(
            [[self.tokens[i] for i in ids] for ids in prompts], sampling_topk=1, callback=callback,
            max_length=n, min_length=n, include_prompt_in_result=False,
        )  # fmt: skip

    def prefill(self, ids):
        start = time.perf_counter()
        self.generate([ids], 1)
        return time.perf_counter() - start

    def decode(self, prompts, n):
        times = []
        if len(prompts) == 1:
            self.generate(prompts, n + 1, lambda _: times.append(time.perf_counter()))
            return times[-1] - times[0]
        for n_tokens in (1, n + 1):
            start = time.perf_counter()
            self.generate(prompts, n_tokens)
            times.append(time.perf_counter() - start)
        return times[1] - times[0]


class LlamaCpp:
    def __init__(self, folder, kind):
        import xllamacpp

        self.name = f"llama.cpp {kind}"
        path = folder.with_name(f"{kind}.gguf")
        if not path.exists():
            write_gguf(picogpt.load(folder), path, kind)
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel = 8 * 1024, len(BATCH)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = N_THREADS
        params.verbosity = -1
        self.server = xllamacpp.Server(params)

    def complete(self, ids, n):
        answers = []
        request = {
            "prompt": ids, "n_predict": n, "temperature": 0, "top_k": 1, "ignore_eos": True,
            "cache_prompt": False,
        }  # fmt: skip
        self.server.handle_completions(request, lambda answer: answers.append(answer))
        answer = answers[-1]
        timings = (answer[0] if isinstance(answer, list) else answer)["timings"]
        assert timings["prompt_n"] == len(ids) and timings["predicted_n"] == n, timings
        return timings

    def prefill(self, ids):
        return self.complete(ids, 1)["prompt_ms"] / 1000

    def decode(self, prompts, n):
        if len(prompts) == 1:  # its own clock runs from the first new token on
            return self.complete(prompts[0], n + 1)["predicted_ms"] / 1000
        times = []
        for n_tokens in (1, n + 1):
            start = time.perf_counter()
            threads = [threading.Thread(target=self.complete, args=(p, n_tokens)) for p in prompts]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            times.append(time.perf_counter() - start)
        return times[1] - times[0]


def write_gguf(model, path, kind):
    """The model as llama.cpp reads it: matrices [out, in], those of products as `kind`."""
    import gguf

    config, params = model.config, model.params
    writer = gguf.GGUFWriter(str(path), "gpt2")
    writer.add_context_length(config.n_ctx)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.d_inner)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(model.encoder.vocab))
    writer.add_token_types([gguf.TokenType.NORMAL] * config.n_vocab)
    writer.add_token_merges(model.encoder.merges)
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)

    def add(name, array, kind="F32"):
        kind = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(array), kind), raw_dtype=kind)

    def dense(name, w, b):
        add(f"{name}.weight", w.T, kind)
        add(f"{name}.bias", b)

    def norm(name, g, b):
        add(f"{name}.weight", g)
        add(f"{name}.bias", b)

    add("token_embd.weight", params["wte"], kind)
    add("position_embd.weight", params["wpe"])
    for i, block in enumerate(params["blocks"]):
        norm(f"blk.{i}.attn_norm", **block["ln_1"])
        dense(f"blk.{i}.attn_qkv", **block["attn"]["c_attn"])
        dense(f"blk.{i}.attn_output", **block["attn"]["c_proj"])
        norm(f"blk.{i}.ffn_norm", **block["ln_2"])
        dense(f"blk.{i}.ffn_up", **block["mlp"]["c_fc"])
        dense(f"blk.{i}.ffn_down", **block["mlp"]["c_proj"])
    norm("output_norm", **params["ln_f"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


ENGINES = {
    "picogpt": Ours,
    "picogpt-int8": lambda folder: Ours(folder, int8=True),
    "transformers": lambda folder: Transformers(folder, "eager"),
    "sdpa": lambda folder: Transformers(folder, "sdpa"),
    "ct2-float32": lambda folder: CTranslate2(folder, "float32"),
    "ct2-int8": lambda folder: CTranslate2(folder, "int8"),
    "llama-F32": lambda folder: LlamaCpp(folder, "F32"),
    "llama-Q8_0": lambda folder: LlamaCpp(folder, "Q8_0"),
    "reference": Reference,
}


def measure(engine, n=24):
    """One round: tokens/s of each row of the table."""
    rng = np.random.default_rng(0)
    short, long, whole = (rng.integers(0, 50256, k).tolist() for k in (SHORT, LONG, PREFILL))
    prompts = [rng.integers(0, 50256, k).tolist() for k in BATCH]
    yield PREFILL / engine.prefill(whole)
    yield n / engine.decode([short], n)
    yield n / engine.decode([long], n)
    yield len(prompts) * n / engine.decode(prompts, n)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--folder", type=Path, help="where the model's files are kept")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)) / "model"
        if not folder.exists():
            write_model(folder)
        names, engines, spawn = [], [], multiprocessing.get_context("spawn")
        for name in args.engines.split(","):
            ours, its = spawn.Pipe()
            spawn.Process(target=serve, args=(name, folder, its), daemon=True).start()
            engines.append(ours)
            names.append(ours.recv())  # it has loaded
        rounds = []
        for i in range(args.rounds + 1):
            rounds.append([])
            for engine in engines:
                time.sleep(0.3)  # threads of the one before go to sleep
                engine.send(24 if i else 2)
                rounds[-1].append(engine.recv())
        for engine in engines:
            engine.send(0)  # done
        print_table(names, rounds[1:])  # the first warmed up


def serve(name, folder, connection):
    """Load an engine, send its name, then measure whenever a number of tokens comes."""
    logging.disable(logging.WARNING)
    engine = ENGINES[name](folder)
    connection.send(engine.name)
    while n_tokens := connection.recv():
        connection.send(list(measure(engine, n_tokens)))


def print_table(names, rounds):
    """Tokens/s, medians over the rounds; in brackets how many times as fast picoGPT is."""
    print(f"tokens/s, medians of {len(rounds)}; NumPy's BLAS kernel: {blas_kernel()}")
    print(f"{'':20}" + "".join(f"{row:>20}" for row in ROWS))
    for j, name in enumerate(names):
        print(f"{name:20}", end="")
        for row in range(len(ROWS)):
            speed = statistics.median(r[j][row] for r in rounds)
            ratio = statistics.median(r[0][row] / r[j][row] for r in rounds)
            print(f"{speed:11.1f} ({ratio:5.2f} x)", end="")
        print()


if __name__ == "__main__":
    main()
