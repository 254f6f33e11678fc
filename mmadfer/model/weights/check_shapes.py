"""Do these tensors fit the model? If not, which ones."""

from mmadfer.errors import WeightsError


def explain(where: str, wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    """Refuse tensors that are not exactly the wanted ones.

    Raises:
        WeightsError: names each missing, misshapen and unknown tensor (at most eight of them).
    """
    problems = [f"{name} is missing: expected {list(shape)}" for name, shape in wanted.items() if name not in found]
    problems += [
        f"{name} is {list(found[name])}: expected {list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    problems += [f"{name} {list(shape)} is unknown" for name, shape in found.items() if name not in wanted]
    if problems:
        more = f"\n  and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise WeightsError(f"{where} does not fit the model:\n  " + "\n  ".join(problems[:8]) + more)
