"""One browser for each module that looks at the page."""

import pytest
from oracles import CHROMIUM, FLAGS, oracle


@pytest.fixture(scope="module")
def browser():
    with oracle("playwright.sync_api").sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
