"""The parts of the exercises in the order of the reading path: what to fill in, how hard it is.

Levels go from 1 (formulas from the lecture) to 3 (derivations of one's own). Minutes are what we
would plan for a second-year student; nobody has measured them.
"""

from importlib import import_module
from typing import NamedTuple


class Part(NamedTuple):
    """A module of which some functions are blanked in a student's copy."""

    name: str
    module: str  # inside picogpt
    level: int
    minutes: dict  # {function to fill in: minutes}, in the order of doing
    about: dict  # {language: one sentence}

    @property
    def path(self):
        """Where the module's file is, from picogpt/ on."""
        return self.module.replace(".", "/") + ".py"

    def load(self):
        """The module itself."""
        return import_module(f"picogpt.{self.module}")


PARTS = {
    part.name: part
    for part in [
        Part(
            "lecture", "reference", 1,
            {"gelu": 10, "softmax": 10, "layer_norm": 15, "linear": 5, "ffn": 10, "attention": 20,
             "mha": 40, "transformer_block": 10, "gpt2": 15, "generate": 15},
            {"en": "GPT-2 on one page, with the lecture's signatures: one sentence, no cache",
             "ko": "한 페이지짜리 GPT-2: 강의와 같은 함수들 (문장 하나, 캐시 없음)"},
        ),
        Part(
            "kernels", "kernels", 2,
            {"gelu": 5, "softmax": 5, "layer_norm": 5, "linear": 5, "ffn": 10, "attention": 15,
             "causal_mask": 15, "split_heads": 10, "merge_heads": 10, "mha": 45,
             "transformer_block": 10, "hidden_states": 25, "gpt2": 15},
            {"en": "the same for batches (lengths) and for writing on (caches)",
             "ko": "같은 함수들을 배치(lengths)와 캐시(caches)까지 다루도록 확장하기"},
        ),
        Part(
            "gradients", "gradients", 3,
            {"gelu_backward": 25, "softmax_backward": 30, "layer_norm_backward": 50,
             "linear_backward": 20, "attention_backward": 40, "block_backward": 60},
            {"en": "the derivative of each formula: from the gradient of an output to the inputs'",
             "ko": "각 함수의 역전파: 출력의 그래디언트에서 입력의 그래디언트 구하기"},
        ),
        Part(
            "optimizer", "optim", 2,
            {"adamw": 40, "learning_rate": 15, "global_norm": 10, "clip": 15},
            {"en": "AdamW, the learning-rate schedule and gradient clipping",
             "ko": "AdamW, 학습률 스케줄, 그래디언트 클리핑"},
        ),
        Part(
            "sampling", "generation", 1,
            {"keep_top_k": 15, "keep_top_p": 25, "distribution": 15},
            {"en": "from logits to the probabilities that the next token is sampled from",
             "ko": "로그잇에서 다음 토큰을 뽑을 확률까지 (temperature, top-k, top-p)"},
        ),
        Part(
            "tokens", "teaching.tokens", 1,
            {"count_pairs": 10, "join": 15, "learn_merges": 25, "encode": 20, "decode": 10},
            {"en": "byte-pair encoding: learn merges, encode a text, decode ids",
             "ko": "BPE: 병합 학습, 인코딩, 디코딩"},
        ),
        Part(
            "training", "teaching.training", 2,
            {"batch_at": 15, "cross_entropy": 25, "train_step": 15, "train": 15},
            {"en": "batches, the loss, one step, and the loop around it",
             "ko": "배치, 손실, 학습 한 단계, 그리고 학습 루프"},
        ),
    ]
}  # fmt: skip


def part_of(module):
    """The part whose functions stand in a module."""
    return next(part for part in PARTS.values() if module.__name__ == f"picogpt.{part.module}")


def hours(minutes, lang="en"):
    """Minutes as people say them: 35 min, 2.5 h."""
    units = {"en": (" min", " h"), "ko": ("분", "시간")}[lang]
    if minutes < 60:
        return f"{minutes}{units[0]}"
    return f"{round(minutes / 30) / 2:g}{units[1]}"
