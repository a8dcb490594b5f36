"""Added tokens: texts that stay whole, whatever the merges would make of them.

<|endoftext|>, a [PAD], the tags of a chat: they are cut out of a text before anything else looks at
it. The rules, and the names of the flags, are those of Hugging Face's tokenizers.
"""

from dataclasses import dataclass

import regex

SPACE = regex.compile(r"\s")
SPACES = regex.compile(r"\s*")
# what the Rust library calls a word character
WORD_CHARACTER = regex.compile(r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]")


@dataclass(frozen=True)
class AddedToken:
    """One text that stays whole, its id, and the conditions under which it does."""

    content: str
    id: int
    special: bool = False  # a mark, no text, as <|endoftext|>: found only with allow_special
    single_word: bool = False  # found only where no letter, digit or _ touches it
    lstrip: bool = False  # takes the white space before it along
    rstrip: bool = False  # takes the white space behind it along
    # in Hugging Face's tokenizers: looked for in the normalized text, after all tokens that aren't.
    # GPT-2's kind normalizes nothing: what is left of it is that order
    normalized: bool = False


class AddedTokenSplitter:
    """Cuts the added tokens out of a text."""

    def __init__(self, tokens):
        self.tokens = {token.content: token for token in tokens}
        self.patterns = []
        for normalized in (False, True):
            contents = [token.content for token in tokens if token.normalized == normalized]
            if contents:
                # of the tokens that begin at one place the longest is meant, and a pattern
                # takes the first of its alternatives that fits
                longest_first = sorted(contents, key=len, reverse=True)
                self.patterns.append(regex.compile("|".join(map(regex.escape, longest_first))))
        self.only_special = all(token.special for token in tokens)

    def across_gaps(self):
        """A pattern of the tokens that a text must not be cut in; None where there are none.

        `training.data.read_chunks` cuts where white space follows a word. That may be inside a
        token that has white space in it, or between one and the white space that it takes along.
        """
        patterns = [
            regex.escape(token.content) + (r"\s*" if token.rstrip else "")
            for token in self.tokens.values()
            if token.rstrip or SPACE.search(token.content)
        ]
        return regex.compile("|".join(patterns)) if patterns else None

    def split(self, text, allow_special):
        """Cut a text: a list of (None, plain text) and (AddedToken, "") in their order.

        Special tokens are plain text unless allow_special.
        """
        if self.only_special and not allow_special:
            return [(None, text)] if text else []
        parts = [(None, text)]
        for pattern in self.patterns:
            smaller = []
            for token, part in parts:
                if token:
                    smaller.append((token, part))
                else:
                    smaller += self._split_by(pattern, part, allow_special)
            parts = smaller
        return parts

    def _split_by(self, pattern, text, allow_special):
        """Cut a plain text at the tokens that one pattern finds: yield parts as `split` does."""
        start = 0  # of what is not yet given out
        for match in pattern.finditer(text):
            token = self.tokens[match.group()]
            begin, end = match.span()
            if token.special and not allow_special:
                continue
            if token.single_word and (
                (begin > 0 and WORD_CHARACTER.match(text, begin - 1))
                or WORD_CHARACTER.match(text, end)
            ):
                continue
            if token.lstrip:
                while begin > start and SPACE.match(text, begin - 1):
                    begin -= 1
            if token.rstrip:
                end = SPACES.match(text, end).end()
            if start < begin:
                yield None, text[start:begin]
            yield token, ""
            start = end
        if start < len(text):
            yield None, text[start:]
