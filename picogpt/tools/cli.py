"""From shell words to checked values, and errors as one sentence.

fire alone takes a prompt of 123 or [1, 2] for Python, - for a separator and an extra word for the
next argument, and runs a command before it complains of an unknown flag. So `run` reads the words
by the command's own signature and leaves to fire what it does well: the help page.
"""

import inspect
import math
import os
import re
import signal
import sys
import textwrap
from contextlib import contextmanager
from difflib import get_close_matches
from keyword import iskeyword
from pathlib import Path
from types import NoneType
from typing import get_args

from picogpt.tools.accelerate import ignore_spurious_warnings
from picogpt.tools.errors import PicoGPTError, TextError, UsageError, printable
from picogpt.tools.interrupts import exit_on_interrupt, on_interrupt


def run(command, argv=None):
    """Call `command` with what the shell's words say, then leave the process with an exit code.

    Parameters before the `*` of its signature are words or flags, those after it flags only. Their
    annotations say what a word must be: str, int, float, bool, Path, Literal["a", "b"], or one of
    these `| None`. What goes wrong is one sentence on stderr; errors.py has the exit codes.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by 2>&-
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console of cp949 can't show every character
    ignore_spurious_warnings("__main__")  # the command's own module, as Python calls it
    code = call(command, sys.argv[1:] if argv is None else argv)
    exit_on_interrupt()
    try:
        print(end="", flush=True)
    except OSError:  # Python would try again on its way out, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def call(command, argv):
    """Run `command`, or print its help page; give back the exit code."""
    try:
        on_interrupt(signal.default_int_handler)  # until here it ended the process at once
        flags = argv[: argv.index("--")] if "--" in argv else argv
        if "--help" in flags or "-h" in flags:
            print(help_page(command))
        elif flags == ["--version"]:
            print(f"picogpt {sys.modules['picogpt'].__version__}")
        else:
            command(**parse(command, argv))
        print(end="", flush=True)  # if nobody reads on, as in `| head`, it shows here
        return 0
    except KeyboardInterrupt as interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
        print(file=sys.stderr)  # what follows ^C starts on a line of its own
        if interrupt.args:  # where the work is, and how it goes on
            print(interrupt, file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has left, and knows it
        return 1
    except (PicoGPTError, OSError, MemoryError) as error:
        print(told(error), file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except NotImplementedError as error:  # in a folder of exercises
        print(error, file=sys.stderr)
        return 1
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        said = "the system starts no more threads: close other programs, or raise ulimit -u"
        print(said, file=sys.stderr)
        return 1


def told(error):
    """What a person reads of an error: the system's own, too, without its number."""
    if isinstance(error, PicoGPTError) or not getattr(error, "strerror", None):
        return str(error) or "There is not enough memory for this."
    where = f"{error.filename}: " if error.filename else ""
    return printable(f"{where}{error.strerror}")


def help_page(command):
    """What fire makes of the command's signature and docstring, less what is fire's own."""
    from fire.helptext import HelpText
    from fire.trace import FireTrace

    name = called()
    page = HelpText(command, FireTrace(command, name=name)).replace(f"'{name}'", name)
    page = re.sub(r"-\w, --", "--", page)  # no one-letter flags: is -s --seed or --stop?
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        kinds = get_args(parameter.annotation)  # fire calls them other names in every Python
        its_type = rf"(\b{name.upper()}\n +Type: ).*"
        if NoneType in kinds:
            page = re.sub(rf"{its_type}\n +Default: None", rf"\1{kinds[0].__name__}", page)
        elif kinds:
            page = re.sub(its_type, rf"\1one of {', '.join(kinds)}", page)
        if name.endswith("_"):
            page = re.sub(rf"\b({name[:-1]})_\b", r"\1", page, flags=re.IGNORECASE)
    page = re.sub(r"=.*\n +Type: bool\n +Default: False", "", page)
    return "\n".join(
        textwrap.fill(line, 100, subsequent_indent=" " * (len(line) - len(line.lstrip())))
        for line in page.splitlines()
    )


def called():
    """What the user has called, as a shell takes it."""
    if module := sys.modules["__main__"].__spec__:
        return f"python -m {module.name.removesuffix('.__main__')}"
    script = Path(sys.argv[0])
    return f"python {script}" if script.suffix == ".py" else script.stem  # which pip has made


