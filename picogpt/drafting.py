"""Exact drafting: a guess at the next tokens, so that one pass of the model can confirm several.

A text that repeats itself (lists, dialogue, code, greedy writing) says what comes next: where its
newest tokens stood before, what followed them then is a draft of what follows now. The model runs
over the whole draft at once; up to 32 tokens cost about as much as three one by one, because the
weights are read from memory once for all. Then each next token is taken from its position's logits
as it would be without a draft, and as long as that is the drafted token, the next position is
valid, too.
Every token is sampled from the same logits with the same random number, so the text is the same,
greedy or sampled, and only the number of passes changes. (A product of several rows rounds
otherwise than one of a single row: where two tokens are equal but for that, either may come.)

Apoorv Saxena 2023, "Prompt Lookup Decoding" (github.com/apoorvumang/prompt-lookup-decoding). It is
speculative decoding (Leviathan, Kalman & Matias 2023, "Fast Inference from Transformers via
Speculative Decoding", sec. 2; Chen et al. 2023, "Accelerating Large Language Model Decoding with
Speculative Sampling") with a draft that is certain of itself. These keep a drafted token with the
probability p / q, at most 1, where the model gives it p and the draft q: here q is 1, and a token
drawn from the model is the drafted one with just that probability p.
"""

N_KEY = 4  # how many of the newest tokens are looked up: where did they stand before?
# a draft is made where the text has repeated itself for so many tokens, at first
FIRST_NEEDED = 6
MIN_NEEDED, MAX_NEEDED = 4, 64  # the fewest and the most that this becomes
MIN_ROWS, MAX_ROWS = 8, 32  # tokens in a pass with a draft; fewer than 8 take as long as 8
PASS_COST = 3  # a pass with a draft takes about as long as this many passes without one


class Drafter:
    """The look-up for one text: where its newest tokens stood before, and what followed them.

    A pass with a draft costs more than one over a single token, so a draft must be likely. What
    tells best is for how many tokens the text has followed its earlier place by now (`n_agreed`).
    How many are needed (`n_needed`), and how long a draft is, goes by how the drafts before fared.
    """

    def __init__(self):
        self.followers = {}  # N_KEY tokens -> index of the token after them, at their newest place
        self.n_read = 0  # tokens of the text that have been looked at
        self.source = None  # index of the token that comes next, if the text repeats itself
        self.n_agreed = 0  # tokens that the text and its source have had in common; if there is one
        self.n_needed = FIRST_NEEDED
        self.n_rows = MIN_ROWS

    def draft(self, ids, n_max):
        """Token ids that may follow the text `ids`, n_max at most; none where nothing is likely.

        The text must begin with that of the last call.
        """
        for i in range(max(self.n_read, N_KEY - 1), len(ids)):
            self.read(ids, i)
        self.n_read = len(ids)
        n = min(self.n_rows - 1, n_max)  # one row is for the newest token
        too_short = n < PASS_COST  # could not bring in what its pass costs
        if self.source is None or self.n_agreed < self.n_needed or too_short:
            return []
        repeated = ids[self.source : self.source + n]
        return (repeated * n)[:n]  # a loop shorter than n tokens goes round in the draft

    def read(self, ids, i):
        """Take in token i: the source goes on if it agrees, else a new one is looked up."""
        key = tuple(ids[i + 1 - N_KEY : i + 1])  # token i and those before it
        if self.source is not None and ids[self.source] == ids[i]:
            self.source += 1
            self.n_agreed += 1
        else:
            self.source = self.followers.get(key)
            self.n_agreed = N_KEY
        self.followers[key] = i + 1

    def judge(self, n_drafted, n_right):
        """Learn from a draft of which the first n_right tokens held.

        Where all of it held, the next may be longer and come sooner. Where the pass brought fewer
        tokens than it cost, the next waits until the text has repeated itself for twice as long.
        """
        if n_right == n_drafted:
            self.n_rows = min(2 * self.n_rows, MAX_ROWS)
            self.n_needed = max(self.n_needed // 2, MIN_NEEDED)
        else:
            self.n_rows = MIN_ROWS
            if n_right + 1 < PASS_COST:  # the token after those that held is right, too
                self.n_needed = min(2 * self.n_needed, MAX_NEEDED)
