"""What srun tells a task, in the words that torch and DeepSpeed know. No SLURM command is needed on the node."""

import os
import re
import zlib
from collections.abc import Iterator, Mapping

from mmadfer.errors import RunError
from mmadfer.utils.ports import PORTS


def adopt() -> None:
    """Set RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, if srun started this process and nobody has."""
    if "RANK" not in os.environ and "SLURM_STEP_ID" in os.environ:
        os.environ.update(ranks(os.environ))


def ranks(environ: Mapping[str, str]) -> dict[str, str]:
    """The five variables from those of one task of a job step.

    Every task finds the same port without asking: it follows from job, step and start, so that a requeued job does not
    meet what is left of its earlier start.

    Raises:
        RunError: srun has not set them all, or its list of nodes cannot be read.
    """
    try:
        rank, local, job = (environ[f"SLURM_{name}"] for name in ("PROCID", "LOCALID", "JOB_ID"))
        world = environ.get("SLURM_STEP_NUM_TASKS") or environ["SLURM_NTASKS"]
        nodes = hosts(environ.get("SLURM_STEP_NODELIST") or environ["SLURM_NODELIST"])
    except KeyError as error:
        raise RunError(f"SLURM_STEP_ID is set, but not {error}: start with srun, or set RANK and its like") from error
    start = f"{job}.{environ['SLURM_STEP_ID']}.{environ.get('SLURM_RESTART_COUNT', '0')}"
    return {
        "RANK": rank,
        "LOCAL_RANK": "0" if _one_gpu_each(environ) else local,
        "WORLD_SIZE": world,
        "MASTER_ADDR": "127.0.0.1" if len(nodes) == 1 else nodes[0],
        "MASTER_PORT": str(port_of(start)),
    }


def tasks_here(environ: Mapping[str, str]) -> int:
    """Tasks of this process's job step on its node, 1 without a step.

    SLURM_STEP_TASKS_PER_NODE is like `2(x3),1`: two on each of three nodes, one on the fourth; SLURM_NODEID is the
    number of this node.
    """
    node, before = environ.get("SLURM_NODEID", "0"), 0
    for tasks, nodes in re.findall(r"(\d+)(?:\(x(\d+)\))?", environ.get("SLURM_STEP_TASKS_PER_NODE", "")):
        before += int(nodes or 1)
        if node.isdecimal() and int(node) < before:
            return max(1, int(tasks))
    return 1


def port_of(start: str) -> int:
    """A port that all ranks of one start of a job agree on without talking, by its name."""
    return PORTS[zlib.crc32(start.encode()) % len(PORTS)]


def hosts(text: str) -> list[str]:
    """The names in a list of nodes as SLURM prints it: `a,node[01-03,7]` is a, node01, node02, node03, node7.

    Raises:
        RunError: it is not such a list.
    """
    words = re.findall(r"(?:[^\s,\[\]]|\[[\d,-]+\])+", text)
    if not words or ",".join(words) != text.strip():
        raise RunError(f"not a list of nodes as SLURM prints it: {text!r}")
    return [name for word in words for name in _expand(word)]


def _expand(word: str) -> Iterator[str]:
    match = re.fullmatch(r"([^\[]*)\[([^\]]*)\](.*)", word)
    if match is None:
        yield word
        return
    before, numbers, after = match.groups()
    tails = list(_expand(after)) if after else [""]
    for part in numbers.split(","):
        yield from (f"{before}{number}{tail}" for number in _count(part, word) for tail in tails)


def _count(part: str, word: str) -> list[str]:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
    if match is None:
        raise RunError(f"not a range of nodes as SLURM prints it: {part!r} in {word!r}")
    first, last = match[1], match[2] or match[1]
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]


def _one_gpu_each(environ: Mapping[str, str]) -> bool:
    """Whether SLURM shows every task a GPU of its own only (--gpus-per-task=1), which then is number 0."""
    shown = environ.get("CUDA_VISIBLE_DEVICES", "")
    return "SLURM_GPUS_PER_TASK" in environ and shown != "" and "," not in shown
