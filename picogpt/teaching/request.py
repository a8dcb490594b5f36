"""What a page is asked to show, and what is changed on the way for it."""

from dataclasses import dataclass

from picogpt.generation import prompt_ids
from picogpt.quantization import refuse_int8
from picogpt.teaching.lecture import SENTENCES
from picogpt.tools.errors import TextError

# the next word, "ball", stands in it already: there are heads that find it
DEFAULT_TEXT = "Tom had a red ball. Lily had a blue"
N_TOKENS = 200  # the most on one page, which stays below 20 MB


class Refused(TextError):
    """A request that no page is made of; `korean` says the same in the page's other language."""

    def __init__(self, english, korean):
        super().__init__(english)
        self.korean = korean


@dataclass(frozen=True)
class Request:
    """A sentence or two, and what is to be done with them."""

    texts: tuple = (DEFAULT_TEXT,)
    appended: tuple = ((), ())  # token ids put at the end of each text, by hand
    silenced: tuple = ()  # heads: (block, head)
    patched: tuple = ()  # (block, place in the second text, place in the first)
    learn: bool = False  # one step of learning, too
    lecture: bool = False  # the lecture's sentences, with its questions

    def ids(self, model):
        """The token ids of each text, a list of lists; raises as `check` does."""
        texts = SENTENCES if self.lecture else self.texts
        ids = [[*prompt_ids(model, text), *more] for text, more in zip(texts, self.appended)]
        self.check(model, ids)
        return ids

    def check(self, model, ids):
        """Raise Refused for too many ids, or for tokens, heads or places that aren't there.

        Raises UsageError for learning with int8 weights.
        """
        if self.learn:
            refuse_int8(model.params)
        config = model.config
        n_tokens = sum(map(len, ids))
        limit = min(N_TOKENS, config.n_ctx)
        if n_tokens > limit:
            raise Refused(
                f"This is {n_tokens} tokens, and a page holds {limit}: give a shorter text",
                f"토큰 {n_tokens}개입니다. 한 페이지에는 {limit}개까지입니다. 더 짧게 쓰세요.",
            )
        known = all(0 <= id < model.encoder.n_vocab for part in ids for id in part)
        heads = all(0 <= block < config.n_layer and 0 <= head < config.n_head
                    for block, head in self.silenced)  # fmt: skip
        places = all(
            len(ids) == 2 and 0 <= block < config.n_layer
            and 0 <= there < len(ids[1]) and 0 <= here < len(ids[0])
            for block, there, here in self.patched
        )  # fmt: skip
        if not (known and heads and places):
            raise Refused(
                "The address names a token, head or place that isn't there: start from a sentence",
                "주소가 가리키는 토큰, 헤드 또는 자리가 없습니다. 문장부터 다시 시작하세요.",
            )
        if self.learn and len(ids[0]) < 2:
            raise Refused(
                "Learning needs two tokens or more: the next one is what is learned",
                "학습에는 토큰이 두 개 이상 필요합니다. 다음 토큰이 곧 정답이기 때문입니다.",
            )

    def edit(self, t, donor):
        """The `edit` that `trace` takes for text t, None where nothing is changed in it.

        donor is the trace of the second text: what `patched` puts into the first is taken from it.
        """
        heads, places = {}, {}  # what is changed, by the name that trace gives the array
        for block, head in self.silenced:
            heads.setdefault(f"blocks.{block}.heads", []).append(head)
        for block, there, here in self.patched if t == 0 else ():
            places.setdefault(f"blocks.{block}.y", []).append((there, here))
        if not heads and not places:
            return None

        def edit(name, x):
            for head in heads.get(name, ()):
                x[head] = 0  # of [n_head, n_tokens, d]
            for there, here in places.get(name, ()):
                x[here] = donor[name][there]  # of [n_tokens, n_embd]
            return x

        return edit
