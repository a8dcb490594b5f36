"""Tokens and passes of the model, counted."""

from models import small_model

from picogpt import generate, generate_batch
from picogpt.tools.tally import Tally


def test_a_tally_counts_reading_apart():
    model = small_model(generation={"eos_token_id": None})
    tally = Tally()
    assert str(tally) == "no token written"
    generate_batch(model, ["x" * 8, "y" * 3], 5, draft=False, tally=tally)
    assert (tally.n_read, tally.n_first, tally.n_written, tally.n_passes) == (11, 2, 8, 4)
    said = str(tally)
    assert said.startswith("11 tokens read and 2 written in ")
    assert "; 8 more in 4 passes: 2.00 tokens a pass, " in said
    tally = Tally()
    "".join(generate(model, "x", 5, draft=False, tally=tally))  # a prompt of one token
    assert str(tally).startswith("5 tokens written in 5 passes: 1.00 tokens a pass, ")
