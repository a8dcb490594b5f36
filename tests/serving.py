"""The page's server in a thread of the tests' own process."""

import threading
from contextlib import contextmanager

from picogpt.teaching.request import Request
from picogpt.teaching.server import open_server


@contextmanager
def serving(model, text):
    """A running Server whose first page is about a text, on any port that is free."""
    with open_server(model, Request((text,)), 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
