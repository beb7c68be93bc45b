"""The commit of a checkout, and none where the folder belongs to no repository."""

import shutil
import subprocess

import pytest

from ase_srdft.common.source_commit import source_commit

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder, *words):
    person = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *person, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A repository with a package that is tracked, and one that is not."""
    for name in ("own", "installed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "own")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "tag", "v1")
    return tmp_path


def test_the_commit_and_whether_files_were_changed_since(checkout):
    head = git(checkout, "rev-parse", "HEAD")
    assert len(head) == 40
    assert source_commit(checkout / "own") == head
    (checkout / "own" / "__init__.py").write_text("changed = True")
    source_commit.cache_clear()
    assert source_commit(checkout / "own") == f"{head}-dirty"


def test_a_repository_of_others_does_not_count(checkout):
    assert source_commit(checkout / "installed") is None


def test_no_repository_and_no_git(tmp_path, checkout, monkeypatch):
    assert source_commit(tmp_path / "nowhere") is None
    source_commit.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_commit(checkout / "own") is None
    source_commit.cache_clear()
