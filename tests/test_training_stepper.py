"""Optimiser steps: learning rates by hand, accumulation, precision, NaN and infinity are named, rows of metrics.csv."""

from __future__ import annotations

import io
import math
import re
import sys
import time
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from eopnet_cases import batch, network
from torch import nn
from training_cases import ALONE, Probe

from oshp_bench.baselines.contract import Progress
from oshp_bench.baselines.eopnet.network import EOPNet
from oshp_bench.baselines.eopnet.settings import EOPNetSettings, Parts
from oshp_bench.episodes.draws import Draw
from oshp_bench.episodes.episodes import Way
from oshp_bench.errors import OshpError
from oshp_bench.training.parallel import Processes
from oshp_bench.training.samples import RawBatch
from oshp_bench.training.settings import TrainSettings
from oshp_bench.training.step_log import StepLog
from oshp_bench.training.stepper import Stepper

FIRST = Progress(epoch=5, epochs=50, step=0, steps=100)


def raw(way: Way = "k") -> RawBatch:
    """Two episodes of eopnet_cases as a loader gives them, with a label for every pixel."""
    episodes = batch(way)
    photos = torch.cat((episodes.query_images[:, None], episodes.support_images), 1)
    fine = torch.cat((episodes.query_masks[:, None], episodes.support_masks), 1)
    coarse = torch.cat((episodes.query_coarse[:, None], episodes.support_coarse), 1)
    masks = torch.stack((fine, coarse))
    targets = episodes.support_targets.tolist()
    draws = tuple(Draw(f"q{number}", (f"s{number}",), tuple(drawn)) for number, drawn in enumerate(targets))
    return RawBatch(draws, (photos * 255).byte(), masks.where(masks != 255, 0).byte())


def stepper(net: nn.Module, **settings: object) -> Stepper:
    chosen = replace(TrainSettings(channels_last=False), **settings)  # type: ignore[arg-type]
    return Stepper(chosen, ALONE, net, 0)  # type: ignore[arg-type]


def stepped(net: EOPNet, count: int = 1, progress: Progress = FIRST, **settings: object) -> EOPNet:
    """The network after some steps on one batch."""
    taker = stepper(net, **settings)
    for _ in range(count):
        taker.step(raw(net.ways[0]), progress)
    return net


