"""What goes beyond the published recipe, in batches and in training: each does what it says, alone and together."""

import csv
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from setting import StopAt, checkpoints, events, make_config, make_store, weights
from torch.nn import functional

from mmadfer.config.schema import Config
from mmadfer.data.loading.batch import Batch, preprocess
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.media.fbank import SILENCE
from mmadfer.data.store.store import Store
from mmadfer.evaluation.evaluate import evaluate_path
from mmadfer.model.weights.build import build_model
from mmadfer.train.loop import train
from mmadfer.train.schedules import learning_rate

AUGMENT = {"spec_time": 40, "spec_mels": 20, "mixup": 0.4, "drop_vision": 0.2, "drop_audio": 0.2}
RECIPE: dict[str, Any] = {"task": {"label_smoothing": 0.1}, "ema": 0.7}


def extras(store: Path, sampler: str = "shuffle", augment: dict[str, float] | None = None, **recipe: Any) -> Config:
    config = make_config(store, **recipe)
    changed = config.data.augment.model_copy(update=augment or {})
    return config.model_copy(update={"data": config.data.model_copy(update={"sampler": sampler, "augment": changed})})


def all_on(store: Path, **recipe: Any) -> Config:
    return extras(store, "balanced", AUGMENT, **RECIPE, **recipe)


def fed(config: Config, epoch: int = 0, **where: int) -> list[Batch]:
    with Store(config.data.store or "") as store, closing(Loader(store, config, store.labels)) as loader:
        return list(loader.train(epoch, batches(config, store, 1, epoch, **where)))


def content(parts: list[Batch]) -> list[tuple[object, ...]]:
    """Clip by clip, all that the model and its loss get."""
    return [
        (
            part.ids[k],
            *(tensor[k].numpy().tobytes() for tensor in (preprocess(part), part.fbank, part.targets["label"])),
        )
        for part in parts
        for k in range(len(part.ids))
    ]


def test_mixup_is_the_blend_of_both_clips_by_hand(store: Path) -> None:
    config, plain = extras(store, augment={"mixup": 0.4}), extras(store)
    with Store(store) as opened:
        picks = [pick for part in batches(config, opened, 1, 0) for pick in part]
        alone = {pick.clip: opened.read(pick.clip).fbank for pick in picks}
        names = {clip.id: opened.labels.index(clip.label) for clip in opened.clips.values()}
    unmixed = {clip: one for part in fed(plain) for clip, one in zip(part.ids, preprocess(part).clone(), strict=True)}
    parts = fed(config)
    shares = torch.cat([part.mix.share for part in parts if part.mix is not None]).tolist()
    assert len(shares) == len(picks) == 12
    assert 0 <= min(shares) < 0.3
    assert 0.7 < max(shares) <= 1
    fbanks, targets, frames, others = (
        torch.cat(list(map(of, parts)))
        for of in (lambda part: part.fbank, lambda part: part.targets["label"], preprocess, partners)
    )
    for k, (pick, share) in enumerate(zip(picks, shares, strict=True)):
        assert pick.partner is not None
        sound = share * alone[pick.clip] + (1 - share) * opened_fbank(store, pick.partner)
        np.testing.assert_allclose(fbanks[k, 0], sound, rtol=0, atol=1e-6)
        expected = share * torch.eye(3)[names[pick.clip]] + (1 - share) * torch.eye(3)[names[pick.partner]]
        torch.testing.assert_close(targets[k], expected)
        torch.testing.assert_close(frames[k], share * unmixed[pick.clip] + (1 - share) * others[k])


def opened_fbank(store: Path, clip: str) -> np.ndarray:
    with Store(store) as opened:
        return opened.read(clip).fbank


def partners(part: Batch) -> torch.Tensor:
    """Float arithmetic of its own."""
    assert part.mix is not None
    return (part.mix.frames / 255 * part.mix.brightness[:, None, None, None, None]).clamp(max=1)


