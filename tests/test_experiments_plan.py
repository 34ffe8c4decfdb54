"""Experiments without their engine: every row can be made, cells are shared, numbers of a table are the package's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from itertools import product
from typing import Any

import numpy as np
import pytest
import yaml
from config import Table
from experiment_cases import EXPERIMENTS, FILES
from plan import Plan, read_plan
from spread import spread_of

from oshp_bench.baselines.registry import METHODS
from oshp_bench.baselines.settings import assignments
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Pairs
from oshp_bench.training.settings import read_changes, resolved

COMMON: dict[str, Any] = yaml.safe_load((EXPERIMENTS / "common.yaml").read_text())


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two configurations as Snakemake merges them."""
    both = dict(first)
    for name, value in second.items():
        both[name] = merged(both[name], value) if isinstance(value, dict) and name in both else value
    return both


def plan_of(*names: str, **changes: Any) -> Plan:
    """The plan of some files."""
    config = COMMON
    for name in names:
        config = merged(config, yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text()))
    return read_plan(merged(config, changes))


@pytest.mark.parametrize("scale", COMMON["scales"])
@pytest.mark.parametrize("name", FILES)
def test_every_row_has_settings_that_its_method_takes(name: str, scale: str) -> None:
    if name == "table7" and scale != "paper":
        pytest.skip("table7 is for the scale paper")
    pytest.importorskip("torch", reason="torch is not installed")
    plan = plan_of(name, scale=scale)
    for cell in plan.cells.values():
        if not cell.learns:
            continue
        changes = read_changes(None, (*cell.settings, *cell.variant), {"way": cell.way, "method": cell.method})
        settings = resolved(cell.preset, changes)
        table, problems = assignments(cell.at_test)
        assert not problems
        members = {member.name: member for member in fields(settings.model)}
        assert all(members[name].metadata for name in table.table)


@pytest.mark.parametrize("name", FILES)
def test_references_are_rows_of_the_table(name: str) -> None:
    for table in plan_of(name, scale="paper").tables:
        assert {row.against or table.against for row in table.rows} <= {None, *(row.name for row in table.rows)}


def test_tables_2_to_4_have_all_methods_that_the_paper_compares() -> None:
    from oshp_bench.report.published import published_tables

    for number in (2, 3, 4):
        (table,) = plan_of(f"table{number}", scale="paper").tables
        (published,) = (known for known in published_tables() if known.number == number)
        assert table.dataset == published.dataset
        assert {method.name for method in published.methods} == {row.name for row in table.rows} - {"copied support"}


def test_a_cell_that_two_tables_need_is_made_once() -> None:
    alone = [{*plan_of(name).cells} for name in ("table5", "ours")]
    assert {*plan_of("table5", "ours").cells} == alone[0] | alone[1]
    assert len(alone[0] & alone[1]) == 1  # EOP-Net as it is


def test_variants_at_test_share_one_training() -> None:
    plan = plan_of("ours")
    assert sorted(cell.method for cell in plan.trainings.values()) == ["eopnet", "eopnet-fg", "eopnet-fg"]
    (gateless,) = (cell for cell in plan.cells.values() if "gate=false" in cell.at_test)
    words = plan.predict(gateless.name)
    assert words[1] == str(plan.folder(gateless.trained) / "run" / "best.safetensors")
    assert words[words.index("--set") + 1] == "gate=false"


def test_curves_predict_with_every_kept_epoch_of_one_training() -> None:
    plan = plan_of("figure8", scale="cpu")
    with_momentum = [cell for cell in plan.cells.values() if "model.parts.momentum=false" not in cell.variant]
    assert {cell.epoch for cell in with_momentum} == {4, 8, 12, 16, 20, 24}
    assert len({cell.trained.name for cell in with_momentum}) == 2  # seeds
    assert "keep_every=4" in plan.train(with_momentum[0].trained.name)
    assert plan.predict(with_momentum[0].name)[1].endswith("run/epochs/0004.safetensors")


