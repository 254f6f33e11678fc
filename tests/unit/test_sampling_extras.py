"""What goes beyond the published recipe, as draws: class-balanced epochs, mixup's pairs and shares, masks, dropout."""

from collections import Counter
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

from mmadfer.config.samplers import SAMPLERS
from mmadfer.config.schema import AugmentConfig
from mmadfer.data import draws as sampling
from mmadfer.data.loading.mixup import paired, seconds
from mmadfer.data.loading.samplers import Balanced, BySubject, Pick, Sampler
from mmadfer.data.loading.specaugment import masked, unpadded_frames
from mmadfer.data.media.fbank import SILENCE
from mmadfer.data.store.store import Clip

CLASSES = {"glad": 50, "sad": 13, "calm": 4}  # 67 clips: 22 of each class, and one more
CLIPS = [Clip(f"{label}{k:02}", label, 1, "", 40) for label, n in CLASSES.items() for k in range(n)]
# Frozen: a change here means that no earlier run can be reproduced.
GOLDEN_SHARE = 0.07704728048632709
LABELS = {clip.id: clip.label for clip in CLIPS}


def draw(pick: Pick, epoch: int = 0, **augment: float) -> sampling.Draw:
    settings = AugmentConfig.model_validate(augment)
    which = {"key": pick.key, "loses_with": pick.loses_with}
    return sampling.draw_view(1, epoch, pick.clip, 40, size=(64, 64), augment=settings, frames=4, depth=2, **which)


def looks(drawn: sampling.Draw) -> tuple[object, ...]:
    assert drawn.drop_path is not None
    return drawn.indexes.tolist(), drawn.crop, drawn.brightness, drawn.drop_path.tobytes()


def shuffle(seed: int, epoch: int, clips: list[Clip]) -> list[Pick]:
    return Sampler(seed, clips).epoch(epoch)


def balanced(seed: int, epoch: int, clips: list[Clip]) -> list[Pick]:
    return Balanced(seed, clips).epoch(epoch)


def test_the_table_has_the_samplers_by_name() -> None:
    assert [SAMPLERS.load(name) for name in ("shuffle", "balanced")] == [Sampler, Balanced]
    assert [pick.clip for pick in shuffle(1, 2, CLIPS)] == sampling.shuffled(1, 2, LABELS)
    assert {(pick.turn, pick.partner, pick.key) for pick in shuffle(1, 2, CLIPS)} == {(0, None, ())}


def test_a_balanced_epoch_has_as_many_of_each_class() -> None:
    one_more = []
    for epoch in range(6):
        picks = balanced(1, epoch, CLIPS)
        counts = Counter(LABELS[pick.clip] for pick in picks)
        assert len(picks) == len(CLIPS)
        assert sorted(counts.values()) == [22, 22, 23]
        one_more.append(max(counts, key=lambda label: counts[label]))
    assert sorted(one_more[:3]) == sorted(one_more[3:]) == sorted(CLASSES), "what is left over goes round"


def test_clips_of_a_class_come_as_often_as_each_other_and_in_turns() -> None:
    picks = balanced(1, 0, CLIPS)
    times = Counter(pick.clip for pick in picks)
    assert {LABELS[clip]: n for clip, n in times.items() if LABELS[clip] == "glad"} == {"glad": 1}
    assert {times[clip] for clip, label in LABELS.items() if label == "sad"} == {1, 2}
    assert {times[clip] for clip, label in LABELS.items() if label == "calm"} <= {5, 6}
    for clip, n in times.items():
        assert sorted(pick.turn for pick in picks if pick.clip == clip) == list(range(n))
    labels = [LABELS[pick.clip] for pick in picks]
    assert max(Counter(labels[:22]).values()) < 16, "classes are mixed through the epoch"


def test_every_clip_comes_over_some_epochs_and_another_part_in_each() -> None:
    parts = [{pick.clip for pick in balanced(1, epoch, CLIPS)} for epoch in range(25)]
    assert set.union(*parts) == set(LABELS)
    assert parts[0] != parts[1]
    assert {pick.clip for pick in balanced(2, 0, CLIPS)} != parts[0]
    assert balanced(1, 0, CLIPS[::-1]) == balanced(1, 0, CLIPS)


def test_by_subject_has_every_clip_once_in_runs_of_one_person() -> None:
    of = {clip.id: f"s{k % 5}" for k, clip in enumerate(CLIPS[:62])}
    clips = [replace(clip, subject=of[clip.id]) for clip in CLIPS[:62]]
    picks = BySubject(1, clips, run=3).epoch(2)
    assert sorted(picks) == sorted(Pick(clip) for clip in of)
    lengths = [len([*run]) for _, run in groupby(of[pick.clip] for pick in picks)]
    assert sum(length % 3 == 0 for length in lengths) >= len(lengths) - 5, "a person's last run may be shorter"
    assert picks == BySubject(1, clips[::-1], run=3).epoch(2)
    assert picks != BySubject(1, clips, run=3).epoch(3)


def test_each_turn_is_seen_in_another_form_and_the_first_as_ever() -> None:
    forms = [looks(draw(Pick("calm01", turn))) for turn in range(6)]
    assert len({str(form) for form in forms}) == 6
    plain = sampling.draw_view(1, 0, "calm01", 40, size=(64, 64), augment=AugmentConfig(), frames=4, depth=2)
    assert looks(plain) == forms[0]
    everything = {"spec_time": 9, "spec_mels": 9, "mixup": 0.3, "drop_audio": 0.5}
    assert looks(draw(Pick("calm01"), **everything)) == forms[0], "each quantity has a stream of its own"


