"""The numbers that the paper prints: tables 1 to 7 of Chumachenko, Iosifidis and Gabbouj 2024, "MMA-DFER".

UAR and WAR are in percent. A row's name is that of the shipped sweep's row which trains it. Of table 1, the rows of
other authors' methods are left out.
"""

from dataclasses import dataclass
from typing import Literal

PaperScore = tuple[float, float]
"""UAR and WAR in percent."""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    """In the sweep; empty where the line needs no training of its own."""
    cells: tuple[str, ...]
    """What stands before the numbers."""
    scores: tuple[PaperScore, ...]
    """One for each of the table's data sets."""
    parameters: str = ""
    """In millions, as printed."""


@dataclass(frozen=True)
class PaperTable:
    """One table; the defaults are those of tables 2 to 7: fold 1 of DFEW at 160 px (sections 4.4 to 4.6)."""

    number: int
    section: str
    title: str
    columns: tuple[str, ...]
    """Headings of `Row.cells`."""
    rows: tuple[Row, ...]
    data_sets: tuple[str, ...] = ("dfew",)
    folds: tuple[int, ...] = (1,)
    size: int | None = 160
    """Side of the picture; None where it is what the rows differ in."""
    counted: Literal["", "temporal", "trainable"] = ""
    """Which parameters are printed: of the blocks over time, or all that learn."""

    @property
    def sweeps(self) -> tuple[str, ...]:
        """The shipped sweep of the rows on each data set."""
        if len(self.data_sets) == 1:
            return (f"table{self.number}",)
        return tuple(f"table{self.number}_{name}" for name in self.data_sets)


def _lines(*lines: tuple[str, str, float, float, str] | tuple[str, str, float, float]) -> tuple[Row, ...]:
    """Rows on one data set: name, cells parted by |, UAR, WAR, parameters."""
    return tuple(Row(name, tuple(cells.split("|")), ((uar, war),), *more) for name, cells, uar, war, *more in lines)


TABLES = (
    PaperTable(
        1,
        "4.3",
        "Image sizes, one and two test clips (MMA-DFER's rows)",
        ("Method", "Res."),
        (
            Row("px112", ("MMA_112", "112"), ((64.24, 75.40), (43.34, 56.46))),
            Row("", ("MMA_112*", "112"), ((64.35, 75.48), (43.29, 56.60))),
            Row("px160", ("MMA_160", "160"), ((66.61, 77.15), (44.19, 57.90))),
            Row("", ("MMA_160*", "160"), ((66.51, 77.10), (44.07, 57.85))),
            Row("px224", ("MMA_224", "224"), ((67.01, 77.51), (44.11, 58.52))),
            Row("", ("MMA_224*", "224"), ((66.85, 77.43), (44.25, 58.45))),
        ),
        data_sets=("dfew", "mafw"),
        folds=(1, 2, 3, 4, 5),
        size=None,
    ),
    PaperTable(
        2,
        "4.4",
        "Multimodal temporal transformer (MTM) and intermediate temporal adapters (ITA)",
        ("Temporal adaptation",),
        _lines(
            ("ita_64", "ITA, d=64", 63.27, 76.59, "1.3"),
            ("ita_128", "ITA, d=128", 64.44, 76.80, "0.8"),
            ("ita_256", "ITA, d=256", 63.35, 76.59, "4.3"),
            ("mtm_ita_128", "MTM + ITA-128", 64.66, 77.36, "2.9"),
            ("mtm", "MTM", 66.52, 77.92, "2.2"),
        ),
        counted="temporal",
    ),
    PaperTable(
        3,
        "4.5",
        "Fusion of the modalities",
        ("Fusion",),
        _lines(
            ("none", "None", 59.27, 70.56),
            ("mult", "MULT", 59.89, 71.12),
            ("mult_concat", "MULT-concat", 54.96, 65.66),
            ("add", "ADD", 59.97, 71.20),
            ("bottleneck", "Fusion Bottleneck", 66.52, 77.92),
        ),
    ),
    PaperTable(
        4,
        "4.6",
        "Ablation of each component",
        ("Pr", "Pr.Pr.", "MTT", "FB"),
        _lines(
            ("plain", "-|-|-|-", 56.59, 68.43),
            ("prompts", "+|-|-|-", 57.45, 69.33),
            ("progressive", "+|+|-|-", 58.21, 69.34),
            ("progressive_mtt", "+|+|+|-", 59.27, 70.56),
            ("progressive_fb", "+|+|-|+", 61.96, 74.58),
            ("mtt_fb", "-|-|+|+", 64.62, 77.40),
            ("full", "+|+|+|+", 66.52, 77.92),
        ),
    ),
    PaperTable(
        5,
        "4.6",
        "Each encoder alone",
        ("Modality",),
        _lines(
            ("audio", "Audio only", 26.43, 33.53),
            ("vision", "Vision only", 54.34, 67.15),
            ("both", "MMA-DFER", 66.52, 77.92),
        ),
    ),
    PaperTable(
        6,
        "4.6",
        "Width of the latent space",
        ("Latent space d",),
        _lines(
            ("latent_64", "64", 64.57, 77.44, "5.9"),
            ("latent_128", "128", 66.52, 77.92, "7.5"),
            ("latent_256", "256", 66.72, 78.17, "12.3"),
            ("latent_512", "512", 66.77, 78.13, "21.7"),
        ),
        counted="trainable",
    ),
    PaperTable(
        7,
        "4.6",
        "How often progressive prompts come",
        ("Pr.Pr. Num.",),
        _lines(
            ("updates_12", "12", 65.14, 77.87),
            ("updates_6", "6", 65.44, 77.83),
            ("updates_4", "4", 64.41, 77.62),
            ("updates_2", "2", 66.52, 77.92),
            ("updates_0", "0", 64.62, 77.40),
        ),
    ),
)
"""In the paper's order."""
