"""Draws the paper's figures from prediction folders: PDF, SVG, PNG, and a text with the rule and the numbers.

    python experiments/figures.py pairs --manifest M --way k --predictions EOP-Net=PREDS ... -o FOLDER
    python experiments/figures.py supports --manifest M --way k --predictions EOP-Net=PREDS -o FOLDER
    python experiments/figures.py curves --manifest M --way k --results "with momentum=5=RESULT" ... -o FOLDER

pairs: Figures 4 to 6, episodes of one or several methods side by side. supports: Figure 7, one query with different
supports, and how much of the spread of IoU comes from which. curves: Figure 8, accuracy over epochs. Pairs are chosen
by a rule that is printed: best, median and worst by the IoU of the last method, or ids.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import numpy as np
from pictures import Panel, draw_curves, draw_panels, save
from spread import spread_of

from oshp_bench.datasets.sources import Source, find_source
from oshp_bench.episodes.episodes import way_key
from oshp_bench.errors import OshpError
from oshp_bench.files import write_text
from oshp_bench.manifest import Manifest, load_manifest, manifest_path
from oshp_bench.manifest.truth import Truth, load_truth, truth_path
from oshp_bench.metrics.figures import EPISODE_RANKING
from oshp_bench.metrics.intervals import Resampling
from oshp_bench.metrics.matrices import count_predictions
from oshp_bench.metrics.predictions import open_predictions
from oshp_bench.metrics.result import Result, score_matrices
from oshp_bench.metrics.result_file import load_result
from oshp_bench.report.examples import Gallery, PicturedEpisode, Ranking, episode_values

if TYPE_CHECKING:
    from oshp_bench.episodes.episodes import Way

_HERE = Path(__file__).parent
_KINDS = ("best", "median", "worst")


class _Drawn:
    """Prediction folders of one way on one manifest, with the values of their pairs."""

    def __init__(self, manifest: Path, root: Path | None, way: Way, predictions: Sequence[tuple[str, Path]]) -> None:
        self.manifest: Manifest = load_manifest(str(manifest))
        self.way = way
        self.names = [name for name, _ in predictions]
        truth: Truth = load_truth(truth_path(manifest_path(str(manifest))), self.manifest)
        source: Source = find_source(self.manifest.dataset, root)
        folders = [folder for _, folder in predictions]
        sets = tuple(open_predictions(folder, way, self.manifest) for folder in folders)
        self.gallery = Gallery(truth, sets, source)
        counted = (count_predictions(self.manifest, truth, folder, way=way) for folder in folders)
        self.results: list[Result] = [
            score_matrices(self.manifest, matrices, resampling=Resampling(0)) for matrices in counted
        ]
        self.values = [episode_values(result, way) for result in self.results]

    def episode(self, pair: int) -> PicturedEpisode:
        """One episode with the masks of all methods."""
        return self.gallery.episode(self.results[0], self.way, pair)

    def value(self, place: int, pair: int) -> str:
        """A method's value of a pair, in percent."""
        value = self.values[place][pair]
        return "-" if np.isnan(value) else f"{100 * value:.1f}"

    @property
    def figure(self) -> str:
        """What the values are."""
        return EPISODE_RANKING[self.way].label.removeprefix("per-episode ")


def _chosen(drawn: _Drawn, rule: str) -> tuple[str, list[int]]:
    """The pairs of a rule, and the rule in words.

    Raises:
        OshpError: it is no rule.
    """
    pairs = drawn.results[-1].pairs
    kind, _, said = rule.partition(":")
    if kind == "ids":
        places = {pairs.name(index): index for index in range(len(pairs))}
        wanted = said.split(",")
        unknown = [name for name in wanted if name not in places]
        if unknown:
            raise OshpError(f"--choose: no pair is called {', '.join(unknown)}; pairs are called 0000, 0001, ...")
        return f"pairs {', '.join(wanted)}, as asked for", [places[name] for name in wanted]
    kinds = kind.split(",")
    if not set(kinds) <= {*_KINDS} or not (said or "1").isdecimal():
        raise OshpError(f"--choose {rule!r} is no rule; write best,median,worst:1 or ids:0003,0010")
    found = dict(zip(_KINDS, Ranking(drawn.values[-1], pairs.query).extremes(int(said or "1")), strict=True))
    words = f"the {said or 1} {', '.join(kinds)} of {len(pairs):,} pairs by {drawn.figure} of {drawn.names[-1]}"
    return f"{words}, with different queries", [pair for name in kinds for pair in found[name]]


def pairs_figure(drawn: _Drawn, rule: str, out: Path) -> None:
    """Episodes in rows: support, its mask, query, truth, and one column for each method; differences are marked."""
    words, chosen = _chosen(drawn, rule)
    rows, lines = [], [f"rule: {words}", "", f"pair, query, support, {drawn.figure} of " + ", ".join(drawn.names)]
    for pair in chosen:
        shown = drawn.episode(pair)
        row = [
            Panel(shown.support_photo, "support"),
            Panel(shown.support_mask, "its mask"),
            Panel(shown.query_photo, "query"),
            Panel(shown.truth, "truth"),
        ]
        last = shown.predictions[-1]
        for place, mask in enumerate(shown.predictions):
            differs = mask != last if mask is not last else None
            row.append(Panel(mask, f"{drawn.names[place]} {drawn.value(place, pair)}", differs))
        rows.append(row)
        numbers = ", ".join(drawn.value(place, pair) for place in range(len(drawn.names)))
        lines.append(f"{drawn.results[0].pairs.name(pair)}, {shown.query}, {shown.support}, {numbers}")
    if len(drawn.names) > 1:
        lines.append(f"white boxes: where a method differs most from {drawn.names[-1]}")
    _finish(draw_panels(rows, drawn.manifest), lines, out, way_key(drawn.way))


