"""Files that are there whole or not at all, folders that one run has for itself, and JSON files.

Models, checkpoints, tables and pictures are written here. A new file is made in a staging folder
beside the place where it belongs, brought to the disk (fsync) and renamed into place: who looks
there finds the old file or the new one, also after a power cut. A staging folder is locked while
its process lives. A killed process leaves it unlocked, and the next one that writes there deletes
it. Elsewhere are downloads (checkpoint/download.py), which go on where they were cut off, and a
run's log (training/log.py), to which lines are added.
"""

import errno
import filecmp
import json
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from picogpt.tools.errors import CheckpointError, FolderInUseError, OutputError, PicoGPTError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

STAGING = {"prefix": ".picogpt-", "suffix": ".part"}
LOCK_FILE = ".picogpt.lock"  # on Windows alone, where a folder itself can't be locked
TAKEN = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # what the systems say of another's lock
RENAME_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds between tries

locked_here = set()  # the folders that this process has locked


@contextmanager
def locked(folder):
    """Make `folder` where it is missing, and keep it for this process alone.

    The system ends the lock with the process, however that ends: nothing is left to clean up. A
    process may lock again what it has locked. Raises FolderInUseError where another process has it,
    OutputError where there can't be such a folder.
    """
    folder = Path(os.path.realpath(folder))
    if folder in locked_here:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = try_lock(folder)
    except FolderInUseError:
        raise
    except OSError as error:
        said = f"{folder} can't be a folder to write to ({error.strerror}): choose another"
        raise OutputError(said) from error
    locked_here.add(folder)
    try:
        yield
    finally:
        locked_here.remove(folder)
        unlock(folder, lock)


def try_lock(folder):
    """Lock a folder until the file number that this gives is closed, or the process ends.

    It is None on a file system without locks. Raises FolderInUseError where another process has it.
    """
    path, mode = (folder, os.O_RDONLY) if fcntl else (folder / LOCK_FILE, os.O_RDWR | os.O_CREAT)
    lock = os.open(path, mode)
    try:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
        return lock
    except OSError as error:
        os.close(lock)
        if error.errno in TAKEN:
            said = f"another run is writing to {folder}: wait for its end, or choose another folder"
            raise FolderInUseError(said) from None
        return None


def unlock(folder, lock):
    """Give up what try_lock gave."""
    if lock is not None:
        os.close(lock)
    if fcntl is None:
        with suppress(OSError):  # another run has it by now
            (folder / LOCK_FILE).unlink()


@contextmanager
def staging_folder(folder):
    """A new folder inside `folder` for files on their way; deleted in the end, whatever happens.

    First, what killed processes left of theirs is deleted.
    """
    delete_abandoned(folder)
    made, lock = new_staging_folder(folder)
    locked_here.add(made)
    try:
        yield made
    finally:
        locked_here.remove(made)
        unlock(made, lock)
        shutil.rmtree(made, ignore_errors=True)


def new_staging_folder(folder):
    """Make and lock a staging folder: its path and its lock."""
    while True:
        made = Path(os.path.realpath(tempfile.mkdtemp(dir=folder, **STAGING)))
        with suppress(FolderInUseError, FileNotFoundError):
            lock = try_lock(made)
            if made.exists():
                return made, lock
        # before it was locked, another process took it for a dead one's


def delete_abandoned(folder):
    """Delete the staging folders in `folder` whose processes have ended, and their locks."""
    for old in Path(folder).glob(STAGING["prefix"] + "*" + STAGING["suffix"]):
        with suppress(OSError):  # its owner lives, or deletes it at this very moment
            if (lock := try_lock(old)) is not None:
                shutil.rmtree(old, ignore_errors=True)
                unlock(old, lock)
                old.rmdir()  # on Windows, where the lock is a file in it


@contextmanager
def written_beside(path, synced=True):
    """Give a path to write a file to, which is renamed to `path` once all went well.

    Who has the old file open, or mapped into memory, keeps it as it was. The new one has its mode
    and owner; a link stays a link, to the new file; a device or a pipe gets the bytes. With synced
    False, for what can be computed again and has a checksum, nothing waits for the disk. Raises
    OutputError where the file can't be written.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    try:
        # /dev/stdout is a regular file where a shell's > sends it to one
        renamed = not path.exists() or (path.is_file() and not str(path).startswith("/dev/"))
        with staging_folder(target.parent if renamed else tempfile.gettempdir()) as folder:
            part = folder / target.name
            part.touch()
            mode = part.stat().st_mode
            yield part
            if renamed:
                part.chmod(mode)  # safetensors writes files that only their owner may read
                make_ready(part, target, synced)
                rename(part, target)
                if synced:
                    sync(target.parent)
            else:
                with part.open("rb") as source, path.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except (PicoGPTError, BrokenPipeError):
        raise
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path, error):
    """The OutputError for a path that can't be written."""
    reason = error.strerror or "is the disk full?"  # NumPy only counts what it could write
    return OutputError(f"{shown(path)} can't be written ({reason})")