def test_poly_falls_at_every_step() -> None:
    taker = stepper(network(), lr=0.001)
    rates = [taker.step(raw(), Progress(step // 2, 2, step, 4))["lr"] for step in range(4)]
    # 0.001 (1 - step / 4)^0.9
    assert rates == pytest.approx([1e-3, 7.71890e-4, 5.35887e-4, 2.87175e-4], rel=1e-5)


def test_a_step_falls_after_so_many_epochs_and_a_constant_never() -> None:
    """0.001, halved after every second epoch."""
    for schedule, expected in (("step", [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4]), ("constant", [1e-3] * 5)):
        taker = stepper(network(), lr=0.001, schedule=schedule, step_size=2, gamma=0.5)
        assert [taker.step(raw(), Progress(epoch, 5, 3 * epoch, 15))["lr"] for epoch in range(5)] == expected


def test_the_staircase_falls_at_epochs_9_19_and_so_on() -> None:
    taker = stepper(network(), lr=0.001, schedule="staircase")
    rates = [taker.step(raw(), Progress(epoch, 50, 2 * epoch + 1, 100))["lr"] for epoch in (0, 8, 9, 18, 19, 29, 49)]
    # 0.001 (1 - epoch / 50)^0.9 of the last stair.
    expected = [1e-3, 1e-3, 8.36435e-4, 8.36435e-4, 6.50358e-4, 4.58062e-4, 2.95752e-5]
    assert rates == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "step", "anew"),
    [("staircase", 18, True), ("staircase", 19, False), ("staircase", 20, False), ("poly", 18, False)],
)
def test_momentum_is_lost_at_the_first_step_of_a_stair(schedule: str, step: int, anew: bool) -> None:
    """Two steps an epoch: epoch 9 begins with step 18."""
    net = network()
    taker = stepper(net, lr=0.01, schedule=schedule)
    for before in range(15, step):
        taker.step(raw(), Progress(before // 2, 50, before, 100))
    progress = Progress(step // 2, 50, step, 100)
    twin, old = deepcopy(net), [each.detach().clone() for each in net.parameters()]
    torch.autograd.backward(torch.stack(list(twin(raw().on(ALONE.device, "k", False), progress).values())).sum())
    lr = taker.step(raw(), progress)["lr"]
    gradients = [each.grad for each in twin.parameters() if each.grad is not None]
    change, alone = (
        torch.cat([part.flatten() for part in parts])
        for parts in (
            [before - after for before, after in zip(old, net.parameters(), strict=True)],
            [lr * (gradient + 5e-4 * before) for before, gradient in zip(old, gradients, strict=True)],
        )
    )
    carried_on = ((change - alone).norm() / change.norm()).item()
    assert carried_on < 1e-3 if anew else carried_on > 0.2


def test_the_optimisers_by_hand() -> None:
    """A parameter 2 with the gradient 3, at lr 0.1 with weight decay 0.5: once decayed at full rate, once not."""
    for optimiser, changes in (
        # SGD: lr (gradient + decay * parameter); then with 0.9 of the last change.
        ("sgd", (0.1 * (3 + 0.5 * 2), 0.01 * 3)),
        # AdamW: lr * decay * parameter, and lr in the gradient's direction.
        ("adamw", (0.1 * 0.5 * 2 + 0.1, 0.01)),
        # RMSprop: lr * g / sqrt(0.01 g^2) = 10 lr, whatever g = gradient + decay * parameter is.
        ("rmsprop", (1.0, 0.1)),
    ):
        probe = Probe(start=2.0, gradient=3.0)
        stepper(probe, optimiser=optimiser, lr=0.1, weight_decay=0.5).step(raw(), FIRST)
        assert (2 - probe.decayed.item(), 2 - probe.slow.item()) == pytest.approx(changes, rel=1e-5)


def test_gradients_are_cut_to_the_norm() -> None:
    """Two parameters with the gradient 3: the norm is 3 * sqrt(2)."""
    probe = Probe(start=2.0, gradient=3.0)
    stepper(probe, lr=0.1, weight_decay=0.0, clip=1.5).step(raw(), FIRST)
    assert 2 - probe.decayed.item() == pytest.approx(0.1 * 1.5 / math.sqrt(2))
    probe = Probe(start=2.0, gradient=3.0)
    stepper(probe, lr=0.1, weight_decay=0.0, clip=5.0).step(raw(), FIRST)
    assert 2 - probe.decayed.item() == pytest.approx(0.3)


@pytest.mark.parametrize("way", ["k", "1"])
def test_two_parts_are_one_batch_where_batch_norm_stands_still(way: Way) -> None:
    """Every pixel has a label, so both parts have the same weight."""
    whole, parts = (stepped(network(way=way), 3, lr=0.05, accumulate=count, freeze_batch_norm=True) for count in (1, 2))
    start = network(way=way).state_dict()
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)
    assert not torch.equal(start["project.weight"], whole.state_dict()["project.weight"])


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    start = network().state_dict()
    statistics = [name for name in start if name.endswith("running_mean")]
    assert statistics
    for frozen in (True, False):
        after = stepped(network(), freeze_batch_norm=frozen).state_dict()
        assert all(torch.equal(start[name], after[name]) == frozen for name in statistics)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_almost_alike(precision: str) -> None:
    exact, half = (stepper(network(), precision=each, lr=0.01).step(raw(), FIRST) for each in ("float32", precision))
    assert exact.keys() == half.keys() == {"loss", "agm", "npm", "coarse", "contrast", "lr", "beta"}
    for name, value in exact.items():
        assert half[name] == pytest.approx(value, rel=0.05)
    net = stepped(network(), 3, precision=precision, lr=0.01)
    assert all(each.dtype == torch.float32 and each.isfinite().all() for each in net.parameters())
    assert not torch.equal(net.project.weight, network().project.weight)


def test_a_step_s_losses_add_up_and_beta_is_noted() -> None:
    values = stepper(network()).step(raw(), FIRST)
    assert values["loss"] == pytest.approx(sum(values[name] for name in ("agm", "npm", "coarse", "contrast")))
    assert values["beta"] == 0.9


def test_training_on_one_batch_lowers_its_loss() -> None:
    net = network(EOPNetSettings(parts=Parts(weight_shift=False)))
    taker = stepper(net, lr=0.05)
    losses = [taker.step(raw(), FIRST)["loss"] for _ in range(25)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize(
    ("way", "episodes"),
    [
        ("k", "query q0, support s0; query q1, support s1"),
        ("1", "query q0, support s0, class 2; query q1, support s1, class 7"),
    ],
)
def test_a_loss_that_is_no_number_names_the_episodes(way: Way, episodes: str) -> None:
    net = network(way=way)
    nn.init.constant_(net.project.weight, torch.nan)
    before = deepcopy(net.state_dict())
    with pytest.raises(OshpError) as raised:
        stepper(net).step(raw(way), Progress(6, 50, 33, 100))
    (problem,) = raised.value.problems
    assert problem.startswith("epoch 7, step 34: loss and agm and npm")
    assert problem.endswith(
        f"is NaN or infinite, in the episodes: {episodes}; lower lr, set clip, or look at these images"
    )
    torch.testing.assert_close(net.agm.head.convs[0].weight, before["agm.head.convs.0.weight"])  # type: ignore[union-attr]


def test_a_gradient_that_is_no_number_is_told_before_the_weights_are() -> None:
    """The square root of 0 is a number, its slope is not."""
    probe = Probe(start=0.0, gradient=math.inf)
    with pytest.raises(
        OshpError, match="step 1: the gradient is NaN or infinite, in the episodes: query q0, support s0; "
    ):
        stepper(probe).step(raw(), FIRST)
    assert probe.decayed.item() == 0.0


def test_processes_share_a_batch_in_order() -> None:
    shares = [Processes(rank, 3, torch.device("cpu")).share(6) for rank in range(3)]
    assert [list(each) for each in shares] == [[0, 1], [2, 3], [4, 5]]
    Processes(0, 3, torch.device("cpu")).check(6, 2)
    with pytest.raises(OshpError) as raised:
        Processes(0, 3, torch.device("cpu")).check(6, 4)
    assert raised.value.problems == ("batch is 6, but 3 processes that accumulate 4 parts each need a multiple of 12",)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_the_loss_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for shown, kind in ((True, Terminal), (False, Terminal), (True, io.StringIO)):
        stderr = kind()
        monkeypatch.setattr(sys, "stderr", stderr)
        log = StepLog(shown, Progress(0, 1, 0, 10), 1)
        for step in range(3):
            # The bar is drawn ten times a second at most.
            time.sleep(0.11)
            log.row({"loss": 2.0 - step / 2}, Progress(0, 1, step, 10))
        log.close()
        drawn = stderr.getvalue()
        if shown and kind is Terminal:
            assert re.search(r"training: +30%.* 3/10 \[00:0\d<00:\d\d, .*loss=1\.000\]", drawn)
        else:
            assert drawn == ""


@pytest.mark.parametrize(("steps", "ends"), [(6, 6), (20, 20), (21, 11), (150, 19), (1000, 20)])
def test_rows_are_means_at_most_twenty_an_epoch_and_end_with_it(steps: int, ends: int) -> None:
    log = StepLog(False, Progress(1, 3, steps, 3 * steps, stage=1), 1)
    rows = []
    for step in range(steps, 3 * steps):
        if step % steps == 0:
            log.begin_epoch()
        row = log.row({"loss": float(step), "lr": 0.5}, Progress(step // steps, 3, step, 3 * steps, stage=1))
        if row:
            rows.append(row)
    assert len(rows) == 2 * ends
    first = steps
    for row in rows:
        last = row["step"] - 3 * steps - 1
        assert row["loss"] == pytest.approx((first + last) / 2, abs=1e-6)
        assert (row["stage"], row["epoch"], row["lr"]) == (2, 3 + last // steps + 1, 0.5)
        assert row["at_epoch"] == pytest.approx(3 + (last + 1) / steps, abs=1e-3)
        assert row["steps_per_second"] > 0 and row["peak_memory_mib"] > 50
        first = int(last) + 1
    assert [row["epoch"] for row in rows[ends - 1 : ends + 1]] == [5, 6]
    assert rows[-1]["step"] == 6 * steps


def test_what_is_in_no_group_is_not_trained() -> None:
    probe = Probe(start=2.0, gradient=3.0)
    before = deepcopy(probe.backbone.state_dict())
    stepper(probe, weight_decay=0.1).step(raw(), FIRST)
    torch.testing.assert_close(probe.backbone.state_dict(), before, rtol=0, atol=0)
    assert probe.decayed.item() != 2.0