def test_batches_ranks_and_a_start_in_the_middle_change_no_clip(store: Path) -> None:
    whole = content(fed(all_on(store, batch_size=12), 1))
    assert len(whole) == 12
    assert content(fed(all_on(store, batch_size=4), 1)) == whole
    assert content(fed(all_on(store, batch_size=4), 1, start_step=1)) == whole[4:]
    ranks = [content(fed(all_on(store, batch_size=4), 1, rank=rank, world=2)) for rank in range(2)]
    assert [clip for step in range(3) for rank in ranks for clip in rank[2 * step : 2 * step + 2]] == whole
    assert content(fed(all_on(store, batch_size=12), 2)) != whole


def test_a_balanced_epoch_is_balanced_over_ranks(tmp_path: Path) -> None:
    with Store(make_store(tmp_path / "tiny.store", folds=5)) as store:  # 18 clips to train on, of which 4 to 8 a class
        config = extras(tmp_path / "tiny.store", "balanced", batch_size=6)
        parts = [batches(config, store, 1, 0, rank=rank, world=2) for rank in range(2)]
        labels = [store.clips[pick.clip].label for rank in parts for part in rank for pick in part]
        counts = [labels.count(name) for name in store.labels]
        assert (len(labels), max(counts) - min(counts)) == (18, 0), counts


def test_a_dropped_modality_is_black_or_silent(store: Path) -> None:
    (blind, *_), (silent, *_), (plain, *_) = (
        fed(extras(store, augment=augment)) for augment in ({"drop_vision": 1.0}, {"drop_audio": 1.0}, {})
    )
    assert not preprocess(blind).any()
    assert torch.equal(blind.fbank, plain.fbank)
    assert torch.equal(silent.fbank, torch.full_like(plain.fbank, SILENCE))
    assert torch.equal(preprocess(silent).clone(), preprocess(plain))


def test_spec_augment_reaches_the_model(store: Path) -> None:
    (hidden, *_), (plain, *_) = (fed(extras(store, augment=augment)) for augment in ({"spec_mels": 60}, {}))
    away = hidden.fbank != plain.fbank
    assert (hidden.fbank[away] == 0).all()
    bands = away.all(dim=2).sum(-1).flatten()
    assert torch.equal(away.sum(dim=(1, 2, 3)), 512 * bands), "whole bands"
    assert 0 < bands.max() <= 60
    assert len(set(bands.tolist())) > 1, "drawn for each clip"


