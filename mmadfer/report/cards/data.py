"""A data card: what is in a store, how it was made, and what it may be used for."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mmadfer.contract.licences import data_set_facts, licence_table
from mmadfer.contract.parts import Part, data_part
from mmadfer.data.store.store import Store
from mmadfer.report.cards.limits import limits_of
from mmadfer.report.cards.markdown import render_card
from mmadfer.report.cards.model import TAGS, licence_metadata, licence_values

_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K"}
"""The hub's names of sizes, by the number that they are below."""
_LARGER = "100K<n<1M"
_WHAT = (
    "A store of mmadfer: face crops, filter banks and labels of clips, prepared for training. It holds faces and "
    "voices of people, which are personal data."
)


def data_card(store: Store, stated: Mapping[str, str] | None = None) -> str:
    """The card as text: YAML that the Hugging Face hub reads, then Markdown. No clip and no person is named.

    Args:
        store: what it tells of.
        stated: licence of the set, by its name, where its owner states one.
    """
    part = data_part(store.data_set, stated)
    clips = store.clips.values()
    labels = Counter(clip.label for clip in clips)
    return render_card(
        "data_card.md",
        {
            **licence_metadata(_hub_licence(part)),
            "pretty_name": store.data_set,
            "task_categories": ["video-classification"],
            "tags": TAGS,
            "size_categories": [next((name for most, name in _SIZES.items() if len(store) < most), _LARGER)],
        },
        title=f"{store.data_set}: data card",
        what=_WHAT,
        facts=_facts(store),
        labels=[(label, labels[label]) for label in store.labels],
        folds=sorted(Counter(clip.fold for clip in clips).items()),
        left_out=_left_out(store),
        preparation=_preparation(store),
        people=_people(store),
        limits=limits_of(store.data_set),
        **licence_values([part]),
    )


def _hub_licence(part: Part) -> str | None:
    known = licence_table().licences.get(part.licence)
    return known.hub if known else None


def _facts(store: Store) -> dict[str, Any]:
    facts = data_set_facts(store.data_set)
    targets = ", ".join(f"{name} ({found.kind})" for name, found in store.targets.items())
    return {
        "data set": store.data_set,
        "where it is from": (facts and facts.source) or "not known",
        "clips": len(store),
        "frames": sum(clip.frames for clip in store.clips.values()),
        "targets": targets,
        "fingerprint": store.header.fingerprint or "not known",
        "who labelled it, and how": "not known here: see its owners' publication",
        "consent of the people in it": "not known here: see its owners' terms",
    }


def _left_out(store: Store) -> str:
    found = Counter(why.partition(": ")[0] for why in store.left_out.values())  # details name files
    if not found:
        return "No clip of the set was left out."
    reasons = ", ".join(f"{reason}: {count}" for reason, count in found.most_common())
    return f"Left out: {sum(found.values())} clips ({reasons})."


def _preparation(store: Store) -> list[str]:
    settings, clips = store.prepare, store.clips.values()
    cropped, silent = sum(clip.cropped for clip in clips), sum(clip.silent for clip in clips)
    found = f"found by MTCNN in every {settings.detect_every} frames"
    sound = settings.sound
    return [
        f"Faces of {settings.face_size} pixels, {found}; of {cropped} clips the owners' crops were taken.",
        f"Sound: log-mel filter bank, {sound.frames} frames of 10 ms, rate {sound.rate}; {silent} clips are silent.",
    ]


def _people(store: Store) -> list[str]:
    """How many people there are, and how many clips each group of a column has; nobody is named."""
    clips = store.clips.values()
    named = {clip.subject for clip in clips if clip.subject is not None}
    told = f"The store tells {len(named)} people apart." if named else "The store does not tell people apart."
    columns = sorted({name for clip in clips for name in clip.groups})
    counted = {name: Counter(clip.groups[name] for clip in clips if name in clip.groups) for name in columns}
    lines = [
        f"Clips by {name}: {', '.join(f'{value} {count}' for value, count in sorted(found.items()))}."
        for name, found in counted.items()
    ]
    return [told, *lines, "What else they are (age, sex, skin, language) is not known here."]
