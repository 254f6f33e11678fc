"""What a contract refuses to say."""

import pytest
from model_setup import contract
from pydantic import ValidationError

from mmadfer.contract import check_batch, loads
from mmadfer.errors import ConfigError


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("sad\nglad", "angry"), r"labels\.0\n.*no control characters or line breaks"),
        (("sad", "\x1b[2Jglad"), r"labels\.1\n"),
        (("sad", "\u202edalg"), r"labels\.1\n"),
        (("sad", "glad", "sad"), "labels name 'sad' twice"),
    ],
)
def test_labels_are_lines_of_their_own(labels: tuple[str, ...], words: str) -> None:
    written = contract(labels=("a", "b")).model_copy(update={"labels": labels}).dumps()
    with pytest.raises(ValidationError, match=words):
        loads(written)


def test_labels_of_every_language_are_taken() -> None:
    labels = ("wütend", "怒り", "غاضب", "two words", "fear/surprise", "می\u200cترسد")
    assert loads(contract(labels=labels).dumps()).labels == labels


def test_batches_rise_from_one() -> None:
    check_batch((1, 1, 1))
    for batch in ((0, 1, 2), (1, 3, 2), (3, 2, 4)):
        with pytest.raises(ConfigError, match=rf"--batch {batch[0]} {batch[1]} {batch[2]}: .*rising from 1"):
            check_batch(batch)
