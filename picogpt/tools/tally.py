"""What writing a text has taken: tokens, passes of the model, seconds."""

from dataclasses import dataclass


@dataclass
class Tally:
    """What writing has taken: `generation.stream` counts it up, pass by pass of the model.

    A pass that reads more than it writes (prefill: a prompt, or once more the newest half of a text
    that has outgrown the model) is counted apart.
    """

    n_read: int = 0  # tokens that prefill has read
    n_first: int = 0  # tokens that prefill has written, one for each sequence
    prefill_seconds: float = 0.0
    n_written: int = 0  # tokens written by all other passes
    n_passes: int = 0  # those others
    decode_seconds: float = 0.0

    def count(self, read, n_written, seconds):
        """Count a pass; `read` holds a list of ids for each sequence, or nothing."""
        if read:
            self.n_read += sum(map(len, read))
            self.n_first += n_written
            self.prefill_seconds += seconds
        else:
            self.n_written += n_written
            self.n_passes += 1
            self.decode_seconds += seconds

    def __str__(self):
        """The sentence that --verbose prints."""
        said = []
        if self.n_first:
            seconds = f"{self.prefill_seconds:.2f} s"
            said.append(f"{self.n_read} tokens read and {self.n_first} written in {seconds}")
        if self.n_passes:
            per_pass = f"{self.n_written / self.n_passes:.2f} tokens a pass"
            speed = f"{self.n_written / self.decode_seconds:,.1f} tokens a second"
            more = f"{self.n_written} more" if said else f"{self.n_written} tokens written"
            said.append(f"{more} in {self.n_passes} passes: {per_pass}, {speed}")
        return "; ".join(said) or "no token written"
