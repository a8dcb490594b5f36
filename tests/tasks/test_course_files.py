"""The course's files: found, read, checked and written; and what is refused, with file and line."""

import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from picogpt.tasks import course_files as tasks
from picogpt.tasks.course_files import (
    SAMPLES,
    SONNET_FILES,
    TASKS,
    Example,
    find_data,
    load_sonnets,
    load_task,
    read_examples,
    read_sonnets,
    task_text,
    write_predictions,
    write_sonnets,
)
from picogpt.tools.errors import DataError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "cs224n"
HEAD = "\tid\tsentence\tsentiment\n"


def sst(folder, text, split="train", encoding="utf-8"):
    path = folder / f"ids-sst-{split}.csv"
    path.write_bytes(text.encode(encoding))
    return path


def read(path, split="train", task="sst"):
    return read_examples(TASKS[task], path, split)


def test_a_file_in_the_courses_form(tmp_path):
    text = HEAD + '0\tABC\t It \'s "fine" .\t3\n1\tdef \t"a ""quoted"" one"\t4\n'
    assert read(sst(tmp_path, text)) == [
        Example("abc", ('It \'s "fine" .',), 3),
        Example("def", ('a "quoted" one',), 4),
    ]


def test_quora_has_labels_with_a_point_and_two_sentences(tmp_path):
    path = tmp_path / "quora-train.csv"
    path.write_text("\tid\tsentence1\tsentence2\tis_duplicate\n7\ta\tWho?\tWhat?\t1.0\n")
    assert read(path, task="quora") == [Example("a", ("Who?", "What?"), 1)]


def test_test_files_have_two_nameless_columns_and_no_labels(tmp_path):
    path = sst(tmp_path, "0\t\tid\tsentence\n1\t0.0\tx1\t fine\n", "test-student")
    assert read(path, "test") == [Example("x1", ("fine",), None)]


def test_windows_line_ends_and_a_byte_order_mark_make_no_difference(tmp_path):
    text = HEAD + "0\ta\tgood\t3\n1\tb\tbad\t1\n"
    plain = read(sst(tmp_path, text))
    assert read(sst(tmp_path, text.replace("\n", "\r\n"), encoding="utf-8-sig")) == plain


def test_rows_that_lack_fields_are_skipped_and_counted_in_one_line(tmp_path, capsys):
    path = sst(tmp_path, HEAD + "0\ta\tgood\t3\n1\tb\n2\tc\tno label\t\n3\td\tfine\t2\n")
    assert [example.id for example in read(path)] == ["a", "d"]
    assert capsys.readouterr().err == f"{path}: 2 of 4 rows lack a field and are skipped.\n"


def test_repeated_ids_are_kept_and_counted(tmp_path, capsys):
    path = sst(tmp_path, HEAD + "0\ta\tgood\t3\n1\tA\tbad\t1\n")
    assert len(read(path)) == 2
    assert capsys.readouterr().err == f"{path}: 1 of 2 rows repeat an id.\n"


def test_an_id_of_blanks_is_none(tmp_path, capsys):
    path = sst(tmp_path, HEAD + "0\ta\tgood\t3\n1\t  \tbad\t1\n")
    assert [example.id for example in read(path)] == ["a"]
    assert "1 of 2 rows lack a field" in capsys.readouterr().err


def test_empty_cells_too_many_are_left_out(tmp_path):
    path = sst(tmp_path, HEAD + "0\ta\tgood\t3\t\t \n")
    assert read(path) == [Example("a", ("good",), 3)]


def test_a_tab_in_a_text_of_a_test_file_cuts_nothing_off(tmp_path):
    path = sst(tmp_path, "\tid\tsentence\n0\ta\tgood\tfilm\n", "test-student")
    with pytest.raises(DataError, match="line 2: it has more cells than there are columns: is th"):
        read(path, "test")
    path.write_text('\tid\tsentence\n0\ta\t"good\tfilm"\n')
    assert read(path, "test") == [Example("a", ("good\tfilm",), None)]


