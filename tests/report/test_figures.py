import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tailwise.errors import SettingError
from tailwise.report.canvas import save_figure, save_figures, shorten, svg_text
from tailwise.report.figures import (
    change_figure,
    confusion_figure,
    cost_figure,
    f1_by_count_figure,
    reliability_figure,
)

HOSTILE = "<b>&$x_1$"


def classes(number):
    counts = np.maximum(1, (1000 * 0.9 ** np.arange(number)).astype(int))
    groups = np.where(counts > 100, "head", np.where(counts >= 20, "medium", "tail"))
    names = [HOSTILE, *(f"class {i}" for i in range(1, number))]
    return pd.DataFrame({"class": names, "group": groups, "train_count": counts})


def per_class(number):
    table = classes(number)
    rows = table.assign(method="wce", support=np.arange(number), f1=np.linspace(1, 0, number))
    return pd.concat([rows, rows.assign(method="ce", f1=rows["f1"] / 2)])


@pytest.mark.parametrize("number", [2, 21, 151])
def test_f1_by_count_draws_every_class_that_test_has(number):
    figure = f1_by_count_figure(per_class(number), method="wce", baseline="ce")
    upper, lower = figure.axes
    assert len(upper.patches) == number
    ticks, dots = lower.collections[:2]
    assert len(dots.get_offsets()) == len(ticks.get_offsets()) == number - 1  # the first class is absent from test


@pytest.mark.parametrize("most", [60, 300, 50_000])
def test_counts_stand_at_the_ticks_in_plain_digits(most):
    table = per_class(3).assign(train_count=[most, most // 2, 10] * 2)
    figure = f1_by_count_figure(table, method="wce", baseline="ce")
    figure.draw_without_rendering()
    upper, lower = figure.axes
    for axis in (upper.yaxis, lower.xaxis):
        assert not any(text.get_text() for text in axis.get_ticklabels(minor=True))
        low, high = sorted(axis.get_view_interval())
        shown = [
            t.get_text() for t, x in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True) if low <= x <= high
        ]
        assert len([text for text in shown if text]) >= 2
        assert all(text.replace(",", "").isdigit() for text in shown if text)


def test_change_names_the_classes_with_the_largest_change():
    changes = classes(151).assign(change=np.linspace(-0.5, 0.1, 151), low=-0.6, high=0.2)
    axes = change_figure(changes, method="wce", baseline="ce").axes[0]
    assert "the 40 largest of 151 classes" in axes.get_title(loc="left")
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == 40
    assert f"{HOSTILE} (1,000)" in labels


def test_hostile_names_stay_text_in_the_picture():
    pairs = pd.DataFrame({"gold": [HOSTILE], "predicted": ["b"], "count": [3], "rate": [0.5]})
    svg = svg_text(confusion_figure(pairs))
    assert "&lt;b&gt;&amp;$x_1$" in svg
    assert "<b>" not in svg


def test_cost_colours_gains_by_their_interval():
    rows = {"up": (1.0, 0.1, 0.05, 0.2), "down": (2.0, -0.1, -0.2, -0.05), "level": (3.0, 0.0, -0.1, 0.1)}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["seconds", "gain", "low", "high"])
    left = cost_figure(table, metric="macro-F1", baseline="ce").axes[0]
    assert [label.get_text() for label in left.get_yticklabels()] == ["down", "level", "up"]
    assert len({tuple(colour) for colour in left.collections[1].get_facecolors()}) == 3


def test_reliability_leaves_out_empty_bins():
    bins = pd.DataFrame({"confidence": [0.1, np.nan, 0.9], "accuracy": [0.2, np.nan, 0.8], "count": [5, 0, 7]})
    left, right = reliability_figure(bins, bins, ece={"before": 0.1, "after": 0.05}).axes
    assert len(left.collections[0].get_offsets()) == len(right.collections[0].get_offsets()) == 2
    assert "0.050" in right.get_title(loc="left")


def test_equal_figures_give_equal_files(tmp_path):
    for suffix in ("png", "svg"):
        files = [
            save_figure(f1_by_count_figure(per_class(5), method="wce"), tmp_path / f"{i}.{suffix}") for i in (1, 2)
        ]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_figures_are_laid_out_once_and_drawn_once_per_file(tmp_path, monkeypatch):
    drawn = []
    draw = Figure.draw
    monkeypatch.setattr(
        Figure, "draw", lambda self, renderer: drawn.append(type(renderer).__name__) or draw(self, renderer)
    )
    figure = f1_by_count_figure(per_class(5), method="wce")
    elements = save_figures({"f1": figure}, tmp_path)
    assert drawn == ["RendererAgg", "MixedModeRenderer"]
    assert figure.get_layout_engine() is None
    assert (tmp_path / "f1.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "f1.svg").read_text(encoding="utf-8").endswith(elements["f1"])
    assert elements["f1"] == svg_text(f1_by_count_figure(per_class(5), method="wce"))


def test_the_layout_leaves_room_for_long_class_names(tmp_path):
    changes = classes(30).assign(change=0.1, low=0.0, high=0.2)
    changes["class"] = [f"a class with a long name, {i}" for i in range(30)]
    figure = change_figure(changes, method="wce", baseline="ce")
    save_figure(figure, tmp_path / "a.png")
    renderer = FigureCanvasAgg(figure).get_renderer()
    lefts = [label.get_window_extent(renderer).x0 for label in figure.axes[0].get_yticklabels()]
    assert min(lefts) >= 0


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(SettingError, match=r"ending in \.png or \.svg, but got 'a\.pdf'"):
        save_figure(f1_by_count_figure(per_class(5), method="wce"), tmp_path / "a.pdf")


def test_long_names_are_cut_in_the_middle():
    assert shorten("a" * 40 + "b" * 40, 11) == "aaaaa…bbbbb"
    assert shorten("two\nlines") == "two lines"
