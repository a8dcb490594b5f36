"""The tasks of Stanford's CS 224N project "Build GPT-2" (2025): find, read and check their files.

Sentiment of film reviews in five classes (sst) and in two (cfimdb), questions that ask the same
(quora), and Shakespeare's sonnets.
"""

import csv
import io
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from picogpt.checkpoint.download import expect_answer, fetch_file
from picogpt.tools.errors import DataError, DownloadError
from picogpt.tools.files import cache_folder, write_text

HOME = "https://raw.githubusercontent.com/cfifty/public_cs224n_gpt/HEAD/data/"
SAMPLES = Path(__file__).parent / "samples"
SENTIMENTS = ("very negative", "negative", "neutral", "positive", "very positive")
SONNET_FILES = {
    "train": "sonnets.txt",
    "openings": "sonnets_held_out_dev.txt",  # the first lines of other sonnets
    "truth": "TRUE_sonnets_held_out_dev.txt",  # those sonnets, whole
    "test": "sonnets_held_out.txt",  # first lines again, of which no truth is given
}


class Task(NamedTuple):
    """How the files of a classification task look."""

    file: str  # its name, with {} for the split
    columns: tuple  # where the sentences stand
    label: str  # the column of the labels
    classes: tuple  # what the labels 0, 1, ... mean
    heading: str  # of the predictions
    output: str  # name of the file of predictions, with {mode} and {split}
    multiline: bool  # whether a sentence may stand on several lines


TASKS = {
    "sst": Task(
        "ids-sst-{}.csv", ("sentence",), "sentiment", SENTIMENTS,
        "Predicted_Sentiment", "{mode}-sst-{split}-out.csv", False,
    ),
    "cfimdb": Task(
        "ids-cfimdb-{}.csv", ("sentence",), "sentiment", ("negative", "positive"),
        "Predicted_Sentiment", "{mode}-cfimdb-{split}-out.csv", False,
    ),
    "quora": Task(
        "quora-{}.csv", ("sentence1", "sentence2"), "is_duplicate", ("no", "yes"),
        "Predicted_Is_Paraphrase", "{mode}-para-{split}-output.csv", True,
    ),
}  # fmt: skip


class Example(NamedTuple):
    """One row of a file; a test file's label is None."""

    id: str
    sentences: tuple  # one sentence, or two questions
    label: int | None


def find_data(names, folder=None):
    """The folder where the files `names` are: the one given, else the user's cache.

    What the cache lacks, or holds damaged, is downloaded from the course's public home. Where that
    fails it is the folder of the samples, and one line on stderr says so. In a folder that is given
    nothing is looked for yet.
    """
    if folder is not None:
        return Path(folder)
    home = cache_folder()
    try:
        if home is None:
            raise DownloadError("there is no home folder to keep them in: name theirs by --data")
        complete_cache(home / "cs224n", list(names))
        return home / "cs224n"
    except DownloadError as error:
        print(
            f"The course's data can't be had ({error}): small samples written for this project "
            "take their place, and their figures say nothing about the real task.",
            file=sys.stderr,
        )
        return SAMPLES


def complete_cache(cache, names):
    """Download what the cache lacks; DownloadError where files that are needed can't be had."""
    missing = [name for name in names if not is_course_file(cache / name)]
    try:
        if missing:
            expect_answer(HOME + missing[0], patience=2)
        for name in missing:
            fetch_course_file(cache / name)
    except DownloadError:
        if any("test" not in name and not is_course_file(cache / name) for name in missing):
            raise


def fetch_course_file(path):
    """Download a file from the course's home; only a test file may be missing there.

    Raises DownloadError, and leaves nothing behind, where something else comes in its place.
    """
    url = HOME + path.name
    if os.path.exists(path):  # noqa: PTH110 - pathlib's raises in a folder that can't be read
        path.unlink()
    if fetch_file(url, path, optional="test" in path.name) and not is_course_file(path):
        path.unlink()
        raise DownloadError(f"{url} gives no course file: does the network ask for a login first?")


