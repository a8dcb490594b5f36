"""The built wheel, installed somewhere else and run from an empty folder without network."""

import os
import subprocess
import sys
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


def test_it_writes_with_the_built_in_model(installed, tmp_path):
    done = run(installed, tmp_path, "gpt2", "Once upon a time", "--seed", "1")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 40
    assert done.stderr.count("\n") == 1 and "Once upon a time" in done.stderr
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
