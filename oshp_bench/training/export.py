"""Makes the checkpoints that come with the package: float16, with the data's licence and measured figures in the card.

Run: python -m oshp_bench.training.export RUN/best.safetensors --licence "..." --result result.json -o FILE
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from oshp_bench.console import FILE, Command, check_outputs, echo, out_option
from oshp_bench.errors import OshpError


@click.command(cls=Command)
@click.argument("checkpoint", type=FILE)
@click.option("--licence", required=True, help="Licence of the training data, as it stands in the card.")
@click.option("--result", "results", type=FILE, multiple=True, help="A result file of oshp-score with its figures.")
@out_option("The checkpoint to write.", FILE, required=True)
def main(checkpoint: Path, licence: str, results: tuple[Path, ...], out: Path) -> None:
    """Write a trained CHECKPOINT in float16, with the licence of its data and its figures in its card."""
    check_outputs([out], [checkpoint, *results])

    from oshp_bench.baselines.checkpoints import load_checkpoint, save_checkpoint
    from oshp_bench.metrics.figures import HEADLINE
    from oshp_bench.metrics.result_file import load_result

    loaded = load_checkpoint(checkpoint)
    if loaded.card.manifest is None:
        raise OshpError(f"{checkpoint}: does not say what it was trained on; give a checkpoint of oshp-train")
    figures = {
        found.manifest.name: {
            name: round(value, 6)
            for names in HEADLINE.values()
            for name in names
            if name in found.figures and (value := found.figures[name].value) is not None
        }
        for found in map(load_result, results)
    }
    training = {**(loaded.card.training or {}), "data_licence": licence, "figures": figures, "weights": "float16"}
    save_checkpoint(out, replace(loaded.card, training=training), loaded.network, half=True)
    echo(f"{out}: {out.stat().st_size / 2**20:.2f} MiB, trained on {loaded.card.manifest.name}")


if __name__ == "__main__":
    main()
