"""Files of the form of c-aus for other faces, with OpenCV and the rules as text, and nothing of the product."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from draw import draw
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate

BOOK = json.loads((Path(__file__).parent / "codebook_aus.json").read_text())
NAMES = [name for name, units in BOOK["classes"].items() if units]
UNITS, SIDE, GROUND = 20, 28, 1e-4


def golden(seed: int, faces: Mapping[str, tuple[np.ndarray, tuple[int, int]]], size: Sequence[int]) -> dict[str, Any]:
    """All keys for faces of landmarks (68, 2), h and w, and for features of this size (B, C, side)."""
    made: dict[str, Any] = {"classes": np.array(NAMES)}
    for name, (landmarks, shape) in faces.items():
        made |= {f"{name}.{key}": value for key, value in _face(landmarks, shape).items()}
    return made | _alignment(seed, made, list(faces), size)


def _face(landmarks: np.ndarray, shape: tuple[int, int]) -> dict[str, Any]:
    pictures = np.stack([_picture(unit, landmarks, shape) for unit in range(UNITS)])
    drawn = pictures.max(axis=(1, 2)) > 1
    units = np.stack(
        [cv2.blur(cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), (3, 3)) for one in pictures]
    )
    found = {"landmarks": landmarks, "size": np.array(shape), "drawn": drawn}
    found |= {"units": np.where(drawn[:, None, None], units, np.inf).astype(np.float32)}
    valid = [any(drawn[unit] for unit in BOOK["classes"][name]) for name in NAMES]
    for name in (name for name, there in zip(NAMES, valid, strict=True) if there):
        own = units[[unit for unit in BOOK["classes"][name] if drawn[unit]]]
        whole = _scaled(np.max([cv2.resize(unit, shape[::-1], interpolation=cv2.INTER_LINEAR) for unit in own], axis=0))
        found |= {f"{name}.map{side}": _resized(whole[None], side)[0] for side in (28, 14, 10)}
        found[f"{name}.map28_direct"] = _scaled(own.max(axis=0))
    return found | {"valid": np.array(valid)}


def _picture(unit: int, landmarks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    height, width = shape
    x, y = landmarks.astype(int).T.tolist()
    names: dict[str, Any] = {
        "X": lambda k: x[k],
        "Y": lambda k: y[k],
        "M": lambda a, b: int((a + b) / 2),
        "H": lambda a, b, least: int((b - a) / 2) if int((b - a) / 2) > 0 else least,
        **{"w": width, "h": height, "round": round, "max": max, "min": min},
    }
    picture = np.full(shape, GROUND, np.float32)
    for rule in _rules(unit):
        across, down, *axes = (eval(text, names) for text in rule)
        cv2.ellipse(picture, (across, down), axes, 0, 0, 360, 255, cv2.FILLED)
    return picture


def _rules(unit: int) -> list[list[str]]:
    rules = BOOK["rules"][str(unit)]
    if rules == "as 5, with 0 for 5":
        return [[text.replace(",5)", ",0)") for text in rule] for rule in BOOK["rules"]["5"]]
    if isinstance(rules, str):
        return _rules(int(rules.removeprefix("as ")))
    found: list[list[str]] = rules
    return found


def _scaled(found: np.ndarray) -> np.ndarray:
    found = found.astype(np.float64)
    scaled: np.ndarray = (found - found.min()) / (found.max() - found.min())
    return scaled


def _resized(maps: np.ndarray, side: int) -> np.ndarray:
    given = torch.from_numpy(maps)[:, None]
    small = interpolate(given, size=(side, side), mode="bilinear", align_corners=True, antialias=True)
    return torch.clamp(small, given.amin((2, 3), keepdim=True), given.amax((2, 3), keepdim=True))[:, 0].numpy()


def _alignment(seed: int, faces: Mapping[str, Any], names: Sequence[str], size: Sequence[int]) -> dict[str, Any]:
    """The loss of B samples, the second of them without a map."""
    count, channels, side = size
    classes = ["excluded" if k == 1 else NAMES[k % len(NAMES)] for k in range(count)]
    own = [names[k % len(names)] for k in range(count)]
    maps = [faces.get(f"{face}.{name}.map28") for face, name in zip(own, classes, strict=True)]
    heatmaps = np.stack([np.full((SIDE, SIDE), np.inf) if one is None else one for one in maps])
    valid = torch.from_numpy(np.isfinite(heatmaps).all(axis=(1, 2)))
    features = torch.tensor(draw("features", (count, channels, side, side), seed, 0.3, 0.6), requires_grad=True)
    second = torch.from_numpy(draw("features2", (count, channels, 7, 7), seed, 0.3, 0.6))
    attention, fitted = features.mean(1), torch.from_numpy(_resized(heatmaps[valid.numpy()], side))
    cosine = _cosine(attention[valid], fitted)
    other = _cosine(second.mean(1)[valid], torch.from_numpy(_resized(heatmaps[valid.numpy()], 7)))
    flat = attention[valid].flatten(1)
    even = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-4)
    losses = {
        "cosine.lambda9": 9 * (1 - cosine).mean(),
        "std_cosine.lambda1": (1 - _cosine(even, fitted)).mean(),
        "l2.lambda1": (flat - fitted.flatten(1)).square().mean(),
    }
    made = {f"{name}.loss": loss.detach().numpy() for name, loss in losses.items()}
    for name, loss in losses.items():
        made[f"{name}.gradient"] = torch.autograd.grad(loss, features, retain_graph=True)[0].numpy()
    made |= {
        "size": np.array(size),
        "draw": np.array([0.3, 0.6]),
        "classes": np.array(classes),
        "faces": np.array([int(name.removeprefix("face")) for name in own]),
        "heatmaps28": heatmaps[:, None],
        "sums": features.detach().sum().reshape(1).numpy(),
        "sums2": second.sum().reshape(1).numpy(),
        "attention": attention.detach().numpy(),
        "heatmaps": fitted.numpy(),
        "cosine": cosine.detach().numpy(),
        "two_layers.loss": (9 * ((1 - cosine).mean() + (1 - other).mean()) / 2).detach().numpy(),
        "none_valid.loss": np.zeros(1, np.float32),
    }
    return {f"align.{key}": value for key, value in made.items()}


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    return cosine_similarity(one.flatten(1), other.flatten(1), eps=1e-8)