def test_partners_are_other_clips_as_likely_as_each_other() -> None:
    found = [paired(1, epoch, shuffle(1, epoch, CLIPS)) for epoch in range(300)]
    assert all(pick.partner not in (None, pick.clip) for picks in found for pick in picks)
    counts = Counter(pick.partner for picks in found for pick in picks)
    assert set(counts) == set(LABELS)
    assert 0.7 * 300 < min(counts.values()) < max(counts.values()) < 1.3 * 300
    assert len({pick.partner for picks in found for pick in picks if pick.clip == "calm01"}) > 60
    assert [pick.partner for pick in paired(1, 0, [Pick("alone")])] == ["alone"]


def test_partners_do_not_depend_on_where_in_the_epoch_a_clip_is() -> None:
    picks = balanced(1, 3, CLIPS)
    assert sorted(paired(1, 3, picks)) == sorted(paired(1, 3, picks[::-1]))
    shares = Counter(LABELS[pick.partner or ""] for epoch in range(60) for pick in paired(1, epoch, picks))
    assert all(abs(n / shares.total() - 1 / 3) < 0.06 for n in shares.values()), "as balanced as the epoch is"
    turns = {pick.partner for pick in paired(1, 0, [Pick("calm01", turn) for turn in range(9)] + shuffle(1, 0, CLIPS))}
    assert len(turns) > 9


def test_a_partner_is_seen_in_a_form_of_its_own() -> None:
    (second,) = seconds([Pick("sad01", 1, "calm01")])
    assert (second.clip, second.beside, second.partner) == ("calm01", "sad01", None)
    forms = [
        looks(draw(pick)) for pick in (second, Pick("calm01"), Pick("calm01", 1), *seconds([Pick("x", 1, "calm01")]))
    ]
    assert len({str(form) for form in forms}) == 4
    assert seconds([Pick("sad01")]) == []
    assert Pick("sad01", 1, "calm01").names == ["sad01", "calm01"]


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 4.0])
def test_shares_are_spread_as_beta(alpha: float) -> None:
    shares = np.array([sampling.beta(alpha, *np.random.default_rng(k).random(2)) for k in range(20000)])
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert abs(shares.mean() - 0.5) < 0.01
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
    known = {1.0: lambda p: p, 0.5: lambda p: np.sin(np.pi * p / 2) ** 2}  # uniform, and the arcsine law
    if alpha in known:
        p = np.linspace(0.1, 0.9, 9)
        np.testing.assert_allclose(np.quantile(shares, p), known[alpha](p), atol=0.012)


def test_shares_at_the_ends() -> None:
    draws = [sampling.beta(alpha, one, 0.3) for alpha in (0.001, 1.0, 1000.0) for one in (0.0, 0.5, 1 - 2.0**-53)]
    assert all(0 <= value <= 1 for value in draws)
    assert draw(Pick("a")).share == 1.0
    assert draw(Pick("a"), mixup=0.4).share == draw(Pick("a"), mixup=0.4).share != draw(Pick("a", 1), mixup=0.4).share
    assert draw(Pick("a"), mixup=0.4).share == pytest.approx(GOLDEN_SHARE, abs=1e-12)


def test_one_modality_at_most_is_dropped_and_as_often_as_said() -> None:
    drawn = [draw(Pick(str(k)), drop_vision=0.2, drop_audio=0.3) for k in range(4000)]
    blind, silent = np.array([one.brightness == 0 for one in drawn]), np.array([one.silent for one in drawn])
    assert abs(blind.mean() - 0.2) < 0.02
    assert abs(silent.mean() - 0.3) < 0.02
    assert not (blind & silent).any()
    assert [draw(Pick(str(k)), drop_vision=0.2).brightness == 0 for k in range(4000)] == blind.tolist()
    assert not any(one.silent or one.brightness == 0 for one in map(draw, map(Pick, "abcdefgh")))


def test_both_clips_of_a_blend_lose_the_same_modality() -> None:
    losses = set()
    for pick in (Pick(str(k), k % 2, partner="p") for k in range(200)):
        both = [draw(one, drop_vision=0.3, drop_audio=0.3) for one in (pick, *seconds([pick]))]
        first, second = ((one.brightness == 0, one.silent) for one in both)
        assert first == second
        losses.add(first)
    assert losses == {(False, False), (True, False), (False, True)}


def test_masks_hide_what_was_drawn_in_the_sound_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    fbank = rng.normal(0, 1, (512, 128)).astype(np.float32)
    fbank[200:] = (np.zeros((312, 128), np.float32) - np.float32(-4.2677393)) / np.float32(2 * 4.5689974)
    assert unpadded_frames(fbank) == 200
    assert unpadded_frames(np.full((512, 128), SILENCE, np.float32)) == 0
    lengths, widths = [], []
    for _ in range(400):
        hidden = masked(fbank, 30, 20, rng.random(4)) == 0
        times, mels = np.flatnonzero(hidden.all(axis=1)), np.flatnonzero(hidden.all(axis=0))
        assert (hidden == (hidden.all(axis=1)[:, None] | hidden.all(axis=0))).all()
        assert all(len(span) == np.ptp(span) + 1 for span in (times, mels) if len(span))
        assert not len(times) or times[-1] < 200, "padding is not sound"
        lengths.append(len(times))
        widths.append(len(mels))
    assert (min(lengths), max(lengths), min(widths), max(widths)) == (0, 30, 0, 20)
    assert abs(np.mean(lengths) - 15) < 1.5
    assert (masked(fbank, 0, 0, rng.random(4)) == fbank).all()
    assert fbank.all(), "the record itself is left alone"
