"""The sums that a small GPT learns to add from: what is written, and what is asked."""

import pytest
from models import small_model

from picogpt.model import save
from picogpt.teaching import sums
from picogpt.tools.cli import call


def test_the_file_holds_every_seen_sum_thirty_times_and_no_unseen_one(tmp_path, capsys):
    file = tmp_path / "sums.txt"
    assert call(sums.main, [str(file)]) == 0
    assert "9,000 different sums" in capsys.readouterr().out
    lines = file.read_text().splitlines()
    train, unseen = sums.split_sums()
    assert len(lines) == 30 * len(train) == 270_000 and len(unseen) == 1000
    assert set(lines) == {f"{a:02}+{b:02}=" + f"{a + b:03}"[::-1] for a, b in train}
    asked = {f"{a:02}+{b:02}" for a, b in unseen}
    assert not asked & {line[:5] for line in lines}


def test_right_answers_are_counted():
    pairs = [(38, 47), (1, 2), (99, 99), (50, 50)]
    assert sums.share_right(["580", "300", "891", "001"], pairs) == 1
    assert sums.share_right(["085", "300", "", "001"], pairs) == 0.5


def test_a_model_is_asked(tmp_path, capsys):
    save(small_model(), tmp_path / "m")
    assert call(sums.main, ["--ask", str(tmp_path / "m")]) == 0
    assert capsys.readouterr().out == "0.0% of 1,000 sums that it has never seen are right\n"


@pytest.mark.parametrize("words", [[], ["sums.txt", "--ask", "m"]])
def test_one_of_the_two_is_asked_for(words, capsys):
    assert call(sums.main, words) == 2
    assert "--ask" in capsys.readouterr().err
