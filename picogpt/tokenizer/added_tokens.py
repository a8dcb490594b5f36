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
    special: bool = False  # marks what is no text: found only where special tokens are asked for
    single_word: bool = False  # found only where no letter or digit touches it
    lstrip: bool = False  # takes the white space before it along
    rstrip: bool = False  # takes the white space behind it along
    normalized: bool = False  # looked for after those that are not


class AddedTokenSplitter:
    """Cuts the added tokens out of a text."""

    def __init__(self, tokens):
        self.tokens = {token.content: token for token in tokens}
        self.patterns = []
        for normalized in (False, True):
            contents = [token.content for token in tokens if token.normalized == normalized]
            if contents:  # of those that begin at one place the longest is found
                longest_first = sorted(contents, key=len, reverse=True)
                self.patterns.append(regex.compile("|".join(map(regex.escape, longest_first))))
        self.only_special = all(token.special for token in tokens)

    def across_gaps(self):
        """A pattern of what mustn't be cut where white space follows a word; None is nothing."""
        patterns = [
            regex.escape(token.content) + (r"\s*" if token.rstrip else "")
            for token in self.tokens.values()
            if token.rstrip or SPACE.search(token.content)
        ]
        return regex.compile("|".join(patterns)) if patterns else None

    def split(self, text, allow_special):
        """Cut a text: yield (None, plain text) and (AddedToken, "") in their order."""
        if self.only_special and not allow_special:
            return [(None, text)] if text else []
        parts = [(None, text)]
        for pattern in self.patterns:
            parts = [
                smaller
                for token, part in parts
                for smaller in (
                    [(token, part)] if token else self._split_by(pattern, part, allow_special)
                )
            ]
        return parts

    def _split_by(self, pattern, text, allow_special):
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
