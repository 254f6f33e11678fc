"""Cards of runs: their numbers, what they call not known, and the hub's own reader."""

from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard
from model_setup import TINY, contract
from report_setup import LABELS as CLIP_LABELS
from report_setup import make_run as make_clips_run
from report_setup import make_store
from test_report import LABELS, UAR, make_run
from typer.testing import CliRunner

from mmadfer.cli.main import app
from mmadfer.cli.main import run as run_app
from mmadfer.config.schema import PrepareConfig
from mmadfer.data.store.store import Header, write_store
from mmadfer.errors import RunError
from mmadfer.model.weights.build import build_model, save_weights
from mmadfer.report.cards.model import CardSource
from mmadfer.report.cards.writing import write_cards, write_run_cards
from mmadfer.report.cells import gain, likely
from mmadfer.report.summary import summarise_run

ARTICLES = (
    "Article 5(1)(f)",
    "2 February 2025",
    "Article 50(3)",
    "2 August 2026",
    "Annex III, point 1(c)",
    "2 December 2027",
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three of five folds, with a checkpoint of the first, trained on DFEW from AudioMAE."""
    run = make_run(tmp_path / "run", (1, 2, 3))
    licences = {"mmadfer": "Apache-2.0", "AudioMAE": "CC BY-NC 4.0"}
    told = contract(labels=tuple(LABELS)).model_copy(update={"data_set": "dfew", "fold": 1, "licences": licences})
    model = build_model(TINY, len(LABELS))
    save_weights(run / "fold-1/checkpoints/step-00000002/weights.safetensors", model, told, frozen=True)
    return run


def test_the_card_of_a_run_has_its_numbers_and_says_what_is_not_known(run: Path) -> None:
    done = CliRunner().invoke(app, ["card", str(run)])
    assert done.exit_code == 0, done.output
    assert f"card    {run / 'MODEL_CARD.md'}" in done.output
    text = (run / "MODEL_CARD.md").read_text()
    mean = sum(UAR[fold] for fold in (1, 2, 3)) / 3
    assert f"| 1 | 15 | {100 * UAR[1]:.2f} |" in text
    assert f"| mean ± std | 50 | {100 * mean:.2f} ± " in text
    assert "| sad &lt;b&gt;&amp; | " in text
    assert "3 of 5 folds" in text
    assert "Fold 4 is missing: left out." in text
    for heading in ("Calibration", "Groups of people", "Parity"):
        assert text.split(f"## {heading}\n")[1].strip().startswith("Not known")
    assert "faces and voices are of films" in text
    assert "Transfer is weak" in text
    assert all(article in text for article in ARTICLES)
    assert "no legal advice" in text
    assert "**Not for commercial use**: the licence of AudioMAE, dfew does not allow it" in text
    assert "<b>" not in text


def test_the_hub_reads_the_metadata(run: Path) -> None:
    (written,) = write_run_cards(run, None, ())
    card = ModelCard.load(written)
    told = card.data.to_dict()
    assert (told["license"], told["license_name"], told["library_name"]) == (
        "other",
        "licences-of-its-parts",
        "mmadfer",
    )
    assert told["pipeline_tag"] == "video-classification"
    found = {(one.metric_type, one.dataset_name): one.metric_value for one in card.data.eval_results}
    assert found["uar", "dfew"] == pytest.approx(sum(UAR[fold] for fold in (1, 2, 3)) / 3, abs=1e-6)
    assert card.data.eval_results[0].dataset_split == "mean of 3 test folds"


def test_licences_that_are_stated_are_in_the_card(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "card.md"
    words = ["card", str(run), "--out", str(out), "--licence", "dfew=own", "--licence", "AudioMAE=own"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert "| AudioMAE | weights | own (stated by the exporter) | allowed |" in out.read_text()
    assert "Not for commercial use" not in out.read_text()
    assert run_app(app, [*words, "--licence", "me=own"]) == 2


def test_what_has_no_card(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished fold"):
        write_run_cards(make_run(tmp_path / "run", ()), None, ())
    for words in (["nowhere"], [str(tmp_path), "--out", str(tmp_path / "card.txt")], [str(tmp_path)]):
        assert run_app(app, ["card", *words]) == 2


def test_a_card_of_a_store_names_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "crema.store"
    lost = {"secret-1": "unreadable: /home/ann/1.mp4: it ends too soon", "secret-2": "unreadable: /home/ann/2.mp4"}
    left = {**lost, "secret-3": "no face: in none of 8 frames"}
    write_store(store, Header("crema_d", ("sad", "glad"), PrepareConfig(), left_out=left), [])
    done = CliRunner().invoke(app, ["card", str(store)])
    assert done.exit_code == 0, done.output
    card = DatasetCard.load(tmp_path / "crema.store.card.md")
    told = card.data.to_dict()
    assert (told["license"], told["size_categories"], told["pretty_name"]) == ("odbl", ["n<1K"], "crema_d")
    assert "Left out: 3 clips (unreadable: 2, no face: 1)." in card.text
    assert "acted on purpose" in card.text
    assert "secret" not in card.text
    assert "/home" not in card.text
    assert all(article in card.text for article in ARTICLES)
    assert run_app(app, ["card", str(store), "--licence", "ravdess=own"]) == 2
    assert "names 'ravdess', but the store holds 'crema_d'" in capsys.readouterr().err


def test_a_card_of_the_data_is_of_what_the_model_was_trained_on(tmp_path: Path) -> None:
    store = tmp_path / "crema.store"
    write_store(store, Header("crema_d", ("sad", "glad"), PrepareConfig(), fingerprint="f" * 64), [])
    card, data = tmp_path / "mine.card.md", tmp_path / "mine.card.data.md"
    for told, written in {"f" * 64: [card, data], "e" * 64: [card], "": [card]}.items():
        source = CardSource("mine", contract().model_copy(update={"store": told}))
        assert write_cards(card, source, store) == written
        assert data.exists() == (data in written)


def test_what_the_predictions_of_every_clip_tell_is_in_the_card(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    made = make_clips_run(tmp_path / "run", make_store(tmp_path / "made.store"))
    told = contract(labels=tuple(CLIP_LABELS)).model_copy(update={"data_set": "mine", "fold": 1, "temperature": 1.5})
    weights = made.run / "fold-1/checkpoints/step-00000002/weights.safetensors"
    save_weights(weights, build_model(TINY, len(CLIP_LABELS)), told, frozen=True)
    card, data = write_run_cards(made.run, None, ())
    text, found = card.read_text(), summarise_run(made.run, {}).of_clips
    assert found is not None
    low, high = found.intervals.scores["uar"] or (0, 0)
    assert f"| 95 % interval |  | {100 * low:.2f} to {100 * high:.2f} |" in text
    for one in found.calibration:
        assert f"| {one.fold} | {100 * one.ece:.2f} | " in text
    assert "The model carries the temperature 1.500" in text
    shown = [one for one in found.groups if one.column != "subject"]
    assert shown
    for one in shown:
        assert f"| {one.column} | {one.value} | {one.clips} | {100 * one.accuracy:.2f} | {100 * one.uar:.2f} |" in text
        told_of = one.note or likely(one.holm)
        assert f"{100 * one.uar:.2f} | {gain(one.within_folds)} | {told_of} |" in text, "the numbers of the report"
    people = {one.value for one in found.groups if one.column == "subject"}
    assert len(people) > 1
    assert not [name for name in people if name in text + data.read_text()], "no person is named"
    assert f"of each of {len(people)} people" in text
    assert f"The store tells {len(people)} people apart." in data.read_text()
    assert "- Clips by sex: f 61, m 59." in data.read_text()