def parse(command, argv):
    """Read the words as keyword arguments for `command`; UsageError where they don't fit it."""
    signature = inspect.signature(command, eval_str=True)
    kinds = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    places = []
    flags = {}
    words = iter(argv)
    for word in words:
        if word == "--":
            places += words  # whatever they look like
        elif word.startswith("--"):
            name, text = read_flag(word, words, kinds)
            if name in flags:
                raise UsageError(f"{flag_of(name)} is given twice")
            flags[name] = text
        else:
            places.append(word)
    try:
        texts = signature.bind(*places, **flags).arguments
    except TypeError as error:  # an argument is missing, or there are too many
        raise UsageError(f"{error}: {hint_for(places)}") from None
    return {name: convert(name, text, kinds[name]) for name, text in texts.items()}


def hint_for(places):
    """What may help where an argument is missing, or one is too many."""
    like_a_flag = r"[-\u2010-\u2015\u2212]+[A-Za-z]\w*(=.*)?"  # a word processor makes a dash of --
    if slips := [word for word in places if re.fullmatch(like_a_flag, word)]:
        return f"{slips[0]} is no flag, flags begin with two hyphens -- (see --help)"
    if places:  # PowerShell makes words of what stands between commas
        return "put what has spaces or commas in quotes, or see --help"
    return "see --help"


def flag_of(name):
    """The flag of a parameter: that of and_, which Python doesn't let us call and, is --and."""
    return f"--{name.removesuffix('_')}"


def read_flag(word, words, kinds):
    """The parameter that a flag names, and its text: behind the =, or the next of `words`."""
    said, equals, text = word.partition("=")
    name = said[2:].replace("-", "_")
    if iskeyword(name):
        name += "_"
    if name not in kinds:
        small = name.lower()
        near = [kind for kind in kinds if kind.startswith(small)] or get_close_matches(small, kinds)
        hint = "--help shows the flags that there are"
        if near:
            hint = f"did you mean {flag_of(near[0])}?"
        raise UsageError(f"{said} is no flag of this command: {hint}")
    if not equals:
        text = "true" if kinds[name] is bool else next(words, "--")
        if text.startswith("--"):
            raise UsageError(f"{said} needs a value; one that begins with -- is {said}=VALUE")
    return name, text


def convert(name, text, kind):
    """Make of a flag's text what its annotation asks for; UsageError where that can't be."""
    if NoneType in get_args(kind):  # int | None: None is what a flag is when it is not given
        kind = get_args(kind)[0]
    choices = [True, False] if kind is bool else get_args(kind)
    choices = {str(choice).lower(): choice for choice in choices}
    wanted = {int: "a whole number", float: "a number", Path: "a path"}
    wanted = wanted.get(kind, "one of " + ", ".join(choices))
    try:
        value = choices[text.lower()] if choices else kind(text)
        if kind is float and not math.isfinite(value):
            raise ValueError
        if kind is Path and not text:  # as from a shell's variable that is not set
            raise ValueError
        return value
    except (KeyError, ValueError):
        raise UsageError(f"{flag_of(name)} must be {wanted}, not {text!r}") from None


@contextmanager
def goes_on_when_stopped(saved=True):
    """After Ctrl-C within, the command says that nothing is lost, where that is so."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if interrupt.args or not saved:
            raise
        said = "stopped; what is done is saved: the same command goes on"
        raise KeyboardInterrupt(said) from None


def at_least(minimum, **values):
    """Raise UsageError for the first of the named values that is below `minimum`; None passes."""
    for name, value in values.items():
        if value is not None and value < minimum:
            raise UsageError(f"--{name} must be {minimum} or more, not {value}")


def read_stdin():
    """What a command gets where it is given - for a text: standard input, less a final newline."""
    try:
        with open(0, encoding="utf-8-sig", closefd=False) as stdin:  # PowerShell begins with a BOM
            return stdin.read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise TextError(f"standard input is not UTF-8 at byte {error.start}: save it so") from None
    except OSError as error:  # closed, as by <&-
        said = f"standard input can't be read ({error.strerror}): pipe a text in"
        raise TextError(said) from None