def is_course_file(path):
    """Whether a file in the cache looks as it should, and is no login page or half a file."""
    try:
        text = read_text(path)
    except DataError:
        return False
    if path.suffix == ".csv":
        return "id" in text.partition("\n")[0].rstrip("\r").split("\t")
    return bool(split_sonnets(text))


def read_text(path):
    """A text file less its byte-order mark; DataError where it can't be read or is not UTF-8."""
    try:
        data = Path(path).read_bytes()
        return data.decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path} is missing: does --data name the folder of its file?") from None
    except OSError as error:
        hint = "is it a text file that you may read?"
        raise DataError(f"{path} can't be read ({error.strerror}): {hint}") from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not UTF-8 in line {line}: save it as UTF-8") from None


def load_task(name, folder=None):
    """Find and read a task's files: their folder, and {"train", "dev", "test": list of Example}.

    The test split is empty where its file is missing. Raises DataError for files that can't be
    used, for a training set of one class, and for an id in both train and dev.
    """
    task = TASKS[name]
    files = {"train": "train", "dev": "dev", "test": "test-student"}
    files = {split: task.file.format(said) for split, said in files.items()}
    folder = find_data(files.values(), folder)
    if not (folder / files["test"]).exists():
        del files["test"]
    splits = {split: read_examples(task, folder / file, split) for split, file in files.items()}
    if len({example.label for example in splits["train"]}) < 2:
        raise DataError(f"{folder / files['train']} has one class only: there is nothing to learn")
    if both := {e.id for e in splits["train"]} & {e.id for e in splits["dev"]}:
        raise DataError(f"{folder}: the id {min(both)} is in train and in dev: take one row out")
    return folder, {"test": []} | splits


def read_examples(task, path, split):
    """Read a tab-separated file of a task, a list of Examples; test files have no labels.

    Rows that lack a field are skipped and counted in one line on stderr. Raises DataError, with
    file and line, for a column that is missing or there twice, a row of more cells than columns, a
    label that is none, a quote that is never closed, or an encoding other than UTF-8.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter="\t")
    labelled = split != "test"
    columns = ["id", *task.columns]
    if labelled:
        columns.append(task.label)
    examples, n_skipped = [], 0
    try:
        check_header(reader.fieldnames or [], columns, path)
        end = 1
        for row in reader:
            start, end = end + 1, reader.line_num
            check_cells(row, task, path, start, end)
            id, *fields = (row[name] for name in columns)
            if not (id or "").strip() or None in fields or (labelled and not fields[-1].strip()):
                n_skipped += 1
                continue
            label = read_label(fields.pop(), task, path, reader.line_num) if labelled else None
            sentences = tuple(sentence.strip() for sentence in fields)
            examples.append(Example(id.strip().lower(), sentences, label))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num + 1}: {error}") from None
    if not examples:
        raise DataError(f"{path} holds no complete row")
    n_repeated = len(examples) - len({example.id for example in examples})
    for n, what in ((n_skipped, "lack a field and are skipped"), (n_repeated, "repeat an id")):
        if n:
            print(f"{path}: {n} of {n_skipped + len(examples)} rows {what}.", file=sys.stderr)
    return examples


def check_header(names, columns, path):
    """Raise DataError where a column that is needed is missing, or is there twice."""
    for column in columns:
        if column not in names:
            raise DataError(f"{path}, line 1: there is no column {column} (tab-separated)")
        if names.count(column) > 1:
            raise DataError(f"{path}, line 1: two columns are called {column}: rename one")


def check_cells(row, task, path, start, end):
    """Raise DataError where a row must have an unclosed quote, or has more cells than columns.

    It stands in the lines from start to end. A cell whose quote isn't closed takes in tabs and
    whole rows, up to the next quote. Empty lines before a row are none of its own: some programs on
    Windows write one after each. A text with a tab in it would put the label, or the text's rest,
    in the wrong column.
    """
    too_many = row.get(None, [])  # DictReader has no name for them
    texts = [text or "" for name, text in row.items() if name is not None] + too_many
    broken = [text for text in texts if "\n" in text or "\r" in text]
    may_break = [row[name] for name in task.columns if task.multiline]
    if any(text not in may_break or "\t" in text for text in broken):
        hint = "close it, or write two for one in the text"
        raise DataError(
            f"{path}, line {start}: a quote opens a cell and isn't closed in its line: {hint}"
        )
    if any(text.strip() for text in too_many):
        hint = "is there a tab in a text? Take it out, or put the text in quotes"
        raise DataError(f"{path}, line {end}: it has more cells than there are columns: {hint}")


def read_label(text, task, path, line):
    """A label as an int; the files have 3 as well as 1.0. Raises DataError for any other text."""
    try:
        return range(len(task.classes)).index(float(text))
    except ValueError:
        last = len(task.classes) - 1
        raise DataError(
            f"{path}, line {line}: {task.label} is {text!r}, it must be a number from 0 to {last}"
        ) from None


def task_text(sentences, course=False):
    """What the model reads of an example: the sentence, or both questions in one cloze prompt.

    The same for every split: the course's starter code asks differently in training and in test.
    `course` is its way to write sentences: in lower case and, of Quora, . ? , and ' set apart.
    """
    if course:
        sentences = [sentence.lower() for sentence in sentences]
    if len(sentences) == 1:
        return sentences[0]
    if course:
        sentences = [" ".join(re.sub(r"([.?,'])", r" \1", text).split()) for text in sentences]
    one, two = sentences
    return f'Question 1: "{one}"\nQuestion 2: "{two}"\nAre these questions asking the same thing?\n'


def write_predictions(path, heading, examples, labels):
    """Write a file of predictions, a label for each example, exactly as the course's code does."""
    rows = [f"{example.id}, {label} \n" for example, label in zip(examples, labels, strict=True)]
    write_text(path, f"id \t {heading} \n" + "".join(rows))


