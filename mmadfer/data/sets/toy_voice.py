"""The toy set's voice: harmonics of a moving pitch through moving formants, in syllables, with breath and noise.

All of it follows one curve, the excitement in [0, 1]: pitch, energy, speaking rate and formants rise with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VOICE_RATE_HZ = 16000
"""Samples per second."""
_STEP = 160
"""Samples between control points: 10 ms, linear in between."""

Curve = NDArray[np.float64]

_CALM = (330.0, 850.0, 2300.0)  # formants in Hz, calm and excited, of a medium speaker
_EXCITED = (820.0, 1500.0, 2700.0)
_WIDTHS = (90.0, 120.0, 180.0)


@dataclass(frozen=True)
class Voice:
    """What varies between clips and says nothing about the class."""

    pitch: float
    """Hz at no excitement."""
    octaves: float
    """Rise of the pitch with full excitement."""
    formants: float
    """Factor on all formants: the length of the speaker's vocal tract."""
    turn: float
    """When the excitement passes one half, as a share of the clip."""
    slope: float
    """How long the change takes, as a share of the clip."""
    phase: float
    """Where in a syllable the clip begins, in turns."""
    loudness: float
    """Decibels relative to full scale at the loudest."""
    breath: float
    noise: float
    """Amplitude of the room's noise relative to the loudest."""


def draw_voice(rng: np.random.RandomState) -> Voice:
    """Draw a clip's voice."""
    return Voice(
        pitch=95 * 2 ** rng.uniform(0, 1.1),
        octaves=rng.uniform(0.7, 1.0),
        formants=rng.uniform(0.88, 1.15),
        turn=rng.uniform(0.43, 0.57),
        slope=rng.uniform(0.08, 0.2),
        phase=rng.uniform(0, 1),
        loudness=rng.uniform(-12, -2),
        breath=rng.uniform(0.02, 0.08),
        noise=rng.uniform(0.002, 0.01),
    )


def speak(voice: Voice, samples: int, backward: bool, rng: np.random.RandomState) -> NDArray[np.float32]:
    """The clip's sound in [-1, 1], float32 (samples,) at VOICE_RATE_HZ; `rng` draws the noise.

    Forward, the excitement rises; backward, every control curve runs in reverse, so the mean spectrum, the pitches
    and the syllables are the same and only their order tells the two apart.
    """
    controls = _controls(voice, samples // _STEP + 2, lambda time: _rising(voice, time))
    return _spoken(voice, [curve[::-1] for curve in controls] if backward else controls, samples, rng)


def speak_curve(
    voice: Voice, samples: int, excitement: Callable[[Curve], Curve], rng: np.random.RandomState
) -> NDArray[np.float32]:
    """The same for any excitement in [0, 1], by the time as a share of the clip."""
    return _spoken(voice, _controls(voice, samples // _STEP + 2, excitement), samples, rng)


def _spoken(voice: Voice, controls: Sequence[Curve], samples: int, rng: np.random.RandomState) -> NDArray[np.float32]:
    pitch, energy, formants = controls
    tone = _harmonics(pitch, formants, samples)
    tone /= np.sqrt(np.mean(tone**2))
    tone = 0.4 * _stretch(energy, samples) * (tone + voice.breath * rng.standard_normal(samples))
    tone += voice.noise * rng.standard_normal(samples)
    return np.clip(tone * 10 ** (voice.loudness / 20), -1, 1).astype(np.float32)


def _rising(voice: Voice, time: Curve) -> Curve:
    return 1 / (1 + np.exp(-(time - voice.turn) / (voice.slope / 4)))


def _controls(voice: Voice, points: int, curve: Callable[[Curve], Curve]) -> tuple[Curve, Curve, Curve]:
    """Pitch in Hz (points,), amplitude (points,) and formants in Hz (points, 3) of an excitement."""
    excitement = curve(np.arange(points) / (points - 1))
    pitch = voice.pitch * 2 ** (voice.octaves * excitement)
    turns = voice.phase + np.cumsum(2.5 + 3 * excitement) * _STEP / VOICE_RATE_HZ
    syllables = 0.25 + 0.75 * np.sin(np.pi * turns) ** 2
    energy = syllables * 10 ** (-(1 - excitement) * 16 / 20)
    calm, excited = np.array(_CALM), np.array(_EXCITED)
    return pitch, energy, voice.formants * (calm + (excited - calm) * excitement[:, None])


def _harmonics(pitch: Curve, formants: Curve, samples: int) -> Curve:
    """A glottal tone of falling harmonics, each as loud as the formants let it through; float64 (samples,)."""
    phase = 2 * np.pi * np.cumsum(_stretch(pitch, samples)) / VOICE_RATE_HZ
    tone = np.zeros(samples)
    for number in range(1, int(0.45 * VOICE_RATE_HZ / pitch.min()) + 1):
        frequency = number * pitch
        gain = _resonance(frequency, formants) / number
        gain *= frequency < 0.45 * VOICE_RATE_HZ
        tone += _stretch(gain, samples) * np.sin(number * phase)
    return tone


def _resonance(frequency: Curve, formants: Curve) -> Curve:
    away = (frequency[:, None] - formants) / np.array(_WIDTHS)
    return 0.05 + np.sum(np.array((1.0, 0.6, 0.3)) / (1 + away**2), axis=1)


def _stretch(curve: Curve, samples: int) -> Curve:
    return np.interp(np.arange(samples) / _STEP, np.arange(len(curve)), curve)