def test_an_empty_sentence_is_an_example(tmp_path):
    assert read(sst(tmp_path, HEAD + "0\ta\t\t3\n"))[0].sentences == ("",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,sentence,sentiment\n", "line 1: there is no column id"),
        ("\tid\ttext\tsentiment\n0\ta\tb\t1\n", "line 1: there is no column sentence"),
        (HEAD + "0\ta\tgood\t3\n1\tb\tbad\t5\n", "line 3: sentiment is '5'"),
        (HEAD + "0\ta\tgood\tgood\n", "line 2: sentiment is 'good', it must be a number from 0 to"),
        (HEAD + "0\ta\tgood\t1.5\n", "line 2: sentiment is '1.5'"),
        (HEAD + "0\ta\tgood\tnan\n", "line 2: sentiment is 'nan'"),
        (HEAD + "0\ta\tgood\t1\n1\tb\t2\tfilms\t3\n", "line 3: it has more cells than"),
        (HEAD + "0\ta\t2\t3\t4\n", "line 2: it has more cells than there are columns"),
        ("\tid\tsentence\tsentence\tsentiment\n", "line 1: two columns are called sentence"),
        (HEAD + "0\ta\t" + "x" * 140_000 + "\t1\n", "line 2: field larger than field limit"),
        (HEAD, "no complete row"),
        ("", "there is no column id"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path, text, said):
    path = sst(tmp_path, text)
    with pytest.raises(DataError, match=re.escape(said)) as error:
        read(path)
    assert str(path) in str(error.value)


def test_an_unclosed_quote_is_told_with_its_line_and_swallows_nothing(tmp_path):
    rows = [f"{i}\tid{i}\ta film , number {i} .\t{i % 5}\n" for i in range(60)]
    rows[7] = '7\tid7\t" a film that opens a quote .\t2\n'
    for last in ([], ['60\tid60\tit is "good" .\t3\n', '61\tid61\t"fine" .\t3\n']):
        path = sst(tmp_path, HEAD + "".join(rows + last))
        with pytest.raises(DataError, match="line 9: a quote opens a cell and isn't closed"):
            read(path)


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r\n"])
def test_empty_lines_between_rows_open_no_quote(tmp_path, end):
    """A Python program on Windows that opens its file without newline="" writes \\r\\r\\n."""
    text = HEAD + "0\ta\tgood\t3\n1\tb\tbad\t1\n"
    plain = read(sst(tmp_path, text))
    assert read(sst(tmp_path, text.replace("\n", end))) == plain


def test_a_quote_in_a_cell_too_many_swallows_nothing(tmp_path):
    path = sst(tmp_path, HEAD + '0\ta\tgood\t3\t"x\n1\tb\tbad\t1\n')
    with pytest.raises(DataError, match="line 2: a quote opens a cell and isn't closed"):
        read(path)


def test_of_quora_a_question_may_stand_on_several_lines_but_not_hold_rows(tmp_path):
    head, path = "\tid\tsentence1\tsentence2\tis_duplicate\n", tmp_path / "quora-train.csv"
    path.write_text(head + '7\ta\t"Who\nis it?"\tWhat?\t1.0\n')
    assert read(path, task="quora") == [Example("a", ("Who\nis it?", "What?"), 1)]
    path.write_text(head + '7\ta\t"Who?\tWhat?\t1.0\n8\tb\tHow?\tWhy?\t0.0\n')
    with pytest.raises(DataError, match="line 2: a quote opens a cell"):
        read(path, task="quora")
    path.write_text(head + '7\t"a\nb"\tWho?\tWhat?\t1.0\n')  # predictions have an id a line
    with pytest.raises(DataError, match="line 2: a quote opens a cell"):
        read(path, task="quora")


def test_another_encoding_is_told_with_its_line(tmp_path):
    path = sst(tmp_path, HEAD + "0\ta\tgood\t3\n1\tb\tcaf\xe9\t1\n", encoding="latin-1")
    with pytest.raises(DataError, match="not UTF-8 in line 3"):
        read(path)


def test_a_folder_without_the_files_is_told(tmp_path):
    with pytest.raises(DataError, match=r"ids-sst-train\.csv is missing"):
        load_task("sst", tmp_path)
    file = tmp_path / "ids-sst-train.csv"
    file.write_text("")
    with pytest.raises(DataError, match="is missing: does --data name the folder of its file"):
        load_task("sst", file)


def test_a_folder_in_the_place_of_a_file_is_told(tmp_path):
    (tmp_path / "ids-sst-train.csv").mkdir()
    with pytest.raises(DataError, match=r"ids-sst-train\.csv can't be read \(.*\): is it a text"):
        load_task("sst", tmp_path)


def test_one_class_and_rows_in_both_sets_are_refused(tmp_path):
    sst(tmp_path, HEAD + "0\ta\tgood\t3\n1\tb\tfine\t3\n")
    sst(tmp_path, HEAD + "0\tc\tgood\t3\n", "dev")
    with pytest.raises(DataError, match="one class only"):
        load_task("sst", tmp_path)
    sst(tmp_path, HEAD + "0\ta\tgood\t3\n1\tC\tfine\t2\n")
    with pytest.raises(DataError, match="the id c is in train and in dev"):
        load_task("sst", tmp_path)


def test_a_task_without_its_test_file_has_an_empty_test_set(tmp_path):
    sst(tmp_path, HEAD + "0\ta\tgood\t3\n1\tb\tfine\t2\n")
    sst(tmp_path, HEAD + "0\tc\tgood\t3\n", "dev")
    folder, splits = load_task("sst", tmp_path)
    assert folder == tmp_path
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 2, "dev": 1, "test": 0}


