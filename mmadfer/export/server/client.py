"""Recognise the emotion in video files by a Triton server.

    python client.py clip.mp4 other.mp4 --server localhost:8001 --json answers.json

It needs tritonclient[grpc], and nothing of mmadfer.
"""

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

_MODEL = "mmadfer"
TIMEOUT = 120.0
"""Seconds for one video."""


def recognise(path: Path, server: str, model: str = _MODEL, timeout: float = TIMEOUT) -> dict[str, Any]:
    """What the server says about one video: label and probabilities in the order of the labels, or values; notes.

    Args:
        path: the video file.
        server: host and port of its gRPC service.
        model: that takes files.
        timeout: seconds to wait. The server does not begin with a video that has waited so long.

    Raises:
        InferenceServerException: the server is not there, or cannot read the video; `message()` says why.
        OSError: the file cannot be read.
    """
    video = triton.InferInput("video", [1, 1], "BYTES")
    video.set_data_from_numpy(np.array([[path.read_bytes()]], dtype=object))
    with triton.InferenceServerClient(server) as client:
        made = [one.name for one in client.get_model_metadata(model, client_timeout=timeout).outputs]
        if "seconds" in made:
            return _over_time(client, path, model, video, timeout)
        named = "values" if "values" in made else "probabilities"
        wanted = [triton.InferRequestedOutput(name) for name in ("label", "notes") if name in made]
        # with class_count, Triton names the numbers: value:index:label, the largest first
        wanted.append(triton.InferRequestedOutput(named, class_count=1000))
        given_up = round(timeout * 1e6)  # microseconds
        answer = client.infer(model, [video], outputs=wanted, timeout=given_up, client_timeout=timeout)
    rows = [text.decode().split(":", 2) for text in answer.as_numpy(named)[0]]
    label = {"label": answer.as_numpy("label")[0, 0].decode()} if "label" in made else {}
    return {
        "video": str(path),
        **label,
        named: {name: float(number) for number, _, name in sorted(rows, key=lambda one: int(one[1]))},
        "notes": answer.as_numpy("notes")[0, 0].decode(),
    }


def _over_time(
    client: triton.InferenceServerClient, path: Path, model: str, video: triton.InferInput, timeout: float
) -> dict[str, Any]:
    """The values of each step, with its second; their names are a parameter of the model."""
    config = client.get_model_config(model, as_json=True, client_timeout=timeout)["config"]
    names = json.loads(config["parameters"]["values"]["string_value"])
    wanted = [triton.InferRequestedOutput(name) for name in ("values", "seconds", "notes")]
    answer = client.infer(model, [video], outputs=wanted, timeout=round(timeout * 1e6), client_timeout=timeout)
    values = answer.as_numpy("values")[0]
    told = dict(zip(names, values.T.tolist(), strict=True))
    series = {"seconds": answer.as_numpy("seconds")[0].tolist(), "values": told}
    mean = dict(zip(names, values.mean(axis=0).tolist(), strict=True))
    return {"video": str(path), "values": mean, "series": series, "notes": answer.as_numpy("notes")[0, 0].decode()}


def attempt(path: Path, *asked: Any) -> dict[str, Any]:
    """`recognise`, or {video, error}."""
    try:
        return recognise(path, *asked)
    except InferenceServerException as error:
        return {"video": str(path), "error": error.message()}
    except OSError as error:
        return {"video": str(path), "error": str(error)}


def show(answer: dict[str, Any]) -> None:
    """One line for a person."""
    if "error" in answer:
        print(harmless(f"{answer['video']}: {answer['error']}", sys.stderr), file=sys.stderr)
        return
    if "values" in answer:
        told = ", ".join(f"{name} {value:.3f}" for name, value in answer["values"].items())
    else:
        shares = ", ".join(f"{label} {share:.1%}" for label, share in answer["probabilities"].items())
        told = f"{answer['label']} ({shares})"
    notes = f"; {answer['notes']}" if answer["notes"] else ""
    print(harmless(f"{answer['video']}: {told}{notes}", sys.stdout))


def harmless(text: str, stream: TextIO) -> str:
    """Words of files and servers: what does something to a terminal, or is not among its signs, is escaped."""
    encoding = stream.encoding or "utf-8"
    plain = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    return plain.encode(encoding, "backslashreplace").decode(encoding)


def above_zero(kind: type, most: int) -> Callable[[str], Any]:
    """For argparse: read a number, and refuse what is no use."""

    def number(word: str) -> Any:
        if 0 < kind(word) <= most:
            return kind(word)
        raise argparse.ArgumentTypeError(f"{word}: give more than 0, at most {most}")

    return number


def main() -> int:
    """The command line; 2 if a video could not be recognised."""
    parser = argparse.ArgumentParser(description="Recognise the emotion in video files by a Triton server.")
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--server", default="localhost:8001", help="host and port of its gRPC service")
    parser.add_argument("--model", default=_MODEL)
    parser.add_argument("--jobs", type=above_zero(int, 256), default=4, help="videos sent at once, to share batches")
    parser.add_argument("--timeout", type=above_zero(float, 86400), default=TIMEOUT, help="seconds for one video")
    parser.add_argument("--json", type=Path, help="write the answers to a file")
    given = parser.parse_args()
    with ThreadPoolExecutor(given.jobs) as pool:
        answers = list(pool.map(lambda path: attempt(path, given.server, given.model, given.timeout), given.videos))
    for answer in answers:
        show(answer)
    if given.json:
        given.json.write_text(json.dumps(answers, indent=2) + "\n", encoding="utf-8")
    return 2 if any("error" in answer for answer in answers) else 0


if __name__ == "__main__":
    sys.exit(main())
