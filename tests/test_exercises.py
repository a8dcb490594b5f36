"""`picogpt.exercises`: what it writes fails as it is, passes when filled in, and knows mistakes."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from picogpt.checkpoint.hub import TINY_FOLDERS, is_complete
from picogpt.exercises import PARTS, arguments, blank, check, golden, main, mistaken
from picogpt.tools.cli import call

PACKAGE = Path(inspect.getfile(main)).parent
MISTAKES = json.loads((PACKAGE / "mistakes.json").read_text(encoding="utf-8"))
PART_OF = {name: module for module in PARTS.values() for name in arguments()
           if inspect.getmodule(getattr(module, name, None)) is module}  # fmt: skip


def run_pytest(folder):
    """{test: whether it passed} of a folder of exercises, run as a student does."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-q", "--tb=line", "-p", "no:cacheprovider"],
        cwd=folder, env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, encoding="utf-8",
    )  # fmt: skip
    said = re.findall(r"^(PASSED|FAILED) \S+::test_(\w+)", done.stdout, re.MULTILINE)
    return {name: passed == "PASSED" for passed, name in said}


@pytest.mark.parametrize("part", PARTS)
def test_fails_before_and_passes_with_the_original_bodies(part, tmp_path):
    folder = tmp_path / "work"
    assert call(main, [str(folder), "--part", part]) == 0
    names = [name for name, module in PART_OF.items() if module is PARTS[part]]
    assert run_pytest(folder) == dict.fromkeys(names, False)
    file = Path(PARTS[part].__file__)
    blanked = folder / "picogpt" / file.name
    assert blanked.read_text(encoding="utf-8").count("your code here") == len(names)
    blanked.write_bytes(file.read_bytes())
    assert run_pytest(folder) == dict.fromkeys(names, True)


def test_every_function_has_its_mistakes():
    assert PART_OF.keys() == arguments().keys() == MISTAKES.keys()
    public = {"gelu", "softmax", "layer_norm", "linear", "ffn", "attention", "mha",
              "transformer_block", "gpt2"}  # fmt: skip
    assert public <= MISTAKES.keys()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_its_hint(name):
    module = PART_OF[name]
    right, source = getattr(module, name), inspect.getsource(getattr(module, name))
    calls = golden(module, name, MISTAKES[name])
    check(right, calls)
    for before, after, hint in MISTAKES[name]:
        assert before in source, f"{name} has no {before!r} any more"
        with pytest.raises(AssertionError) as error:
            check(mistaken(module, name, before, after), calls)
        assert str(error.value) == f"{name}: {hint}"


def test_every_call_is_needed():
    for name, module in PART_OF.items():
        for given, _, mistakes in golden(module, name, MISTAKES[name])[1:]:
            assert mistakes, f"{name}: no mistake shows in the call with {list(given)}"


def test_an_unknown_mistake_shows_both():
    softmax = PARTS["kernels"].softmax
    with pytest.raises(AssertionError, match=r"<lambda>: it gives\n.*\ninstead of\n"):
        check(lambda x: x[0], golden(PARTS["kernels"], "softmax", []))
    in_place = mistaken(PARTS["kernels"], "softmax", "exp_x = np.exp(", "x[:] = exp_x = np.exp(")
    assert (in_place(np.ones(2)) == softmax(np.ones(2))).all()
    with pytest.raises(AssertionError, match="softmax: it changes x, which should stay as it is"):
        check(in_place, golden(PARTS["kernels"], "softmax", []))
    adamw = PARTS["optimizer"].adamw

    def and_back(params, **rest):
        adamw(params, **rest)
        return params

    with pytest.raises(AssertionError, match="it gives something back"):
        check(and_back, golden(PARTS["optimizer"], "adamw", []))


def test_blanks_keep_everything_but_the_bodies():
    source = Path(PARTS["kernels"].__file__).read_text(encoding="utf-8")
    space = {}
    exec(blank(source, ["softmax", "mha"]), space)
    for name in ("softmax", "mha"):
        assert space[name].__doc__ == getattr(PARTS["kernels"], name).__doc__
        assert inspect.signature(space[name]) == inspect.signature(getattr(PARTS["kernels"], name))
        with pytest.raises(NotImplementedError, match="your code here"):
            space[name](*[None] * (4 if name == "mha" else 1))
    before, after = (text.splitlines() for text in (source, blank(source, ["softmax", "mha"])))
    assert set(after) - set(before) == {'    raise NotImplementedError("your code here")'}
    assert blank(source, []) == source


def test_refuses_a_folder_that_is_there(tmp_path, capsys):
    assert call(main, [str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert call(main, [str(tmp_path / "new"), "--part", "attention"]) == 2
    assert "--part must be one of kernels, gradients" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_filled_in_copy_shows_its_own_source(tmp_path):
    if not any(map(is_complete, TINY_FOLDERS)):
        pytest.skip("the built-in model is not in this checkout")
    folder = tmp_path / "work"
    assert call(main, [str(folder)]) == 0
    source = Path(PARTS["kernels"].__file__).read_text(encoding="utf-8")
    start, end = source.index("    n = x.shape[-1]  # sum"), source.index("\n\ndef linear(")
    own = """    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return g * (x - mean) / np.sqrt(var + eps) + b\n"""
    (folder / "picogpt" / "kernels.py").write_text(source[:start] + own + source[end:])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "picogpt.explain", "--model_size", "tiny"],
        cwd=folder, env=environment, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.stderr == "" and done.stdout.strip() == str((folder / "explain.html").resolve())
    page = (folder / "explain.html").read_text(encoding="utf-8")
    assert "mean, var = x.mean(-1, keepdims=True)" in page
