"""The release's reading gives the numbers of the authors' code: evaluation and one training step, both precisions."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from oshp_bench.baselines.contract import Batch, Progress
from oshp_bench.baselines.eopnet.network import EOPNet
from oshp_bench.baselines.eopnet.published import load_released, renamed
from oshp_bench.baselines.pieces.prototypes import present_classes, to_grid
from oshp_bench.episodes.episodes import Way

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Tolerances:
    """How far from the recorded numbers is near enough; `pixels` are labels that may differ in one picture."""

    outputs: float
    losses: float
    prototypes: float
    gradients: float
    pixels: int


TOLERANCES = {
    torch.float64: Tolerances(1e-5, 1e-5, 1e-5, 1e-5, 0),
    torch.float32: Tolerances(5e-3, 5e-5, 5e-4, 1e-2, 20),
}
PRECISIONS = pytest.mark.parametrize("precision", TOLERANCES, ids=str)


@dataclass(frozen=True)
class Recorded:
    way: Way
    numbers: dict[str, Any]
    state: dict[str, Tensor]

    def network(self, precision: torch.dtype) -> EOPNet:
        return load_released(self.state, Path("recorded.pth")).to(precision)

    def masks(self, pictures: list[dict[str, Tensor]], name: str, targets: list[int]) -> Tensor:
        """Masks with class ids; those of the 1-way network are recorded as 0 and 1."""
        masks = torch.stack([each[name] for each in pictures]).long()
        return masks if self.way == "k" else torch.where(masks == 1, torch.tensor(targets)[:, None, None], masks)


@pytest.fixture(scope="module", params=["kway", "1way", "kway_step30"])
def recorded(request: pytest.FixtureRequest, test_data: Path) -> Recorded:
    folder = test_data.parent / "spec" / "parity"
    way: Way = "1" if request.param == "1way" else "k"
    if not folder.is_dir():
        pytest.skip("no parity vectors beside the folder of real data")
    spec = importlib.util.spec_from_file_location("parity_weights", folder / "weights.py")
    assert spec is not None and spec.loader is not None
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    numbers = torch.load(folder / f"release_{request.param}.pt", weights_only=True)
    state = weights.build_state(numbers["shapes"], numbers["stored"])
    assert weights.digest(state) == numbers["state_sha256"]
    return Recorded(way, numbers, state)


def photos(pictures: list[dict[str, Tensor]], name: str, precision: torch.dtype) -> Tensor:
    """RGB in 0..1 of recorded BGR pictures, such that the backbone gets the float32 input that was recorded."""
    recorded = torch.stack([each[name] for each in pictures]).float() * 2 / 255 - 1
    return (recorded.to(precision).flip(1) + 1) / 2


@PRECISIONS
def test_evaluation_gives_the_recorded_outputs(recorded: Recorded, precision: torch.dtype) -> None:
    near, network = TOLERANCES[precision], recorded.network(precision)
    for case in recorded.numbers["evals"]:
        pictures = [recorded.numbers["pairs"][case["pair"]]]
        targets = [case["cate_id"]]
        query_mask, support_mask = (recorded.masks(pictures, f"{side}_mask", targets) for side in ("query", "support"))
        with torch.no_grad():
            query, support = (network.encode(photos(pictures, side, precision)) for side in ("query", "support"))
            grid = (query.fine.shape[2], query.fine.shape[3])
            mask, coarse = to_grid(support_mask, grid), to_grid(pictures[0]["support_fg"][None].long(), grid)
            asked = present_classes(mask) if recorded.way == "k" else torch.tensor([targets])
            task = network.prototypes(support, mask, coarse, asked, case["epoch"])
            size = (query_mask.shape[1], query_mask.shape[2])
            outputs = {
                "agm_out": network.agm_logits(query, task, size)[0],
                "npm_out": network.npm_logits(query, task, size)[0],
                "s1_qry_out": network.coarse_logits(query, task, size)[0],
            }
        truth = network.truth(query_mask, query_mask, task)[0]
        assert torch.equal(truth, case["s2_qry_gt"].long())
        for name in outputs.keys() & case.keys():
            output, wanted = outputs[name], case[name]
            error = (output[wanted["channels"], ::2, ::2] - wanted["stride2"]).abs().max().item()
            assert error < near.outputs, f"{name} at epoch {case['epoch']}"
            mean_error = (output.double().sum((1, 2)) - wanted["chan_sum"]).abs().max().item() / truth.numel()
            assert mean_error < near.outputs, f"{name} at epoch {case['epoch']}"
            assert (output.argmax(0) != wanted["argmax"].long()).sum() <= near.pixels


@PRECISIONS
def test_a_training_step_gives_the_recorded_losses_prototypes_and_gradients(
    recorded: Recorded, precision: torch.dtype
) -> None:
    near, network = TOLERANCES[precision], recorded.network(precision).train()
    pictures, (case,) = recorded.numbers["train_pairs"], recorded.numbers["trains"]
    targets = case["cate_id"]
    batch = Batch(
        way=recorded.way,
        query_images=photos(pictures, "query", precision),
        query_masks=recorded.masks(pictures, "query_mask", targets),
        query_coarse=torch.stack([picture["query_fg"] for picture in pictures]).long(),
        support_images=photos(pictures, "support", precision)[:, None],
        support_masks=recorded.masks(pictures, "support_mask", targets)[:, None],
        support_coarse=torch.stack([picture["support_fg"] for picture in pictures]).long()[:, None],
        support_targets=torch.tensor(targets if recorded.way == "1" else [0] * len(pictures))[:, None],
    )
    progress = Progress(case["epoch"], case["max_epoch"], step=0, steps=1)
    losses = network.losses(batch, progress)
    total = torch.stack(list(losses.values())).sum()
    torch.autograd.backward(total)

    assert total.item() == pytest.approx(case["total"], abs=near.losses)
    beta = network.beta(progress)
    weights = {"agm": beta, "npm": 1 - beta, "s1": 1.0, "contrast": 1.0}
    ours = {"s1" if name == "coarse" else name: loss.item() for name, loss in losses.items()}
    for name, wanted in case["losses"].items():
        assert ours.get(name, 0.0) == pytest.approx(weights[name] * wanted, abs=near.losses), name

    state = network.state_dict()
    torch.testing.assert_close(state["memory.rows"].float(), case["prototype"], rtol=0, atol=near.prototypes)
    torch.testing.assert_close(state["coarse.memory.rows"].float(), case["s1_prototype"], rtol=0, atol=near.prototypes)
    for name, wanted in renamed(case["bn_after"], recorded.way).items():
        torch.testing.assert_close(state[name].float(), wanted, rtol=0, atol=near.outputs, msg=name)

    # Every tensor of the release that has a recorded norm, as the tensors of ours that it became.
    parameters = dict(network.named_parameters())
    for name, wanted in case["grad_norm"].items():
        parts = [parameters[each] for each in renamed({name: recorded.state[name]}, recorded.way)]
        norm = torch.stack([each.grad.norm() for each in parts if each.grad is not None]).norm().item()
        if wanted >= 1e-6:
            assert norm == pytest.approx(wanted, rel=near.gradients), name