def read_sonnets(path):
    """The poems of a file, each a text of lines; a line with nothing but a number goes before each.

    Raises DataError where there is none.
    """
    poems = split_sonnets(read_text(path))
    if not poems:
        raise DataError(f"{path} holds no poem: each stands below a line with its number")
    return poems


def split_sonnets(text):
    """The poems of a file's text: a list of texts."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    _, *poems = re.split(r"\n\s*\d+\s*(?=\n)", f"\n{text}\n")  # what comes first is a header
    return [poem.strip() for poem in poems if poem.strip()]


def load_sonnets(folder):
    """The course's poems, {split: list of poems}, in which truth[i] begins with openings[i].

    The test split is empty without its file. Raises DataError for files that can't be used and for
    an opening that no poem of the truth begins with.
    """
    paths = {split: folder / name for split, name in SONNET_FILES.items()}
    if not paths["test"].exists():
        del paths["test"]
    poems = {split: read_sonnets(path) for split, path in paths.items()}
    poems["truth"] = match_by_lines(poems["openings"], poems["truth"], paths["truth"])
    return {"test": []} | poems


def match_by_lines(openings, poems, path):
    """For each opening the poem that begins with its lines, white space at their ends left out."""

    def lines(text):
        return [line.strip() for line in text.split("\n")]

    left, matched = list(poems), []
    for opening in openings:
        start = lines(opening)
        found = [poem for poem in left if lines(poem)[: len(start)] == start]
        if not found:
            raise DataError(f"{path}: no poem begins as the opening with the line {start[0]!r}")
        matched.append(found[0])
        left.remove(found[0])
    return matched


def write_sonnets(path, poems):
    """Write poems as the course's code does, numbered from 0."""
    numbered = [f"\n{i}\n{poem}\n\n" for i, poem in enumerate(poems)]
    write_text(path, "--Generated Sonnets-- \n\n" + "".join(numbered))
