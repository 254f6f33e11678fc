"""CSV that a spreadsheet opens: names of strangers are no formulas there."""

from pathlib import Path

import numpy as np
import pytest

from mmadfer.evaluation.predictions import Predictions, write_csv
from mmadfer.utils.csv_cells import cell, plain_cell, to_csv

TEXTS = ["a", "", "=1+1", "+1", "-1", "@x", "'=1", "''=1", "'a", "'", "ü", "a=1"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_cell_is_no_formula_and_can_be_read_again(text: str) -> None:
    assert not cell(text).startswith(("=", "+", "-", "@"))
    assert plain_cell(cell(text)) == text


def test_what_is_no_formula_stays_as_it_is() -> None:
    assert [cell(text) for text in ("a", "'a", "ü", "a=1", "")] == ["a", "'a", "ü", "a=1", ""]
    assert cell("-1.mp4", "./") == "./-1.mp4"
    assert cell("\udcff.mp4") == "\\udcff.mp4"
    assert to_csv([["a", "b,c"], ["1", '"']]) == 'a,"b,c"\n1,""""\n'


def test_predictions_of_a_test_are_guarded(tmp_path: Path) -> None:
    names = ("-1", "=cmd")
    made = Predictions(["=HYPERLINK(1)", "b"], np.array([0, 1]), np.array([[1.0, 0.0], [0.0, 1.0]]), names)
    write_csv(made, tmp_path / "x.csv")
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert lines[0] == "id,label,predicted,p_-1,p_=cmd"
    assert lines[1].startswith("'=HYPERLINK(1),'-1,'-1,0.7")
    assert lines[2].startswith("b,'=cmd,'=cmd,0.2")
