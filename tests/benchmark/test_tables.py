"""The tables of the documentation: every loss is in one, or its page says why not."""

import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from tailwise.catalog import METHODS, resolve

SCRIPT = Path(__file__).parents[2] / "docs" / "tables.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("tables", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tables", module)
        spec.loader.exec_module(module)
        yield module


def test_every_loss_is_in_a_table_or_its_page_says_why_not(script):
    losses = {name for name, method in METHODS.items() if method.family == "loss"}
    several = {name for name in losses if METHODS[name].settings["multiclass"] == "no"}
    for name in ("losses-trec50", "losses-atis_intent"):
        table = script.TABLES[name]
        said = set(re.findall(r"[a-z][a-z0-9_-]+", table.note))
        assert losses - several <= {*table.methods, *said}
        assert not said & set(table.methods)
    assert several <= {*script.TABLES["losses-reuters21578"].methods, "bce"}  # which is what `ce` becomes there
    catch_all = {name for name in losses if "catch-all class" in METHODS[name].notes}
    assert catch_all == {"catch-all-wce", "mom", "csr-f1"}
    assert catch_all <= set(script.TABLES["losses-semeval2010_task8"].methods)


def test_every_table_has_methods_of_the_catalog(script):
    for table in script.TABLES.values():
        for method in table.methods:
            assert resolve(method).stages


def test_a_page_ends_with_the_note_of_its_table(script):
    row = {"macro_f1": 0.5, "macro_f1_low": 0.4, "macro_f1_high": 0.6, "gain": 0.0, "p_value": float("nan")}
    table = pd.DataFrame([{**row, "validation": 0.5, "seconds": 1.0}], index=["ce"])
    comparison = SimpleNamespace(table=lambda: table, metrics=["macro_f1"], best=lambda: "ce", skipped={}, twins={})
    page = script.markdown("losses-trec50", comparison)
    assert page.endswith(f"Chosen on validation: ce.\n\n{script.NOT_AMONG_LOSSES}\n")
    assert script.markdown("losses-semeval2010_task8", comparison).endswith("Chosen on validation: ce.\n")
