"""Preparing a store more than once: at the same time, after a kill, with other clips, and with moved media."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from make_media import video

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.preparation import prepare as preparation
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.preparation.workers import ClipJob
from mmadfer.data.sets import ClipTable, SourceClip
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError

pytestmark = pytest.mark.slow

SETTINGS = PrepareConfig(face_size=64)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ClipTable:
    root = tmp_path_factory.mktemp("set")
    media = [video(root / f"{k}.mp4", 0.3, pitch=200 + 20 * k) for k in range(2)]
    return ClipTable("two", ("glad",), [SourceClip(path.stem, path, "glad", 1) for path in media])


def test_what_a_kill_after_writing_left_is_cleared(table: ClipTable, tmp_path: Path) -> None:
    out = tmp_path / "out.store"
    prepare(table, out, SETTINGS)
    partial = preparation._partial(out)
    (partial / "part-00000").mkdir(parents=True)
    with preparation._locked(partial):  # its owner is still at work
        assert prepare(table, out, SETTINGS).already
        assert partial.exists()
    assert prepare(table, out, SETTINGS).already
    assert not partial.exists()


def test_two_at_once_are_kept_apart(table: ClipTable, tmp_path: Path) -> None:
    with (
        preparation._locked(tmp_path / "out.store.partial"),
        pytest.raises(DataError, match=r"another process is preparing .*out\.store"),
    ):
        prepare(table, tmp_path / "out.store", SETTINGS)


def test_a_second_one_that_comes_while_parts_are_removed_disturbs_nothing(
    table: ClipTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, unlink, came = tmp_path / "out.store", os.unlink, list[bool]()

    def slow(path: str, **options: int) -> None:
        unlink(path, **options)
        if path == "lock" and not came:
            came.append(True)
            came.append(prepare(table, out, SETTINGS).already)

    monkeypatch.setattr(os, "unlink", slow)
    assert prepare(table, out, SETTINGS).kept == 2
    assert came == [True, True]
    assert prepare(table, out, SETTINGS).already
    assert not preparation._partial(out).exists()


def test_one_that_had_to_wait_finds_what_the_other_has_finished(
    table: ClipTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, partial = tmp_path / "out.store", preparation._partial

    def late(path: Path) -> Path:  # asked for after `out` was looked for
        monkeypatch.setattr(preparation, "_partial", partial)
        assert not prepare(table, out, SETTINGS).already
        return partial(path)

    monkeypatch.setattr(preparation, "_partial", late)
    assert prepare(table, out, SETTINGS).already


def test_only_what_a_killed_one_left_of_this_store_is_cleared_away(tmp_path: Path) -> None:
    out, ends = tmp_path / "q[1]", ("", ".files.json", ".report.json")
    mine = [tmp_path / f".q[1]{end}.ab_d3fgh.tmp" for end in ends]
    others = [tmp_path / f".{name}{end}.ab_d3fgh.tmp" for name in ("q[1].big", "q1", "q") for end in ends]
    for path in (*mine, *others):
        path.touch()
    with preparation._locked(preparation._partial(out)):
        assert {*tmp_path.glob(".*.tmp")} == {*others}


def test_a_store_without_a_report_on_a_disk_that_takes_none(table: ClipTable, tmp_path: Path) -> None:
    out = tmp_path / ("s" * 235)  # a name with which that of the report's temporary file is too long
    prepare(table, tmp_path / "out.store", SETTINGS)
    (tmp_path / "out.store").rename(out)
    for left in tmp_path.glob("out.store.*"):
        left.unlink()
    assert prepare(table, out, SETTINGS).already
    assert list(tmp_path.iterdir()) == [out]


def test_a_report_that_cannot_be_written_is_told_as_that(table: ClipTable, tmp_path: Path) -> None:
    out = tmp_path / ("s" * 235)  # as above
    with pytest.raises(DataError, match=r"report\.json could not be written: .*; the store .*sss is whole"):
        prepare(table, out, SETTINGS)
    with Store(out) as store:
        assert store.verify() == []
    assert prepare(table, out, SETTINGS).already
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_of_parts_that_is_a_link_is_left_alone(table: ClipTable, tmp_path: Path) -> None:
    other = tmp_path / "others"
    other.mkdir()
    (other / ".notes.tmp").write_text("not ours")
    out = tmp_path / "out.store"
    preparation._partial(out).symlink_to(other)
    with pytest.raises(DataError, match=r"out\.store\.partial is a link, but must be a folder"):
        prepare(table, out, SETTINGS)
    assert [path.name for path in other.iterdir()] == [".notes.tmp"]
    prepare(table, tmp_path / "b.store", SETTINGS)
    preparation._partial(tmp_path / "b.store").symlink_to(other)
    assert prepare(table, tmp_path / "b.store", SETTINGS).already
    assert [path.name for path in other.iterdir()] == [".notes.tmp"]


def test_media_that_were_moved_alone_are_told(table: ClipTable, tmp_path: Path) -> None:
    first = prepare(table, tmp_path / "out.store", SETTINGS)
    shutil.copytree(table.root, tmp_path / "new")
    sources = [replace(clip, media=tmp_path / "new" / clip.media.name) for clip in table.clips]
    summary = prepare(replace(table, clips=sources), tmp_path / "out.store", SETTINGS)
    assert summary.already
    assert f"are in {tmp_path / 'new'}; out.store still looks for them in {table.root}" in summary.notes[-1]
    assert prepare(table, tmp_path / "out.store", SETTINGS).notes == first.notes == ()


def test_a_clip_more_or_less_changes_few_parts() -> None:
    names = [f"{k:05d}" for k in range(2000)]
    tasks = [ClipJob(SourceClip(name, Path(name), "glad", 1), name, SETTINGS) for name in names]
    parts = preparation._parts(tasks, Path())
    assert [task for part in parts.values() for task in part] == tasks
    assert 2000 / 64 <= len(parts) < 2000 / 40
    assert max(map(len, parts.values())) <= 128
    changed = list[int]()
    for gone in range(0, 2000, 37):
        now = preparation._parts(tasks[:gone] + tasks[gone + 1 :], Path())
        changed.append(len([path for path, part in parts.items() if now.get(path) != part]))
    assert min(changed) == 1
    assert sum(changed) / len(changed) < 2
    assert max(changed) < 8
