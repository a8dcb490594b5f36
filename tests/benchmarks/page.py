"""From Enter to numbers on the screen, in Chromium: python tests/benchmarks/page.py

The served page of `picogpt.explain`, for the built-in model and for 124M's shapes with random
weights; a new sentence of 12 tokens each time. Needs the extra `oracle` and a Chromium. Medians; of
the whole, `server` is what passed until the last byte of the answer was there.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from engines import write_model  # noqa: E402
from oracles import CHROMIUM, FLAGS  # noqa: E402
from serving import serving  # noqa: E402

import picogpt  # noqa: E402
from picogpt.tools.cores import blas_kernel  # noqa: E402

N_TOKENS = 12
TARGETS = {"tiny": 0.3, "124M": 1.5}  # seconds
WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "over", "red", "blue", "little",
         "big", "ball", "house", "tree", "and", "saw", "had"]  # fmt: skip
# from the key to the frame after the one in which the sentence's numbers are drawn
WATCH = """(sentence) => {
  window.measured = new Promise((done) => {
    addEventListener("keydown", () => {
      performance.clearResourceTimings();
      const start = performance.now();
      const look = () => {
        if (document.querySelector("blockquote").firstChild.data !== sentence) {
          requestAnimationFrame(look);
          return;
        }
        requestAnimationFrame(() => setTimeout(() => {
          const end = performance.now(), [answer] = performance.getEntriesByType("resource");
          done([end - start, answer.responseEnd - start, answer.decodedBodySize]);
        }));
      };
      look();
    }, { once: true, capture: true });
  });
}"""


def sentences(encoder, n):
    """n sentences of N_TOKENS tokens."""
    rng, found = np.random.default_rng(0), {}
    while len(found) < n:
        text = " ".join(rng.choice(WORDS, rng.integers(3, N_TOKENS + 1)))
        if len(encoder.encode(text)) == N_TOKENS:
            found[text] = None
    return list(found)


def measure(model, browser, n_runs):
    """n_runs of [seconds to the screen, seconds to the answer, bytes]; the first is not counted."""
    with serving(model, "a mouse") as served:
        page = browser.new_page(viewport={"width": 1280, "height": 900}, locale="en-US")
        page.set_default_timeout(120_000)
        page.goto(f"http://{served.address}/")
        runs = []
        for text in sentences(model.encoder, n_runs + 1):
            page.locator("#text").fill(text)
            page.evaluate(WATCH, text)
            page.locator("#text").press("Enter")
            whole, answer, n_bytes = page.evaluate("measured")
            runs.append((whole / 1000, answer / 1000, n_bytes))
        page.close()
    return runs[1:]


def main():
    """Print the table."""
    from playwright.sync_api import sync_playwright  # here: pytest looks for examples in all files

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--models", nargs="+", choices=TARGETS, default=list(TARGETS))
    asked = parser.parse_args()
    print(f"NumPy {np.__version__}, BLAS kernel: {blas_kernel() or 'unknown'}")
    print("seconds      Enter to screen    slowest    target     server      answer")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name in asked.models:
            where = name
            if name != "tiny":
                where = Path(folder) / name
                write_model(where)
            runs = measure(picogpt.load(where), browser, asked.runs)
            wholes, answers, sizes = zip(*runs)
            print(
                f"{name:<12} {median(wholes):15.2f} {max(wholes):10.2f} {TARGETS[name]:9.1f} "
                f"{median(answers):10.2f} {median(sizes) / 1e6:8.2f} MB",
                flush=True,
            )
        browser.close()


if __name__ == "__main__":
    main()
