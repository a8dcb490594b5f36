"""The README's links into the source, and its worked examples."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEACHING = ROOT / "picogpt" / "teaching" / "README.md"
READMES = [ROOT / "README.md", *sorted((ROOT / "picogpt").glob("*/README*.md"))]
LINK = re.compile(r"\]\(([\w/.-]+)(?: \"(\w+)\")?\)")
# words that bash, PowerShell 5.1 and cmd all take for the same: no #, && or bare comma, no quotes
# but double ones, nothing in them that a shell replaces, no line that goes on in the next
SHELL_WORD = r'(?:[\w./:=+-]+|"[^"`$%!\\]*")'
COMMAND = re.compile(rf"{SHELL_WORD}(?: {SHELL_WORD})*")
FOR_WINDOWS = r".venv\Scripts\activate"
FUNCTION = re.compile(r'\[(?:`(\w+)`|test|테스트)\]\(([\w/.]+\.py)(?: "(\w+)")?\)')


def functions(readme):
    """(name, path) of every link to a function: [`name`](path) or [test](path "name")."""
    found = FUNCTION.findall(readme.read_text(encoding="utf-8"))
    return [(name or title, (readme.parent / path).resolve()) for name, path, title in found]


def defines(path, name):
    """Whether a source file defines a function or class of this name."""
    source = path.read_text(encoding="utf-8")
    return re.search(rf"^\s*(def|class) {name}\b", source, re.MULTILINE) is not None


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(readme):
    links = [path for path, _ in LINK.findall(readme.read_text(encoding="utf-8"))]
    assert links
    assert [path for path in links if not (readme.parent / path).exists()] == []


def commands(readme):
    """The lines that a reader types into a shell."""
    text = readme.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`((?:python|pip|picogpt|pytest|py) [^`]+)`", text)
    return [line for kind, block in blocks if not kind for line in block.splitlines()] + inline


def test_commands_are_the_same_in_every_shell():
    found = [line for readme in READMES for line in commands(readme)]
    assert len(found) > 40
    assert [line for line in found if not COMMAND.fullmatch(line)] == [FOR_WINDOWS]


@pytest.mark.parametrize("language", ["", ".ko"])
def test_links_to_functions_lead_to_files_that_define_them(language):
    found = functions(TEACHING.with_name(f"README{language}.md"))
    assert len(found) > 60
    assert [(name, path) for name, path in found if not defines(path, name)] == []


def test_both_languages_have_the_same_path():
    assert functions(TEACHING) == functions(TEACHING.with_name("README.ko.md"))


def test_every_kernel_and_every_derivative_is_on_the_path():
    from picogpt import gradients, kernels

    linked = {name for name, path in functions(TEACHING) if "tests" not in path.parts}
    for module in (kernels, gradients):
        own = {name for name, f in vars(module).items()
               if callable(f) and f.__module__ == module.__name__}  # fmt: skip
        helpers = {"few_rows", "in_turn", "int8_product", "last_rows", "new_cache", "dropout_mask",
                   "drop", "block_forward", "dense_backward", "norm_backward"}  # fmt: skip
        assert own - helpers <= linked


def test_the_examples_run(capsys):
    if not (ROOT / "weights" / "tiny").is_dir():
        pytest.skip("the built-in model is not in this checkout")
    import picogpt

    text = TEACHING.read_text(encoding="utf-8")
    section = text.partition("## Change a value on its way")[2].partition("\n## ")[0]
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


def test_the_built_in_model_has_heads_that_look_back(capsys):
    if not (ROOT / "weights" / "tiny").is_dir():
        pytest.skip("the built-in model is not in this checkout")
    section = TEACHING.read_text(encoding="utf-8").partition("## Find the head that looks back")[2]
    (block,) = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    namespace = {}
    exec(block, namespace)
    found = namespace["found"]
    assert found["second"] < found["first"] - 2 and found["induction"].max() >= 0.4
    assert f"the second time {found['second']:.1f}" in capsys.readouterr().out
