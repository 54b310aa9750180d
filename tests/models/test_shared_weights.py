"""One copy of an encoder's weights for all model folders: what is linked, what is never touched, what falls back."""

import os
import shutil

import pytest

from tailwise.models import shared_weights
from tailwise.models.saving_folder import new_folder
from tailwise.models.shared_weights import link_weights, shares_weights

pytestmark = pytest.mark.skipif(os.name != "posix", reason="hard links to read-only files are for POSIX systems")

CONTENT = b"weights " * 100


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "installed" / "model.safetensors"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def link(source, tmp_path):
    """Links the weights into a new folder; returns the file."""

    def linked(name):
        target = tmp_path / name / "model.safetensors"
        target.parent.mkdir()
        assert link_weights(source, target, tmp_path / "cache")
        return target

    return linked


def test_folders_share_one_read_only_file_that_is_not_the_source(link, source):
    first, second = link("one"), link("two")
    assert first.read_bytes() == CONTENT
    assert first.stat().st_ino == second.stat().st_ino != source.stat().st_ino
    assert first.stat().st_mode & 0o222 == 0
    assert source.stat().st_nlink == 1
    assert shares_weights(first.parent)
    assert not shares_weights(source.parent)


def test_a_copy_of_the_folder_is_independent(link, tmp_path):
    folder = shutil.copytree(link("one").parent, tmp_path / "copied")
    assert not shares_weights(folder)
    assert (folder / "model.safetensors").read_bytes() == CONTENT


def test_a_copy_that_was_changed_is_not_linked_again(link):
    first = link("one")
    first.chmod(0o644)
    first.write_bytes(CONTENT[:-1] + b"!")
    assert link("two").read_bytes() == CONTENT


def test_copies_that_no_folder_uses_go_with_the_next_encoder(link, source, tmp_path):
    kept, gone = link("one"), None
    source.write_bytes(b"another encoder")
    gone = link("two")
    gone.unlink()
    source.write_bytes(b"a third encoder")
    third = link("three")
    sizes = sorted(path.stat().st_size for path in (tmp_path / "cache").glob("*.safetensors"))
    assert sizes == sorted([kept.stat().st_size, third.stat().st_size])


def test_without_links_nothing_is_written(source, tmp_path, monkeypatch):
    def refused(self, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(type(source), "hardlink_to", refused)
    assert not link_weights(source, tmp_path / "model.safetensors", tmp_path / "cache")
    assert not (tmp_path / "model.safetensors").exists()


def test_a_cache_that_cannot_be_made_is_no_error(source, tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert not link_weights(source, tmp_path / "model.safetensors", tmp_path / "file" / "cache")


def test_the_rights_of_a_linked_file_are_left_alone(source, tmp_path):
    with new_folder(tmp_path / "model") as partial:
        (partial / "own.json").write_text("{}")
        (partial / "own.json").chmod(0o600)
        assert link_weights(source, partial / "model.safetensors", tmp_path / "cache")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert modes["model.safetensors"] == 0o444
    assert modes["own.json"] == (tmp_path / "model").stat().st_mode & 0o666


def test_the_cache_of_the_user_is_the_default_place(source, tmp_path, monkeypatch):
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "user"))
    assert link_weights(source, tmp_path / "model.safetensors")
    digest = shared_weights.file_digest(source)
    assert (tmp_path / "user" / "encoders" / f"{digest}.safetensors").is_file()
