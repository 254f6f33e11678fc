"""Cards as files: where they lie beside a model, a run or a store, and writing them."""

from collections.abc import Mapping
from pathlib import Path

from mmadfer.contract import Contract
from mmadfer.contract.licences import parse_stated
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError, DataError, MmadferError, RunError, WeightsError
from mmadfer.report.cards.data import data_card
from mmadfer.report.cards.model import CardSource, model_card
from mmadfer.report.summary import RunReport, first_contract, summarise_run
from mmadfer.run import directory as runs
from mmadfer.utils.files import read_object, write_text

RUN_CARD = "MODEL_CARD.md"
"""That of a run, in its folder."""
_PARITY = "*.parity.json"


def card_path(out: Path) -> Path:
    """Where the card of a model or a store lies: `mine.onnx.card.md` beside `mine.onnx`."""
    return out.with_name(f"{out.name}.card.md")


def data_card_path(card: Path) -> Path:
    """Where the card of its data lies beside a model's card: `mine.onnx.card.data.md`."""
    return card.with_suffix(".data.md")


def write_cards(card: Path, source: CardSource, data: Path | None = None) -> list[Path]:
    """Write a model's card, and that of its data where the store is there. Returns what was written.

    Args:
        card: the card to write.
        source: what it tells of.
        data: a store, which is looked at where that of the run is not there.

    Raises:
        OSError: a full disk, a missing right.
    """
    write_text(card, model_card(source))
    opened = _store_of(source, data)
    if opened is None:
        data_card_path(card).unlink(missing_ok=True)  # of another model, once
        return [card]
    with opened:
        write_text(data_card_path(card), data_card(opened, source.stated))
    return [card, data_card_path(card)]


def _store_of(source: CardSource, data: Path | None) -> Store | None:
    """The store that the model was trained on, by its fingerprint; where that is not known, the run's own."""
    told, own = source.contract.store, source.report.config.data.store if source.report else None
    for path in (own, data):
        found = _opened(path)
        if found is not None and (found.header.fingerprint == told if told else path is own):
            return found
        if found is not None:
            found.close()
    return None


def _opened(store: Path | None) -> Store | None:
    try:
        return None if store is None else Store(store)
    except (DataError, OSError):
        return None


def write_run_cards(run: Path, out: Path | None, licences: tuple[str, ...]) -> list[Path]:
    """Write the cards of a run, `RUN/MODEL_CARD.md` by default.

    Raises:
        RunError: there is no run, or none of its folds is finished.
        WeightsError: no checkpoint of a finished fold can be read.
        ConfigError: `licences` states what cannot be.
    """
    report = summarise_run(run, {})
    contract = first_contract(report.run, report.usable)
    if contract is None:
        raise WeightsError(
            f"{run} has no checkpoint of a finished fold that can be read: what the model is, is not known"
        )
    parity = [read_object(path) for path in sorted((run / "export").glob(_PARITY))]
    name = str(report.about.get("name") or run.name)
    source = CardSource(name, contract, report, parity, parse_stated(licences))
    return write_cards(out or run / RUN_CARD, source)


def write_store_card(store: Path, out: Path | None, licences: tuple[str, ...]) -> Path:
    """Write the card of a store, `STORE.card.md` by default.

    Raises:
        DataError: it is no store.
        ConfigError: `licences` states what cannot be.
    """
    stated = parse_stated(licences)
    with Store(store) as opened:
        _check_of_store(stated, opened.data_set)
        card = out or card_path(store)
        write_text(card, data_card(opened, stated))
    return card


def _check_of_store(stated: Mapping[str, str], name: str) -> None:
    if odd := [part for part in stated if part != name]:
        raise ConfigError(f"--licence names {odd[0]!r}, but the store holds {name!r}: give that name")


def run_of(path: Path) -> RunReport | None:
    """The report on the run of a run, fold or checkpoint directory; None of a file, or without a finished fold."""
    for folder in (path, *path.absolute().parents[:3]) if path.is_dir() else ():
        try:
            runs.read(folder)
        except (RunError, OSError):
            continue
        try:
            return summarise_run(folder, {})
        except MmadferError:
            return None
    return None


def same_run(report: RunReport | None, contract: Contract) -> RunReport | None:
    """The report where it is on the run of that model, by its labels; None otherwise."""
    fits = report is not None and contract.names == (report.labels or report.values)
    return report if fits else None
