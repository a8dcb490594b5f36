"""The README's links into the source, and its worked examples."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
LINK = re.compile(r'\[(?:`(\w+)`|test)\]\(([\w/.]+\.py)(?: "(\w+)")?\)')


def links(text):
    """(name, path) of every link to a function: [`name`](path) or [test](path "name")."""
    return [(name or title, path) for name, path, title in LINK.findall(text)]


def read():
    return README.read_text(encoding="utf-8")


def defines(path, name):
    """Whether a source file defines a function or class of this name."""
    source = (ROOT / path).read_text(encoding="utf-8")
    return re.search(rf"^\s*(def|class) {name}\b", source, re.MULTILINE) is not None


def test_links_lead_to_files_that_define_the_functions_they_name():
    found = links(read())
    assert len(found) > 60
    assert [(name, path) for name, path in found if not defines(path, name)] == []


def test_every_kernel_and_every_derivative_is_on_the_path():
    from picogpt import gradients, kernels

    linked = {name for name, path in links(read()) if path.startswith("picogpt/")}
    for module in (kernels, gradients):
        own = {name for name, f in vars(module).items()
               if callable(f) and f.__module__ == module.__name__}  # fmt: skip
        helpers = {"few_rows", "last_rows", "new_cache", "dropout_mask", "drop", "block_forward",
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