def test_several_gpus_train_under_torchrun() -> None:
    plan = plan_of("table5", scale="paper", scales={"paper": {"gpus": 2}})
    words = plan.train(next(iter(plan.trainings)))
    assert words[:6] == ["torchrun", "--standalone", "--nproc-per-node", "2", "-m", "oshp_bench.training.cli"]


def test_all_mistakes_are_told_at_once() -> None:
    table = {"title": "t", "paper": "p", "row": [], "rows": [{"name": "a", "method": "eopnett"}, {"method": "amp"}]}
    with pytest.raises(OshpError) as caught:
        plan_of(tables={"mine": table})
    assert [problem.partition("; known")[0] for problem in caught.value.problems] == [
        "mine, row 2: name is missing",
        "mine: no member is called row",
    ]
    with pytest.raises(OshpError, match="mine, row a: no method is called eopnett"):
        plan_of(tables={"mine": {"title": "t", "paper": "p", "rows": table["rows"][:1]}})
    with pytest.raises(OshpError, match="table7: runs at scale paper only, not at quick: EfficientNet-Lite0"):
        plan_of("table7")
    with pytest.raises(OshpError, match="no table is asked for"):
        plan_of()


def pairs_of(cells: Mapping[tuple[str, str], float]) -> tuple[np.ndarray[Any, Any], Pairs]:
    """Values by query and support as pairs of one class."""
    count = len(cells)
    pairs = Pairs(
        query=tuple(query for query, _ in cells),
        support=tuple(support for _, support in cells),
        target=(1,) * count,
        support_classes=((1,),) * count,
    )
    return np.array(list(cells.values())), pairs


def test_the_spread_of_a_table_by_hand() -> None:
    """Half the mean squared differences: one query 0.02, one support 0.08, neither (0.18 + 0.02) / 2 = 0.10."""
    values, pairs = pairs_of({("a", "s"): 0.2, ("a", "t"): 0.4, ("b", "s"): 0.6, ("b", "t"): 0.8})
    spread = spread_of(values, pairs, "1", resamples=0)
    assert spread
    assert spread.variance == pytest.approx(0.10)
    assert [share.share for share in spread.shares] == pytest.approx([0.8, 0.2, 0.0])
    assert [(share.low, share.high) for share in spread.shares] == [(None, None)] * 3


def test_the_spread_finds_the_variances_that_values_were_drawn_with() -> None:
    """Queries with variance 9, supports with 4, combinations with 1: shares 9/14, 4/14, 1/14; unbalanced, one in 4."""
    generator = np.random.default_rng(3)
    of_query, of_support = generator.normal(0, 3, 150), generator.normal(0, 2, 150)
    cells = {
        (f"q{query}", f"s{support}"): float(of_query[query] + of_support[support] + generator.normal())
        for query, support in product(range(150), range(150))
        if generator.random() < 0.25
    }
    values, pairs = pairs_of(cells)
    spread = spread_of(values, pairs, "1", resamples=200)
    assert spread
    for share, drawn in zip(spread.shares, (9 / 14, 4 / 14, 1 / 14), strict=True):
        assert share.share == pytest.approx(drawn, abs=0.12)
        assert share.low is not None
        assert share.high is not None
        assert share.low < drawn < share.high


def test_a_pair_counts_once_k_way_whatever_class_it_was_drawn_for() -> None:
    cells = {("a", "s"): 0.2, ("a", "t"): 0.4, ("b", "s"): 0.6, ("b", "t"): 0.8}
    values, pairs = pairs_of(cells)
    twice = Pairs(pairs.query * 2, pairs.support * 2, (1,) * 4 + (2,) * 4, ((1, 2),) * 8)
    alone, both = spread_of(values, pairs, "k", 0), spread_of(np.tile(values, 2), twice, "k", 0)
    assert alone == both
    assert spread_of(np.full(4, np.nan), pairs, "k", 0) is None
    assert spread_of(np.ones(4), pairs, "k", 0) is None


def test_options_of_figures_are_those_of_the_command() -> None:
    for name in (name for name in FILES if name.startswith("figure")):
        for table in plan_of(name, scale="paper").tables:
            assert isinstance(table, Table)
            assert {*table.options} <= {"choose", "supports", "every", "last"}
            assert all(METHODS[row.method] for row in table.rows)
