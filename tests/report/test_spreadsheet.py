import csv

import pandas as pd
import pytest
from openpyxl import load_workbook

from tailwise.errors import StoreError
from tailwise.report.spreadsheet import write_csv, write_workbook

TABLE = pd.DataFrame({"class": ["=1+1", "plain", "tab\x00"], "f1": [0.123456789012, float("nan"), 1.0], "n": [1, 2, 3]})


def test_workbook_keeps_exact_numbers_and_disarms_formulas(tmp_path):
    sheet = load_workbook(write_workbook({"per class": TABLE}, tmp_path / "a.xlsx"))["per class"]
    rows = list(sheet.values)
    assert rows[0] == ("class", "f1", "n")
    assert rows[1] == ("'=1+1", 0.123456789012, 1)
    assert rows[2] == ("plain", None, 2)
    assert rows[3][0] == "tab�"
    assert sheet.freeze_panes == "A2"


def test_csv_keeps_exact_numbers_and_disarms_formulas(tmp_path):
    with write_csv(TABLE, tmp_path / "a.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[1] == ["'=1+1", "0.123456789012", "1"]


def test_a_table_longer_than_a_sheet_is_refused(tmp_path):
    with pytest.raises(StoreError, match="Use the CSV file"):
        write_workbook({"long": pd.DataFrame({"a": range(1_048_001)})}, tmp_path / "a.xlsx")
