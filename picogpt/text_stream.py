"""From tokens to text while it is written: whole characters, and where a text ends."""

import codecs

from picogpt.checkpoint.generation_config import end_token_ids, stop_strings
from picogpt.tools.errors import UsageError


class TextStream:
    """Turns tokens' bytes into text that can be printed: whole characters, and no stop string."""

    def __init__(self, stops):
        self.stops = stops
        self.pending = ""  # text that is not given out yet: a stop string may begin with it
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.done = False

    def feed(self, data, final):
        """Take in bytes; give back the text that is sure by now; if `final`, all before a stop."""
        text = self.pending + self.decoder.decode(data, final)
        found = [text.index(stop) for stop in self.stops if stop in text]
        self.done = final or bool(found)
        if self.done:
            return text[: min(found, default=len(text))]
        beginnings = [stop[:n] for stop in self.stops for n in range(1, len(stop))]
        n_pending = max((len(start) for start in beginnings if text.endswith(start)), default=0)
        end = len(text) - n_pending
        self.pending = text[end:]
        return text[:end]


class IdStream:
    """What a prompt of ids gets in TextStream's place: ids, as they come."""

    done = False

    def feed(self, ids, final):
        """Take in a list of ids, and give it back."""
        self.done = final
        return ids


def stop_strings_for(model, stop, all_texts):
    """The strings before which texts end: those asked for, else those of the generation config.

    `stop` is a list of strings, one string with ||| between them, or None for what the model says;
    `all_texts` tells whether every prompt is a text. Raises UsageError for a stop that is neither a
    text nor a list of texts, and for one beside a prompt of ids.
    """
    if stop is None:
        return stop_strings(model.generation)
    stops = stop.split("|||") if isinstance(stop, str) else stop
    if not isinstance(stops, list | tuple) or not all(isinstance(one, str) for one in stops):
        raise UsageError(f"stop must be a text or a list of texts, not {stop!r:.60}")
    if not all_texts:
        raise UsageError("stop is a text, and a prompt of token ids gets ids: leave it out")
    return [stop for stop in stops if stop]


def end_tokens(model):
    """The ids that end a text: generation_config.json's; config.json's where there is no such file.

    A generation config that names none means that nothing ends a text. Raises CheckpointError where
    they are no ids.
    """
    return end_token_ids(model.generation or vars(model.config))
