"""Writing a student's folder: a copy of the package without one part's solutions, and its tests."""

import ast
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from picogpt.checkpoint.hub import TINY_FOLDERS, is_complete
from picogpt.teaching.check import STILL_BLANK
from picogpt.teaching.exercise_parts import PARTS
from picogpt.teaching.golden import golden, load_mistakes
from picogpt.teaching.golden_files import save_golden
from picogpt.teaching.guide import guide
from picogpt.tools.errors import PicoGPTError
from picogpt.tools.progress import hidden

PACKAGE = Path(__file__).parent.parent
TEST = '''"""{about}"""

from picogpt.{module} import {name}
from picogpt.teaching.golden_files import check_golden


def test_{name}():
    check_golden({name}, name="{name}")
'''
TODO = f'    raise NotImplementedError("{{name}}{STILL_BLANK}: your code here")\n'
BY_REFERENCE = """\
    from picogpt.teaching.own_code import by_reference

    return by_reference("{name}", locals())
"""
OWN_BLOCK = """\
    arguments = locals()
    from picogpt.teaching import own_code

    return own_code.block_forward(**arguments)
"""


def write_folder(folder, part, lang):
    """Write a new folder for one part of the exercises; it is there whole or not at all.

    `lang` is "en" or "ko". Raises PicoGPTError where it can't be written.
    """
    with written_whole(folder) as made:
        fill_folder(made, part, lang)


def write_all(folder, lang):
    """Write a new folder that holds one for each part, numbered in their order: their names.

    It is there whole or not at all. Raises PicoGPTError where it can't be written.
    """
    parts = {f"{number}-{part.name}": part for number, part in enumerate(PARTS.values(), 1)}
    with written_whole(folder) as made:
        for name, part in tqdm(parts.items(), "parts", leave=False, disable=hidden()):
            fill_folder(made / name, part, lang)
    return list(parts)


@contextmanager
def written_whole(folder):
    """Give a folder to write to, which is renamed to `folder` once all went well, else deleted.

    Raises PicoGPTError where something can't be written.
    """
    made = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    try:
        made.mkdir(parents=True)
        yield made
        made.rename(folder)
    except OSError as error:
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        raise PicoGPTError(f"{folder} can't be written ({reason}): is there space?") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def fill_folder(folder, part, lang):
    """Write package, tests and README of one part into a folder."""
    copy_package(folder, part)
    write_tests(folder, part, lang)
    (folder / "README.md").write_text(guide(part, lang), encoding="utf-8", newline="\n")


def copy_package(folder, part):
    """Copy the package and the built-in model, less what would give solutions away."""
    unneeded = shutil.ignore_patterns("__pycache__", "tiny", "samples", "numbers", "mistakes.json")
    shutil.copytree(PACKAGE, folder / "picogpt", ignore=unneeded)
    for tiny in filter(is_complete, TINY_FOLDERS):
        shutil.copytree(tiny, folder / "weights" / "tiny", dirs_exist_ok=True)
    package = folder / "picogpt"
    edit_file(package / part.path, dict.fromkeys(part.minutes, TODO))
    lecture, kernels = PARTS["lecture"], PARTS["kernels"]
    if part not in (lecture, kernels):
        return
    # training's forward pass is the kernels once more, step by step: the page runs one's own
    edit_file(package / "gradients.py", {"attention_forward": TODO, "block_forward": OWN_BLOCK})
    if part is kernels:
        edit_file(package / lecture.path, dict.fromkeys(lecture.minutes, TODO))
        own = "kernels"
    else:
        both = [name for name in kernels.minutes if name in lecture.minutes]
        edit_file(package / kernels.path, dict.fromkeys(both, BY_REFERENCE))
        edit_file(package / kernels.path, {"hidden_states": TODO})
        own = "reference"
    point_page_to(package / "teaching" / "web", own)


def edit_file(path, bodies):
    """Put other bodies, {function: lines}, into a source file."""
    source = path.read_text(encoding="utf-8")
    path.write_text(with_bodies(source, bodies), encoding="utf-8", newline="\n")


def with_bodies(source, bodies):
    """The source with other bodies for the named functions; docstrings and comments above stay."""
    lines = source.splitlines(keepends=True)
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.FunctionDef) and node.name in bodies:
            has_docstring = ast.get_docstring(node) is not None
            start = node.body[0].end_lineno if has_docstring else node.body[0].lineno - 1
            lines[start : node.end_lineno] = [bodies[node.name].format(name=node.name)]
    return "".join(lines)


def blank(source, names):
    """The source with the bodies of the named functions left out; docstrings stay."""
    return with_bodies(source, dict.fromkeys(names, TODO))


def point_page_to(web, own):
    """Let the page show the student's functions where it shows the engine's lines."""
    names = "|".join(PARTS["lecture"].minutes)
    for script in web.glob("*.js"):
        text = script.read_text(encoding="utf-8")
        text = re.sub(rf'src\("kernels", "({names})"', rf'src("{own}", "\1"', text)
        if own == "reference":
            text = text.replace('src("kernels", "hidden_states"', 'src("reference", "gpt2"')
        text = re.sub(r'src\("gradients", "attention_forward"', f'src("{own}", "attention"', text)
        script.write_text(text, encoding="utf-8", newline="\n")


def write_tests(folder, part, lang):
    """Write a test for each function, numbered in the order of doing, and the numbers for it."""
    numbers = folder / "picogpt" / "teaching" / "numbers"
    numbers.mkdir()
    (numbers / "part.txt").write_text(part.name + "\n", encoding="utf-8", newline="\n")
    (folder / "pytest.ini").write_text(
        "[pytest]\npythonpath = .\naddopts = -p no:cacheprovider --tb=short\n", encoding="utf-8"
    )
    usual = load_mistakes()
    module = part.load()
    about = {"en": "Is {} right? Run this with: pytest {}", "ko": "{} 확인하기: pytest {}"}[lang]
    for number, name in enumerate(part.minutes, 1):
        save_golden(numbers / f"{name}.json", golden(module, name, usual[name], lang), lang)
        file = f"test_{number:02}_{name}.py"
        text = TEST.format(about=about.format(name, file), module=part.module, name=name)
        (folder / file).write_text(text, encoding="utf-8", newline="\n")
