"""The published figures: the paper's tables as data, with its five wrong averages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oshp_bench.manifest import load_manifest
from oshp_bench.report.published import PublishedFigure, published_table, published_tables

NINE = ("Fine-tuning", "PerSAM", "PANet", "PPNet", "SG-One", "AMP", "PFENet", "POPNet", "EOP-Net")
# Methods that the paper has in 1-way alone.
ONEWAY_ONLY = {"Fine-tuning", "PerSAM", "PPNet", "PFENet"}


def _figures() -> list[tuple[str, str, str, PublishedFigure]]:
    return [
        (table.title, method.name, name, figure)
        for table in published_tables()
        for method in table.methods
        for name, figure in method.figures.items()
    ]


def test_three_tables_of_nine_methods() -> None:
    assert [(table.number, table.title, table.dataset) for table in published_tables()] == [
        (2, "ATR-OS", "atr"),
        (3, "LIP-OS", "lip"),
        (4, "CIHP-OS", "cihp"),
    ]
    for table in published_tables():
        assert tuple(method.name for method in table.methods) == NINE
        for method in table.methods:
            ways = {name.split("/")[0] for name in method.figures}
            assert ways == ({"1way"} if method.name in ONEWAY_ONLY else {"kway", "1way"})
            assert len(method.figures) == 3 * len(ways)


def test_figures_are_fractions_and_those_of_both_folds_have_none() -> None:
    for *_, name, figure in _figures():
        per_fold = name.endswith(("novel_miou", "human_miou"))
        assert tuple(figure.folds) == ((1, 2) if per_fold else ())
        assert all(0 <= value < 1 for value in (*figure.folds.values(), figure.average, figure.printed_average))
    eopnet = published_tables()[0].methods[-1].figures
    assert eopnet["kway/novel_miou"].of_fold(2) == pytest.approx(0.346)
    assert eopnet["kway/overall_accuracy"].of_fold(1) is None
    assert eopnet["kway/overall_accuracy"].average == pytest.approx(0.935)


def test_exactly_five_averages_are_not_the_mean_of_their_folds() -> None:
    wrong = {}
    for table, method, name, figure in _figures():
        if not figure.folds:
            assert not figure.corrected
            continue
        mean = sum(figure.folds.values()) / 2
        # Printed to a tenth of a percent, so half of that is rounding.
        if abs(figure.printed_average - mean) > 0.0005 + 1e-9:
            assert figure.average == pytest.approx(mean, abs=1e-12)
            assert figure.corrected
            wrong[table, method, name] = (round(100 * figure.printed_average, 2), round(100 * figure.average, 2))
        else:
            assert not figure.corrected
    assert wrong == {
        ("ATR-OS", "PerSAM", "1way/novel_miou"): (4.2, 6.35),
        ("ATR-OS", "POPNet", "1way/novel_miou"): (31.9, 33.5),
        ("ATR-OS", "POPNet", "1way/human_miou"): (62.3, 62.65),
        ("CIHP-OS", "Fine-tuning", "1way/human_miou"): (9.3, 7.15),
        ("CIHP-OS", "POPNet", "1way/human_miou"): (57.7, 57.45),
    }


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("atr_fold1", "ATR-OS"),
        ("atr_fold2", "ATR-OS"),
        ("cihp_fold1", "CIHP-OS"),
        ("cihp_fold2", "CIHP-OS"),
        ("atr_fold1_balanced", None),
        ("ccp_fold1", None),
    ],
)
def test_a_table_stands_beside_the_official_pairs_of_its_dataset_alone(name: str, title: str | None) -> None:
    table = published_table(load_manifest(name))
    assert (table and table.title) == title


def test_a_dataset_that_only_has_the_name_is_not_compared() -> None:
    manifest = load_manifest("atr_fold1")
    assert published_table(replace(manifest, fold=2)) is None
    other_roles = tuple(replace(each, role="base") if each.name == "skirt" else each for each in manifest.classes)
    assert published_table(replace(manifest, classes=other_roles)) is None
