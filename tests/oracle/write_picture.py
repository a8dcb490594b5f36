"""Write the README's picture of the page: python tests/oracle/write_picture.py [MODEL].

The served page about a sentence, as Chromium shows it, to picogpt/teaching/page.png.
"""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from oracles import CHROMIUM, FLAGS  # noqa: E402
from serving import serving  # noqa: E402

import picogpt  # noqa: E402
from picogpt.teaching.request import DEFAULT_TEXT  # noqa: E402


def main(model="tiny", text=DEFAULT_TEXT):
    picture = ROOT / "picogpt" / "teaching" / "page.png"
    with serving(picogpt.load(model), text) as server, sync_playwright() as p:
        flags = [*FLAGS, "--disable-lcd-text"]  # grey letters make a smaller file
        browser = p.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(
            viewport={"width": 1080, "height": 1000}, locale="en-US", device_scale_factor=0.75
        )
        page.goto(f"http://{server.address}/")
        page.locator("nav").evaluate("nav => nav.remove()")  # the list of all steps: too small
        bottom = page.locator("[data-reading]").bounding_box()
        page.set_viewport_size({"width": 1080, "height": int(bottom["y"] + bottom["height"])})
        page.screenshot(path=picture)
        browser.close()
    print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
