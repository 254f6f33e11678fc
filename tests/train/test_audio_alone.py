"""A model of sound alone trains and is tested without reading or decoding a frame."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from setting import LABELS, SIDE, make_config, make_store, weights

from mmadfer.config.schema import Config, PrepareConfig, parse
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.store.store import Clip, ClipRecord, Header, Store, write_store
from mmadfer.errors import DataError
from mmadfer.train.loop import train


def blind(store: Path, path: Path) -> Path:
    """The same store with frames that nothing can decode."""

    def record(opened: Store, clip: Clip) -> tuple[Clip, ClipRecord]:
        found = opened.read(clip.id)
        return clip, replace(found, jpegs=[b"no picture"] * len(found.jpegs))

    with Store(store) as opened:
        header = Header("tiny", LABELS, PrepareConfig(face_size=SIDE), Path("/media"))
        write_store(path, header, [record(opened, clip) for clip in opened.clips.values()])
    return path


def config(store: Path, **changed: object) -> Config:
    tree = make_config(store, epochs=1).model_dump(mode="json", exclude_unset=True)
    tree["model"]["fusion"] = {"name": "none"}
    return parse({**tree, **{k: {**tree[k], **v} for k, v in changed.items()}}, "the test")


def test_no_frame_is_read_or_decoded_and_the_weights_are_the_same(tmp_path: Path) -> None:
    seen = make_store(tmp_path / "seen.store")
    unseen = blind(seen, tmp_path / "unseen.store")
    for store in (seen, unseen):
        own = config(store, model={"branches": "audio"})
        assert train(own, 1, tmp_path / store.stem).finished
    assert weights(tmp_path / "seen") == weights(tmp_path / "unseen")
    with Store(unseen) as opened:
        own = config(unseen, model={"branches": "audio"})
        with closing(Loader(opened, own, LABELS)) as loader:
            batch = next(loader.train(0, batches(own, opened, 1, 0)))
        assert batch.frames.shape[:2] == (4, 0)
        both = config(unseen, data={"modalities": "audio"})
        with closing(Loader(opened, both, LABELS)) as loader:
            batch = next(loader.train(0, batches(both, opened, 1, 0)))
        assert batch.frames.shape[:2] == (4, 4), "a model of both looks at black frames"
        assert not batch.frames.any()


def test_a_model_of_both_reads_them(tmp_path: Path) -> None:
    store = blind(make_store(tmp_path / "seen.store"), tmp_path / "unseen.store")
    with pytest.raises(DataError, match="frames that cannot be decoded"):
        train(config(store), 1, tmp_path / "fold")
