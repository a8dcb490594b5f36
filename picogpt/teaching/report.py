"""For teachers: what every student has passed, as a table, and a function beside its solution.

A student's file runs in a process of its own, with this package around it, and is checked by this
package's numbers: what a student changes in tests or other files plays no part. It is the student's
code all the same, and can do what any program can.
"""

import importlib.util
import json
import subprocess
import sys
import unicodedata
from functools import cache
from inspect import getsource
from pathlib import Path

from picogpt.teaching.check import check_with_needs
from picogpt.teaching.exercise_parts import PARTS
from picogpt.teaching.golden import golden, load_mistakes
from picogpt.teaching.words import say
from picogpt.tools.errors import DataError, UsageError

SECONDS = 120  # for one student's part; whoever loops for ever is stopped here
BLANK = {"en": "not begun: {}", "ko": "아직 안 한 함수: {}"}
HEAD = {"en": ["name", "part", "passed", "hints"], "ko": ["이름", "단계", "통과", "힌트"]}
SLOW = {"en": f"no end within {SECONDS} s", "ko": f"{SECONDS}초 안에 끝나지 않음"}


def print_report(folder, lang):
    """Check every student's folder in a folder, and print a table: name, part, passed, hints.

    Raises DataError where there is none.
    """
    students = sorted(path for path in students_in(folder) if part_in(path))
    if not students:
        raise DataError(f"{folder} holds no folder that this command wrote: name the one above")
    rows = [HEAD[lang]]
    for path in students:
        part = part_in(path)
        # macOS may take 한 apart in a file's name, into ㅎ, ㅏ and ㄴ
        name = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
        rows += row_of(name, part, judge(path, part, lang), lang)
    widths = [max(columns(row[i]) for row in rows) for i in range(3)]
    for *cells, last in rows:
        padded = [cell + " " * (width - columns(cell)) for cell, width in zip(cells, widths)]
        print("  ".join([*padded, last]))


def columns(text):
    """How many columns of a terminal a text takes: Korean and Chinese letters are two wide.

    >>> columns("Kim"), columns("김철수")
    (3, 6)
    """
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def students_in(folder):
    """The folders in a folder, and those in them: one for each student, or one for each part."""
    for path in folder.glob("*/"):
        yield path
        if not part_in(path):
            yield from path.glob("*/")


def part_in(folder):
    """The part that a student's folder holds, or None where it is no such folder."""
    path = folder / "picogpt" / "teaching" / "numbers" / "part.txt"
    name = path.read_text(encoding="utf-8").strip() if path.is_file() else None
    return PARTS.get(name)


def row_of(name, part, verdicts, lang):
    """The table's rows for one student: their name, the part, how many are right, a hint a row."""
    right = [function for function, hint in verdicts.items() if hint is None]
    blank = [function for function, hint in verdicts.items() if hint == ""]
    hints = [hint for hint in verdicts.values() if hint]
    if blank:
        hints.append(BLANK[lang].format(", ".join(blank)))
    first, *rest = hints or [""]
    passed = f"{len(right)} of {len(part.minutes)}" if lang == "en" else \
        f"{len(right)}/{len(part.minutes)}"  # fmt: skip
    return [[name, part.name, passed, first], *(["", "", "", hint] for hint in rest)]


def judge(folder, part, lang):
    """{function: None where it is right, "" where it is blank, or a hint} of one folder.

    It is found in a process of its own. Where that fails as a whole, the first function has the
    reason for a hint.
    """
    command = [sys.executable, "-m", "picogpt.teaching.report", str(folder.resolve()), lang]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parents[2], capture_output=True, timeout=SECONDS,
            encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return dict.fromkeys(list(part.minutes)[:1], SLOW[lang])
    except (IndexError, ValueError):
        ended = f"{Path(part.path).name}: Python ended with exit code {done.returncode}"
        why = (done.stderr.strip().splitlines() or [ended])[-1]
        return dict.fromkeys(list(part.minutes)[:1], why)


def judge_here(folder, part, lang):
    """What `judge` gives, in this process."""
    try:
        own = load_file(folder / "picogpt" / part.path)
    except (Exception, SystemExit) as error:
        return {next(iter(part.minutes)): f"{Path(part.path).name}: {error}"}
    usual = load_mistakes()
    solution = part.load()
    verdicts = {}

    @cache
    def calls_of(name):
        return golden(solution, name, usual[name], lang) if name in part.minutes else None

    for name in part.minutes:
        try:
            check_with_needs(getattr(own, name), calls_of, lang, name)
            verdicts[name] = None
        except NotImplementedError:
            verdicts[name] = ""
        except AssertionError as error:
            verdicts[name] = str(error).splitlines()[0]
            if verdicts[name] == f"{name}: {say(lang, 'gives')}":  # no hint: where it differs
                verdicts[name] = ": ".join([name, *str(error).splitlines()[2:3]])
        except AttributeError as error:
            verdicts[name] = str(error)
    return verdicts


def load_file(path):
    """A student's source file as a module, beside this package's own."""
    spec = importlib.util.spec_from_file_location(f"student_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def print_beside_solution(folder, name):
    """Print a function as a student's folder has it, and the solution below.

    Raises DataError for a folder that is none of the exercises' or that can't be read, UsageError
    for a function that is none of its part's.
    """
    part = part_in(folder)
    if part is None:
        raise DataError(f"{folder} is no folder of exercises: name one that this command wrote")
    if name not in part.minutes:
        raise UsageError(f"--compare must be one of {', '.join(part.minutes)}, not {name!r}")
    path = folder / "picogpt" / part.path
    try:
        own = getsource(getattr(load_file(path), name))
    except Exception as error:
        raise DataError(f"{path} can't be read ({error}): mend it first") from None
    solution = getattr(part.load(), name)
    print(f"# {path}\n{own}\n# {solution.__code__.co_filename}\n{getsource(solution)}")


def main(folder, lang):
    """Judge one folder, and print what was found as one line of JSON."""
    path = Path(folder)
    stdout, sys.stdout = sys.stdout, sys.stderr  # whatever a student prints
    verdicts = judge_here(path, part_in(path), lang)
    print(json.dumps(verdicts), file=stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
