"""The source with bodies to fill in, and a test for each: python -m picogpt.exercises FOLDER.

FOLDER gets a copy of this package in which the functions of one part say "your code here". The test
of each holds golden numbers, and those of the mistakes in mistakes.json: whoever makes one is told
which. Filled in, the copy is a GPT-2 of one's own. Its parts are in teaching/.
"""

from pathlib import Path
from typing import Literal

from picogpt.teaching import report as reports
from picogpt.teaching.check import check
from picogpt.teaching.exercise_parts import PARTS
from picogpt.teaching.folder import PACKAGE, blank, write_all, write_folder
from picogpt.teaching.golden import golden, mistaken
from picogpt.tools.cli import run
from picogpt.tools.errors import UsageError

__all__ = ["PARTS", "blank", "check", "golden", "main", "mistaken"]


def main(
    folder: Path,
    *,
    part: Literal[
        "lecture", "kernels", "gradients", "optimizer", "sampling", "tokens", "training", "all"
    ] = "lecture",
    lang: Literal["en", "ko"] = "en",
    compare: str | None = None,
    report: bool = False,
):
    """Write exercises into a new folder: fill in the bodies, and run pytest there.

    Args:
        folder: where to write; with --report, the folder that holds the students' folders.
        part: which functions to leave out; the parts follow each other in this order. With all,
            FOLDER gets a folder for each.
        lang: the language of the folder's README and of the hints.
        compare: show this function as the folder has it, and the solution.
        report: for teachers: check every student's folder in FOLDER, and print a table.
    """
    if not (PACKAGE / "mistakes.json").exists():
        raise UsageError("this is a folder of exercises: run the command outside of it")
    if report:
        reports.print_report(folder, lang)
        return
    if compare is not None:
        reports.print_beside_solution(folder, compare)
        return
    if folder.exists():
        raise UsageError(f"{folder} is there already: name a new folder")
    if part == "all":
        names = write_all(folder, lang)
        print(f"{folder} has {len(names)} folders, to be done in this order: {', '.join(names)}.")
        print(f"Begin with {folder / names[0] / 'README.md'}.")
        return
    write_folder(folder, PARTS[part], lang)
    n = len(PARTS[part].minutes)
    print(f"{folder / 'picogpt' / PARTS[part].path} has {n} functions to fill in.")
    print(f"Read {folder / 'README.md'}, and run pytest in {folder}: a failure says what is wrong.")


if __name__ == "__main__":
    run(main)