def by_hand(config: Config) -> dict[str, torch.Tensor]:
    """Smoothing, soft targets and the average in plain torch: the average after training fold 1."""
    with Store(config.data.store or "") as store:
        model = build_model(config.model, len(store.labels), config.train.seed)
    for encoder in (model.vision, model.audio):
        for block in encoder.blocks:
            block.attn.fused_attn = False
    optimizer = torch.optim.AdamW(model.trainable().values(), lr=1.0, weight_decay=config.train.weight_decay)
    average = {name: value.detach().double().clone() for name, value in model.trainable().items()}
    smooth, keep = config.task.label_smoothing, config.train.ema
    for epoch in range(config.train.epochs):
        optimizer.param_groups[0]["lr"] = learning_rate(config.train, epoch)
        for batch in fed(config, epoch):
            target = batch.targets["label"]
            truth = target if target.ndim == 2 else functional.one_hot(target, 3).float()
            logits = model(preprocess(batch), batch.fbank, batch.drop_path)
            loss = -(((1 - smooth) * truth + smooth / 3) * logits.log_softmax(1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for name, value in model.trainable().items():
                average[name] = keep * average[name] + (1 - keep) * value.detach().double()
    return {name: value.float() for name, value in average.items()}


def saved(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "weights.safetensors")


def raw(checkpoint: Path) -> dict[str, torch.Tensor]:
    """DeepSpeed's own."""
    (states,) = (checkpoint / "deepspeed").glob("mp_rank_00*")
    return torch.load(states, weights_only=True)["module"]


@pytest.fixture(scope="module")
def together(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fold with everything on, in one go."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("extras") / "fold-1"
    assert train(all_on(store, save_every=1, keep=9), 1, folder).finished
    return folder


@pytest.mark.parametrize(("sampler", "augment"), [("shuffle", {}), ("balanced", AUGMENT)])
def test_training_equals_the_formulas_by_hand(
    store: Path, tmp_path: Path, sampler: str, augment: dict[str, float]
) -> None:
    config = extras(store, sampler, augment, **RECIPE, precision="reference")
    assert train(config, 1, tmp_path / "fold").finished
    found, wanted = saved(checkpoints(tmp_path / "fold")[-1]), by_hand(config)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-4, msg=name)


def test_checkpoints_hold_the_average_of_deepspeeds_weights(store: Path, together: Path) -> None:
    config, newest = all_on(store), checkpoints(together)
    assert len(newest) == 6
    average = {
        name: value.detach() for name, value in build_model(config.model, 3, config.train.seed).trainable().items()
    }
    for checkpoint in newest:
        now = raw(checkpoint)
        average = {name: value.lerp(now[f"model.{name}"], 0.3) for name, value in average.items()}
        for name, value in saved(checkpoint).items():
            torch.testing.assert_close(value, average[name], rtol=0, atol=1e-6, msg=name)
    assert any((saved(newest[-1])[name] - now[f"model.{name}"]).abs().max() > 1e-4 for name in average)


def test_the_average_is_what_is_tested_and_published(store: Path, together: Path, tmp_path: Path) -> None:
    evaluate_path(together, store, 1, out=tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (together / "predictions.csv").read_bytes()
    rows = list(csv.DictReader((tmp_path / "again.csv").open()))
    right = sum(row["label"] == row["predicted"] for row in rows) / len(rows)
    assert right == pytest.approx(json.loads((together / "result.json").read_text())["war"])


@pytest.mark.parametrize("way", [{}, {"zero_stage": 1}, {"zero_stage": 2, "accumulate": 2}], ids=str)
@pytest.mark.parametrize("asked", [1, 4])
def test_everything_on_resumes_to_the_same_weights(
    store: Path, together: Path, tmp_path: Path, way: dict[str, Any], asked: int
) -> None:
    config, straight = all_on(store, **way), together
    if way:
        straight = tmp_path / "straight"
        assert train(config, 1, straight).finished
    assert not train(config, 1, tmp_path / "stopped", stop=StopAt(asked)).finished
    assert train(config, 1, tmp_path / "stopped", resume=True).finished
    assert weights(tmp_path / "stopped") == weights(straight)
    one, two = (raw(checkpoints(folder)[-1]) for folder in (tmp_path / "stopped", straight))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_skipped_step_leaves_the_average_alone_and_names_both_clips(tmp_path: Path) -> None:
    store = make_store(tmp_path / "tiny.store", ["c05"])
    for ema, mixup in ((0.7, 0.0), (0.7, 0.4)):
        folder = tmp_path / f"fold {mixup}"
        config = extras(store, augment={"mixup": mixup}, ema=ema, save_every=1, keep=9, epochs=1)
        train(config, 1, folder)
        before = {name: value.detach() for name, value in build_model(config.model, 3, 1).trainable().items()}
        skipped = {event["step"]: event["ids"] for event in events(folder, "skip")}
        assert skipped
        for step, checkpoint in enumerate(checkpoints(folder), 1):
            now = saved(checkpoint)
            assert all(torch.equal(now[name], before[name]) for name in now) == (step in skipped)
            before = now
        assert all("c05" in ids for ids in skipped.values())
        assert len(next(iter(skipped.values()))) == (8 if mixup else 4)


def test_compiled_training_has_it_all_too(store: Path, together: Path, tmp_path: Path) -> None:
    assert train(all_on(store, compile=True, save_every=1, keep=9), 1, tmp_path / "fold").finished
    one, two = ([event["loss"] for event in events(folder, "step")] for folder in (together, tmp_path / "fold"))
    assert one == pytest.approx(two, abs=1e-3)
    assert len(one) == 6
    for name, value in saved(checkpoints(together)[-1]).items():
        torch.testing.assert_close(saved(checkpoints(tmp_path / "fold")[-1])[name], value, rtol=0, atol=1e-3, msg=name)


def test_off_is_as_published(store: Path, straight: Path, tmp_path: Path) -> None:
    """`straight` was trained with the defaults; these are the same, said aloud."""
    off = {"spec_time": 0, "spec_mels": 0, "mixup": 0.0, "drop_vision": 0.0, "drop_audio": 0.0}
    assert train(extras(store, "shuffle", off, task={"label_smoothing": 0.0}, ema=0.0), 1, tmp_path / "fold").finished
    assert weights(tmp_path / "fold") == weights(straight)