def test_prompts():
    assert task_text(["It 's Fine ."]) == "It 's Fine ."
    assert task_text(["It 's Fine ."], course=True) == "it 's fine ."
    ask = "\nAre these questions asking the same thing?\n"
    two = ["What's  up, Bob?", "Who?Me."]
    assert task_text(two) == f'Question 1: "What\'s  up, Bob?"\nQuestion 2: "Who?Me."{ask}'
    course = f'Question 1: "what \'s up , bob ?"\nQuestion 2: "who ?me ."{ask}'
    assert task_text(two, course=True) == course


def test_predictions_are_written_as_the_course_writes_them(tmp_path):
    examples = [Example("ab1", ("x",), None), Example("cd2", ("y",), None)]
    write_predictions(tmp_path / "out.csv", "Predicted_Sentiment", examples, [4, 0])
    assert (tmp_path / "out.csv").read_bytes() == b"id \t Predicted_Sentiment \nab1, 4 \ncd2, 0 \n"


def test_sonnets_are_written_as_the_course_writes_them_and_read_again(tmp_path):
    poems = ["one\ntwo\n  three", "four"]
    write_sonnets(tmp_path / "out.txt", poems)
    text = (tmp_path / "out.txt").read_bytes().decode()
    assert text == "--Generated Sonnets-- \n\n\n0\none\ntwo\n  three\n\n\n1\nfour\n\n"
    assert read_sonnets(tmp_path / "out.txt") == poems


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_sonnets_with_line_ends_of_windows_and_of_old_macs(tmp_path, end):
    text = "\ufeffTitle\n\n1\n\na\n  b\n\n2\n\nc\n".replace("\n", end)
    (tmp_path / "s.txt").write_bytes(text.encode())
    assert read_sonnets(tmp_path / "s.txt") == ["a\n  b", "c"]


def test_a_poem_may_be_first_in_its_file_and_an_empty_one_is_left_out(tmp_path):
    (tmp_path / "s.txt").write_text("1\n\na\nb\n\n2\n\n3\n\nc\n\n4")
    assert read_sonnets(tmp_path / "s.txt") == ["a\nb", "c"]


def test_a_file_without_poems_is_told(tmp_path):
    (tmp_path / "s.txt").write_text("Shall I compare thee\n")
    with pytest.raises(DataError, match="holds no poem"):
        read_sonnets(tmp_path / "s.txt")


def sonnets(folder, **poems):
    """Write files of poems, each a text."""
    for split, some in poems.items():
        write_sonnets(folder / SONNET_FILES[split], some)


