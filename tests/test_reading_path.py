"""The README's links into the source, and its worked examples.

Lines move: `python tests/test_reading_path.py` writes every link's line anew.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
LINK = re.compile(r'\[(?:`(\w+)`|test)\]\(([\w/.]+)#L(\d+)(?: "(\w+)")?\)')


def links(text):
    """(name, path, line) of every link to a line: [`name`](path#L1) or [test](path#L1 "name")."""
    return [(name or title, path, int(line)) for name, path, line, title in LINK.findall(text)]


def read():
    return README.read_text(encoding="utf-8")


def line_of(name, path):
    """The line on which a function or class is defined; 0 where it is not."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    define = re.compile(rf"\s*(def|class) {name}\b")
    return next((i for i, line in enumerate(lines, 1) if define.match(line)), 0)


def test_links_lead_to_the_lines_of_the_functions_they_name():
    found = links(read())
    assert len(found) > 60
    wrong = [f"{name} in {path} is on line {line_of(name, path)}, not {line}"
             for name, path, line in found if not line or line_of(name, path) != line]  # fmt: skip
    assert wrong == [], "run: python tests/test_reading_path.py"


def test_every_kernel_and_every_derivative_is_on_the_path():
    from picogpt import gradients, kernels  # not above: the script at the end needs no package

    linked = {name for name, path, _ in links(read()) if path.startswith("picogpt/")}
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
    def moved(match):
        name, path, line, title = match.groups()
        return match[0].replace(f"#L{line}", f"#L{line_of(name or title, path)}")

    README.write_text(LINK.sub(moved, read()), encoding="utf-8", newline="\n")