def supports_figure(drawn: _Drawn, count: int, out: Path) -> None:
    """The query whose mean is the median of all queries, with supports in even steps from its best to its worst."""
    values, pairs = drawn.values[-1], drawn.results[-1].pairs
    of_query: defaultdict[str, list[int]] = defaultdict(list)
    for pair, query in enumerate(pairs.query):
        if not np.isnan(values[pair]):
            of_query[query].append(pair)
    ranked = sorted(of_query, key=lambda query: (float(np.mean(values[of_query[query]])), query))
    if not ranked:
        raise OshpError(f"no pair of {drawn.names[-1]} has a value")
    query = ranked[len(ranked) // 2]
    mine = of_query[query]
    ranking = Ranking(values[mine], [pairs.support[pair] for pair in mine])
    chosen = [mine[place] for place in ranking.in_even_steps(count)]
    rows = []
    for pair in chosen:
        shown = drawn.episode(pair)
        rows.append(
            [
                Panel(shown.support_photo, "support"),
                Panel(shown.support_mask, "its mask"),
                Panel(shown.query_photo, "query"),
                Panel(shown.truth, "truth"),
                Panel(shown.predictions[-1], f"{drawn.names[-1]} {drawn.value(-1, pair)}"),
            ]
        )
    spread = spread_of(values, pairs, drawn.way)
    lines = [
        f"rule: query {query}, the median of {len(ranked):,} queries by its mean {drawn.figure} of {drawn.names[-1]};"
        f" {len(chosen)} of its {len(mine)} supports in even steps from best to worst",
        "",
        f"where the spread of {drawn.figure} comes from, in percent of the variance with 95 % intervals:",
        *(spread.lines() if spread else ["this manifest has too few pairs that share a query or a support"]),
    ]
    _finish(draw_panels(rows, drawn.manifest), lines, out, way_key(drawn.way))


def curves_figure(manifest: Path, way: Way, results: Sequence[str], out: Path) -> None:
    """Mean accuracy of base and novel classes over epochs, a line for each name; several runs give mean and spread."""
    contract = load_manifest(str(manifest))
    found: defaultdict[tuple[str, str], defaultdict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for said in results:
        name, epoch, path = said.split("=", 2)
        figures = load_result(Path(path)).figures
        for role in ("base", "novel"):
            named = (figures[f"{way_key(way)}/accuracy/{class_id}"].value for class_id in contract.ids_of(role))
            known = [value for value in named if value is not None]
            if known:
                found[f"{role} {name}", role][int(epoch)].append(fmean(known))
    lines = ["mean accuracy of the classes of a role, in percent, over epochs", ""]
    curves = {}
    for (name, _), by_epoch in found.items():
        points = [
            (epoch, fmean(runs), stdev(runs) if len(runs) > 1 else 0.0) for epoch, runs in sorted(by_epoch.items())
        ]
        curves[name] = points
        lines.append(f"{name}: " + ", ".join(f"{epoch}: {100 * mean:.2f}" for epoch, mean, _ in points))
    runs = max(len(values) for by_epoch in found.values() for values in by_epoch.values())
    lines.append(f"training runs: {runs}" + (" (band: standard deviation)" if runs > 1 else ""))
    _finish(draw_curves(curves), lines, out, way_key(way))


def _finish(figure: object, lines: Sequence[str], out: Path, name: str) -> None:
    """Writes a drawing with its text, and the page of the folder."""
    from oshp_bench.report.templates import filled

    save(figure, out / name)
    write_text(out / f"{name}.txt", "\n".join(lines) + "\n")
    print(*lines, sep="\n")
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(out.glob("*.txt"))}
    write_text(out / "index.html", filled(_HERE / "figure.html.j2", title=out.name, texts=texts))


def _named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name, Path(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("pairs", "supports", "curves"):
        command = kinds.add_parser(kind)
        command.add_argument("--manifest", type=Path, required=True)
        command.add_argument("--way", choices=("k", "1"), default="k")
        command.add_argument("-o", "--out", type=Path, required=True)
        if kind == "curves":
            command.add_argument("--results", action="append", required=True, help="NAME=EPOCH=RESULT.json")
            continue
        command.add_argument("--root", type=Path)
        command.add_argument("--predictions", action="append", type=_named, required=True, help="NAME=FOLDER")
        if kind == "pairs":
            command.add_argument("--choose", default="best,median,worst:1")
        else:
            command.add_argument("--supports", type=int, default=4)
    return parser.parse_args()


def main() -> None:
    options = _arguments()
    try:
        if options.kind == "curves":
            curves_figure(options.manifest, options.way, options.results, options.out)
            return
        drawn = _Drawn(options.manifest, options.root, options.way, options.predictions)
        if options.kind == "pairs":
            pairs_figure(drawn, options.choose, options.out)
        else:
            supports_figure(drawn, options.supports, options.out)
    except OshpError as error:
        sys.exit("\n".join(f"error: {problem}" for problem in error.problems))


if __name__ == "__main__":
    main()