def test_openings_find_their_poems_by_their_lines(tmp_path):
    truth = ["a\n  b\nc", "d\ne\nf", "a\nb\nz", "more"]
    sonnets(tmp_path, train=["x"], openings=["d\ne", "a \nb", "a\nb"], truth=truth)
    poems = load_sonnets(tmp_path)
    assert poems["truth"] == ["d\ne\nf", "a\n  b\nc", "a\nb\nz"] and poems["test"] == []
    sonnets(tmp_path, openings=["d\nx"])
    with pytest.raises(DataError, match="no poem begins as the opening with the line 'd'"):
        load_sonnets(tmp_path)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home, so that nothing is in the user's cache."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A real server on loopback in the place of the course's public home."""
    (tmp_path / "public").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "public")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    monkeypatch.setattr(tasks, "HOME", f"http://127.0.0.1:{server.server_port}/")
    yield tmp_path / "public", server
    server.shutdown()
    server.server_close()


NAMES = ["ids-sst-train.csv", "ids-sst-dev.csv", "ids-sst-test-student.csv"]


def test_data_are_downloaded_once_and_then_found(home, server, capsys):
    public, running = server
    for name in NAMES[:2]:  # a missing test file is no trouble
        (public / name).write_bytes((SAMPLES / name).read_bytes())
    folder = find_data(NAMES)
    assert folder == home / ".cache" / "picogpt" / "cs224n"
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES[:2])
    running.shutdown()
    running.server_close()
    assert find_data(NAMES) == folder  # without network
    assert capsys.readouterr().err == ""


PAGE = b"<!DOCTYPE html>\n<title>Welcome</title> Please log in, id and all.\n"


def test_a_login_page_is_no_course_file_and_does_not_stay(home, server, capsys):
    public, _ = server
    for name in NAMES:
        (public / name).write_bytes(PAGE)
    assert find_data(NAMES) == SAMPLES
    assert "log in to the network" in capsys.readouterr().err
    for name in NAMES:
        (public / name).write_bytes((SAMPLES / name).read_bytes())
    assert find_data(NAMES) == home / ".cache" / "picogpt" / "cs224n"
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("home")
def test_a_damaged_file_in_the_cache_is_fetched_again(server):
    public, _ = server
    names = [*NAMES, SONNET_FILES["train"]]
    for name in names:
        (public / name).write_bytes((SAMPLES / name).read_bytes())
    folder = find_data(names)
    for damage in (PAGE, b"", b"\xff"):
        for name in names:
            (folder / name).write_bytes(damage)
        assert find_data(names) == folder
        for name in names:
            assert (folder / name).read_bytes() == (SAMPLES / name).read_bytes()


def test_without_a_home_the_samples_take_over(monkeypatch, capsys):
    monkeypatch.setattr(tasks, "cache_folder", lambda: None)
    assert find_data(NAMES) == SAMPLES
    assert "no home folder to keep them in" in capsys.readouterr().err


@pytest.mark.usefixtures("home")
def test_without_network_the_samples_take_over_and_say_so(monkeypatch, capsys):
    monkeypatch.setattr(tasks, "HOME", "http://127.0.0.1:9/")
    assert find_data(NAMES) == SAMPLES
    (line,) = capsys.readouterr().err.splitlines()
    assert "figures say nothing about the real task" in line


def test_a_folder_given_is_never_replaced(tmp_path):
    assert find_data(NAMES, tmp_path) == tmp_path


@pytest.mark.parametrize("name", TASKS)
def test_the_samples_are_complete(name, capsys):
    _, splits = load_task(name, SAMPLES)
    assert len(splits["train"]) >= 60 and len(splits["dev"]) >= 60 and len(splits["test"]) >= 30
    for split in ("train", "dev"):
        labels = {example.label for example in splits[split]}
        assert labels == set(range(len(TASKS[name].classes)))
    assert capsys.readouterr().err == ""


def test_the_sample_of_sonnets_is_complete():
    poems = {split: read_sonnets(SAMPLES / name) for split, name in SONNET_FILES.items()}
    assert all(poem.count("\n") == 13 for poem in poems["train"] + poems["truth"])
    assert [poem.split("\n")[:3] for poem in poems["truth"]] == [
        poem.split("\n") for poem in poems["openings"]
    ]
    assert not {*poems["train"]} & {*poems["truth"]}
    assert poems["test"]


@pytest.mark.skipif(not SHARED.exists(), reason="needs the course's data")
@pytest.mark.parametrize(
    ("name", "sizes"),
    [("sst", (8544, 1101, 2210)), ("cfimdb", (1707, 245, 488)), ("quora", (13999, 3999, 0))],
)
def test_the_courses_own_files(name, sizes, capsys):
    _, splits = load_task(name, SHARED)
    assert tuple(len(splits[split]) for split in ("train", "dev", "test")) == sizes
    assert capsys.readouterr().err.count("lack a field") == (2 if name == "quora" else 0)


@pytest.mark.skipif(not SHARED.exists(), reason="needs the course's data")
def test_the_courses_own_sonnets():
    poems = {split: read_sonnets(SHARED / name) for split, name in SONNET_FILES.items()}
    assert {split: len(some) for split, some in poems.items()} == {
        "train": 131, "openings": 12, "truth": 12, "test": 12,
    }  # fmt: skip
    for opening, truth in zip(poems["openings"], poems["truth"]):
        assert truth.startswith(opening) and opening.count("\n") == 2
