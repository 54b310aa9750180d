"""Data sets known by name, really loaded."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tailwise.data import debian, load, named_datasets
from tailwise.data.cleaning import normalised_text
from tailwise.data.rows import RowBuilder
from tailwise.errors import DataError, MissingDependencyError, UnknownNameError


def test_chatterbot_topics():
    corpus = load("chatterbot-topics")
    names = corpus.label_space.names
    assert {"ai", "trivia", "tech_support", "health"} <= set(names)
    assert len(names) >= 19
    for split in corpus.splits:
        assert set(corpus.labels(split).tolist()) == set(range(len(names)))
        assert all(text.strip() for text in corpus.texts(split))
    assert corpus.label_space.counts.max() > 20 * corpus.label_space.counts.min()
    assert "chatterbot_corpus" not in sys.modules, "the package is read, not imported"
    assert corpus.source["package"].startswith("chatterbot-corpus ")
    assert corpus.source["licence"] == "BSD"
    assert load("chatterbot-topics").fingerprint == corpus.fingerprint


def test_chatterbot_topics_repeats_within_a_topic_are_left_out_and_conflicts_kept():
    corpus = load("chatterbot-topics")
    rows = [
        (normalised_text(t), label)
        for s in corpus.splits
        for t, label in zip(corpus.texts(s), corpus.labels(s).tolist(), strict=True)
    ]
    assert max(Counter(rows).values()) == 1
    topics = Counter(text for text, _ in rows)
    assert sum(count > 1 for count in topics.values()) == corpus.source["splits"]["label_conflicts"] > 0


def test_chatterbot_topics_without_the_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r'pip install "tailwise\[demo\]"'):
        load("chatterbot-topics")


def test_named_data_set_fixes_its_columns():
    with pytest.raises(DataError, match="fixes its columns"):
        load("chatterbot-topics", text="utterance")


def test_debian_sections():
    try:
        corpus = load("debian-sections")
    except DataError as error:
        pytest.skip(str(error))
    names = corpus.label_space.names
    assert {"libs", "games", "python"} <= set(names)
    assert not any("/" in name for name in names)
    ids = [i for s in corpus.splits for i in corpus.ids(s)]
    assert len(ids) == len(set(ids)) > 10_000
    assert sum(i in {"python3", "bash"} for i in ids) == 2


STANZAS = """Package: one
Section: games
Description: a game
 that goes on
Homepage: http://x

Package: two
Section: contrib/games
Description: another game

Package: three
Description: no section

Package: one
Section: libs
Description: a later version

Package: four
Section: non-free/libs
Description: a library
"""


def test_debian_stanzas(monkeypatch):
    monkeypatch.setattr(debian, "_index_lines", lambda name, indexes: iter(STANZAS.splitlines(keepends=True)))
    built = []

    class Recorder(RowBuilder):
        def add(self, line, cells):
            built.append(tuple(cells))
            super().add(line, cells)

    monkeypatch.setattr(debian, "RowBuilder", Recorder)
    with pytest.raises(DataError, match="too few"):
        load("debian-sections")
    assert built == [("a library", "libs", "four"), ("a game", "games", "one"), ("another game", "games", "two")]


def test_debian_tags():
    told = []
    try:
        corpus = load("debian-tags", notify=told.append)
    except DataError as error:
        pytest.skip(str(error))
    assert corpus.task.name == "multilabel"
    assert told[-1].startswith("task: multilabel (text, labels): ")
    space = corpus.label_space
    assert {"role::program", "implemented-in::c", "use::editing"} <= set(space.names)
    assert len(space) > 400
    assert space.unseen == ()
    assert space.num_rows == corpus.num_rows("train") > 10_000
    np.testing.assert_array_equal(np.asarray(corpus.label_matrix("train").sum(axis=0)).ravel(), space.counts)
    assert (np.diff(corpus.label_matrix("train").indptr) > 0).all(), "packages without tags are left out"


def test_tags_in_braces_and_on_folded_lines(monkeypatch):
    stanzas = (
        "Package: one\nDescription: a game\n that goes on\n"
        "Tag: game::puzzle,\n use::{editing,viewing},\n role::program\n\n"
        "Package: two\nDescription: no tag\n\n"
    )
    monkeypatch.setattr(debian, "_index_lines", lambda name, indexes: iter(stanzas.splitlines(keepends=True)))
    rows = debian.debian_tags("debian-tags").parts["all"].table.to_pylist()
    assert [(r["text"], r["labels"], r["id"]) for r in rows] == [
        ("a game", ["game::puzzle", "role::program", "use::editing", "use::viewing"], "one")
    ]


def test_a_named_data_set_of_another_task(monkeypatch):
    with pytest.raises(DataError, match="task='tagging', but this data set is of 'text'"):
        load("chatterbot-topics", task="tagging")
    assert load("chatterbot-topics", task="text").task.name == "text"


def test_debian_sections_without_an_index(monkeypatch, tmp_path):
    monkeypatch.setattr(debian, "_APT_LISTS", tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(DataError, match=r"no Debian package index.*apt-get update"):
        load("debian-sections")


def test_debian_sections_where_apt_fails(monkeypatch, tmp_path):
    (tmp_path / "x_Packages").write_text(STANZAS)
    helper = tmp_path / "helper"
    helper.write_text("#!/bin/sh\nexit 7\n")
    helper.chmod(0o755)
    monkeypatch.setattr(debian, "_APT_LISTS", tmp_path)
    monkeypatch.setattr(debian, "_APT_HELPER", str(helper))
    with pytest.raises(DataError, match="cat-file` failed with exit code 7"):
        load("debian-sections")


def test_folders_below_tailwise_data(monkeypatch, data_dir):
    monkeypatch.setenv("TAILWISE_DATA", str(data_dir))
    assert {"trec6", "sms_spam", "chatterbot-topics", "debian-sections", "debian-tags"} <= set(named_datasets())
    corpus = load("trec6")
    assert corpus.name == "trec6"
    assert corpus.fingerprint == load(data_dir / "trec6").fingerprint
    with pytest.raises(UnknownNameError, match="Did you mean 'trec6'"):
        load("trec7")


def test_without_tailwise_data_only_the_built_in_names_are_known(monkeypatch):
    monkeypatch.delenv("TAILWISE_DATA", raising=False)
    assert set(named_datasets()) == {"chatterbot-topics", "debian-sections", "debian-tags"}


def test_a_result_folder_of_the_same_name_does_not_become_the_source(monkeypatch, tmp_path):
    (tmp_path / "chatterbot-topics").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load("chatterbot-topics").source["kind"] == "named"
    with pytest.raises(DataError, match="no file for train"):
        load("./chatterbot-topics")
    with pytest.raises(DataError, match="no file for train"):
        load(Path("chatterbot-topics"))


def test_a_folder_that_is_ambiguous_does_not_break_the_list_of_names(monkeypatch, tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "train.csv").write_text("text,label\n")
    (tmp_path / "two" / "train.tsv").write_text("text\tlabel\n")
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("TAILWISE_DATA", str(tmp_path))
    assert "two" in named_datasets()
    assert "none" not in named_datasets()
    with pytest.raises(DataError, match="several files could be the split train"):
        load("two")
