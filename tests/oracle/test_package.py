"""The built wheel, installed somewhere else and run from an empty folder without network; sdist."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what the wheel installs."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "source"  # a copy: building leaves files beside the source
    subprocess.run(["git", "clone", "-q", ROOT, tree], check=True)
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, tree], check=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    return target


def run(installed, folder, *words):
    environment = os.environ | {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
    environment |= {"HF_HUB_CACHE": str(folder / "no"), "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("command", ["gpt2", "picogpt", "picogpt.reference"])
def test_it_writes_with_the_built_in_model_from_any_folder(installed, tmp_path, command):
    words = [] if command == "picogpt.reference" else ["--seed", "1"]
    done = run(installed, tmp_path, command, "Once upon a time", *words)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 40
    assert done.stderr.count("\n") == 1 + (command == "picogpt.reference")
    assert "tiny" in done.stderr


def test_the_installed_command_is_gpt2_py(installed):
    (script,) = (installed / "bin").glob("picogpt*")
    assert "picogpt.__main__" in script.read_text()


def test_the_built_in_model_is_the_packages_own(installed, tmp_path):
    place = "import picogpt.checkpoint.hub as d; print(d.find_model('tiny'))"
    code = [sys.executable, "-c", place]
    where = subprocess.run(
        code, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True
    )
    assert Path(where.stdout.decode().strip()) == installed / "picogpt" / "tiny"


def test_the_samples_and_the_page_are_there(installed, tmp_path):
    done = run(installed, tmp_path, "picogpt.probe", "sst")
    assert done.returncode == 0, done.stderr
    done = run(installed, tmp_path, "picogpt.explain", "Once upon a time")
    assert done.returncode == 0, done.stderr


def test_the_sdist_holds_what_the_tests_need(tmp_path):
    subprocess.run(["git", "clone", "-q", ROOT, tmp_path / "source"], check=True)
    build = "import setuptools.build_meta as b; print(b.build_sdist('.'))"
    made = subprocess.run(
        [sys.executable, "-c", build], cwd=tmp_path / "source", check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    with tarfile.open(tmp_path / "source" / made.stdout.splitlines()[-1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    wanted = {name for name in tracked.splitlines() if not name.startswith(".")}
    assert wanted - names == set()
