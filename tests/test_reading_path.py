"""The README's links into the source, and its worked examples.

Lines move: `python tests/test_reading_path.py` writes every link's line anew.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
LINK = re.compile(r"\[`(\w+)`\]\(([\w/.]+)#L(\d+)\)")


def read():
    return README.read_text(encoding="utf-8")


def line_of(name, path):
    """The line on which a function or class is defined; 0 where it is not."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    define = re.compile(rf"\s*(def|class) {name}\b")
    return next((i for i, line in enumerate(lines, 1) if define.match(line)), 0)


def test_links_lead_to_the_lines_of_the_functions_they_name():
    links = LINK.findall(read())
    assert len(links) > 60
    wrong = [f"{name} in {path} is on line {line_of(name, path)}, not {line}"
             for name, path, line in links if line_of(name, path) != int(line)]  # fmt: skip
    assert wrong == [], "run: python tests/test_reading_path.py"


def test_every_kernel_and_every_derivative_is_on_the_path():
    from picogpt import gradients, kernels  # not above: the script at the end needs no package

    linked = {name for name, path, _ in LINK.findall(read()) if path.startswith("picogpt/")}
    for module in (kernels, gradients):
        own = {name for name, f in vars(module).items()
               if callable(f) and f.__module__ == module.__name__}  # fmt: skip
        helpers = {"few_rows", "cut", "new_cache", "dropout_mask", "drop", "block_forward",
                   "dense_backward", "norm_backward"}  # fmt: skip
        assert own - helpers <= linked


def test_the_examples_run(capsys):
    if not (ROOT / "weights" / "tiny").is_dir():
        pytest.skip("the built-in model is not in this checkout")
    import picogpt

    section = read().partition("### Change a value on its way")[2].partition("\n## ")[0]
    namespace = {}
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, namespace)
    lines = capsys.readouterr().out.splitlines()
    model = picogpt.load("tiny")
    n_layer, n_head = model.config.n_layer, model.config.n_head
    assert len(lines) == 1 + n_layer * n_head + n_layer
    best = picogpt.logits(model, namespace["other"], last_only=True).argmax()
    assert lines[-1] == f"after block {n_layer - 1}: {model.encoder.decode([int(best)])}"


if __name__ == "__main__":
    text = LINK.sub(lambda m: f"[`{m[1]}`]({m[2]}#L{line_of(m[1], m[2])})", read())
    README.write_text(text, encoding="utf-8", newline="\n")
