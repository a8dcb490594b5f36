"""Messages that repeat what files and servers say."""

import pytest

from picogpt.tools import errors

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_message_steers_the_terminal(kind):
    said = str(kind("no \x1b[31mshard\x1b[0m \x07here\r\n, \x9b2J 한국어 é"))
    assert said == r"no \x1b[31mshard\x1b[0m \x07here\r\n, \x9b2J 한국어 é"


def test_an_error_of_the_system_within_keeps_its_words():
    assert str(errors.DownloadError("a", "b")) == str(OSError("a", "b"))