def shown(path):
    """A path as the user knows it: of a file in a staging folder, the one that it is made for."""
    return Path(*(part for part in Path(path).parts if not part.startswith(STAGING["prefix"])))


def make_ready(part, path, synced=True):
    """Give a finished file the mode and owner of `path`, if it exists, and sync it to the disk."""
    with suppress(FileNotFoundError):
        old = path.stat()
        if hasattr(os, "chown"):
            with suppress(PermissionError):  # only root may give files away
                os.chown(part, old.st_uid, old.st_gid)
        part.chmod(old.st_mode)
    if synced:
        sync(part)


def rename(part, path):
    """Rename a file, patiently: on Windows a viewer or a virus scanner may look at the old one."""
    for wait in (*RENAME_WAITS, None):
        try:
            part.replace(path)
            return
        except PermissionError:
            if wait is None:
                raise
            time.sleep(wait)


def sync(path):
    """Wait until a file, or which files a folder has, is on the disk."""
    if fcntl is None and path.is_dir():  # Windows opens no folders
        return
    file = os.open(path, os.O_RDONLY if fcntl else os.O_RDWR)
    try:
        with suppress(OSError):  # some file systems can't
            os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def written_together(folder, last, outdated=()):
    """Give a folder to write several files to, which come into `folder` all or none.

    `last` is the one without which the others are not used, as a model's config.json: the old one
    goes first and the new one comes last, so that a process that is killed in between leaves no
    mixture that works. Files that are as they were stay untouched. `outdated` names files that are
    not written here and that would contradict the new ones: those that are there are deleted.
    Raises OutputError, and FolderInUseError where another process has locked the folder.
    """
    folder = Path(folder)
    try:
        with locked(folder), staging_folder(folder) as made:
            yield made
            old_names = [name for name in outdated if (folder / name).exists()]
            parts = [part for part in made.iterdir() if part.name != LOCK_FILE]
            names = [part.name for part in parts if not same_file(part, folder)]
            if len(names) + len(old_names) > 1:
                names = [name for name in names if name != last] + [last]
            for name in names:
                make_ready(made / name, folder / name)
            if last in names and not (folder / last).is_symlink():
                (folder / last).unlink(missing_ok=True)
            for name in old_names:
                (folder / name).unlink()
            for name in names:
                place(made / name, folder / name)
            sync(folder)
    except PicoGPTError:
        raise
    except OSError as error:
        raise not_written(error.filename or folder, error) from error


def place(part, path):
    """Rename a file to `path`; where that is a link, it is written through."""
    if path.is_symlink():
        with written_beside(path) as beside:
            shutil.copyfile(part, beside)
    else:
        rename(part, path)


def same_file(part, folder):
    """Whether the folder has a file of the part's name and bytes."""
    old = folder / part.name
    return old.is_file() and filecmp.cmp(part, old, shallow=False)


def write_text(path, text):
    r"""Write a whole text file in UTF-8, with \n at the ends of lines on every system.

    Raises OutputError where that fails.
    """
    with written_beside(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_arrays(path, arrays, metadata):
    """Write a safetensors file of {name: array} and {name: text}; OutputError where that fails."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with written_beside(path) as part:
        try:
            save_file(arrays, part, metadata)
        except SafetensorError as error:
            said = f"{shown(path)} can't be written ({error}): is there space?"
            raise OutputError(said) from None


def cache_folder():
    """~/.cache/picogpt, for what can be had again; None where the user has no home."""
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib's raises where there is none
    return None if home == "~" else Path(home, ".cache", "picogpt")


def read_json(path):
    """The object in a model's JSON file; raises CheckpointError where it is damaged."""
    try:
        values = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} can't be read ({error}): get it again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is no JSON object: get it again")
    return values


def unreadable(path, error):
    """The CheckpointError for a file that the system doesn't give out."""
    why = error.strerror or error
    return CheckpointError(f"{path} can't be read ({why}): check its permissions")
