"""The chart of trials: recall against latency. Needs matplotlib."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from flight_server.cli.tables import shown_params

Trial: TypeAlias = Mapping[str, Any]

_PANEL = (
    "table_name",
    "column",
    "dataset_version",
    "distance_type",
    "eval_set",
    "eval_set_version",
    "k",
)
"""What trials must have in common to be compared."""

_MOST_PANELS = 4
_STYLES = {
    "hnsw_sq": ("#0072B2", "o"),
    "hnsw_flat": ("#56B4E9", "s"),
    "ivf_sq": ("#D55E00", "^"),
    "ivf_flat": ("#E69F00", "v"),
    "ivf_rq": ("#009E73", "D"),
    "ivf_pq": ("#CC79A7", "P"),
}
"""Type of index → colour and marker. Okabe and Ito's colours: the colour-blind tell them apart."""

_UNKNOWN = ("#000000", "X")
_DASHES = ("-", "--", ":", "-.")
"""Lines of one type, built with different parameters."""

_PLACES = (
    (7, -4, "left", "top"),
    (7, 4, "left", "bottom"),
    (-7, 4, "right", "bottom"),
    (-7, -4, "right", "top"),
    (0, 9, "center", "bottom"),
    (0, -9, "center", "top"),
    (16, 16, "left", "bottom"),
    (16, -16, "left", "top"),
    (-16, -16, "right", "top"),
    (-16, 16, "right", "bottom"),
    (16, 28, "left", "bottom"),
    (16, -28, "left", "top"),
)
"""Where a label may stand beside its point: points to the right, upwards, and how it is aligned."""


def draw(trials: Sequence[Trial], profile: str, output: Path) -> int:
    """Draw trials, the oldest of which come first, into a PNG; return how many points it has.

    Of a trial that was run again it has the newest, or the one that was promoted.
    """
    panels: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in reversed(trials):
        panels.setdefault(tuple(trial[name] for name in _PANEL), []).append(trial)
    shown = [*panels.values()][:_MOST_PANELS]
    figure = Figure(figsize=(10, 5.2 * len(shown)), layout="constrained")
    renderer: Any = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    labels = []
    for at, rows in enumerate(shown):
        axes = figure.add_subplot(len(shown), 1, at + 1)
        labels.append((axes, _panel(axes, rows, profile)))
    figure.draw_without_rendering()
    for axes, texts in labels:
        _spread(axes, texts, renderer)
    figure.savefig(output, format="png", dpi=150)
    return sum(len(texts) for _, texts in labels)


def _panel(axes: Axes, rows: Sequence[Trial], profile: str) -> list[Annotation]:
    """Draw what can be compared, the newest trials of which come first; return the labels of its points."""
    lines: dict[tuple[str, str], dict[str, Trial]] = {}
    for row in sorted(rows, key=lambda row: row["promoted_at"] is None):
        line = lines.setdefault((row["index_type"], json.dumps(row["build_params"], sort_keys=True)), {})
        line.setdefault(json.dumps(row["search_params"], sort_keys=True), row)
    labels, kinds = [], sorted(kind for kind, _ in lines)
    for at, ((kind, _), points) in enumerate(sorted(lines.items())):
        dashes = _DASHES[kinds[:at].count(kind) % len(_DASHES)]
        labels += _line(axes, kind, dashes, sorted(points.values(), key=_by_recall))
    drawn = [row for points in lines.values() for row in points.values()]
    for x, y in [_point(row) for row in drawn if row["promoted_at"] is not None]:
        axes.plot(x, y, "k*", markersize=18, markerfacecolor="none", label="promoted", zorder=5)
    _describe(axes, rows[0], profile)
    return labels


def _point(row: Trial) -> tuple[float, float]:
    return row["latency_p50_ms"], row["recall"]


def _by_recall(row: Trial) -> tuple[float, float]:
    return row["recall"], row["latency_p50_ms"]


def _line(axes: Axes, kind: str, dashes: str, rows: Sequence[Trial]) -> list[Annotation]:
    colour, marker = _STYLES.get(kind, _UNKNOWN)
    built = shown_params(rows[0]["build_params"])
    xs, ys = zip(*map(_point, rows), strict=True)
    axes.plot(xs, ys, color=colour, marker=marker, linestyle=dashes, label=f"{kind}\n({built})")
    dark = tuple(0.7 * part for part in to_rgb(colour))
    return [
        axes.annotate(
            shown_params(row["search_params"]),
            _point(row),
            (0, 0),
            textcoords="offset points",
            fontsize=8,
            color=dark,
        )
        for row in rows
    ]


def _describe(axes: Axes, row: Trial, profile: str) -> None:
    dataset = f"profile {profile}, {row['table_name']}.{row['column']}, version {row['dataset_version']}"
    size = f"{row['num_rows']:,} vectors of {row['dim']}, {row['distance_type']}"
    queries = f"eval set {row['eval_set']}, version {row['eval_set_version']}: {row['num_queries']:,} queries"
    axes.set_title(f"{dataset}\n{size}; {queries}", fontsize=10, parse_math=False)
    axes.set_xlabel("latency of a query, median (ms)")
    axes.set_ylabel(f"recall of the {row['k']} nearest (share, 0 to 1)")
    axes.margins(x=0.12)
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.0, low - 0.05 * (high - low)), max(high, 1 + 0.1 * (1 - low)))
    axes.grid(alpha=0.3)
    handles, names = axes.get_legend_handles_labels()
    once = dict(zip(names, handles, strict=True))
    axes.legend(
        once.values(),
        once.keys(),
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        title="index (built with)",
        title_fontsize=8,
    )


def _spread(axes: Axes, labels: Sequence[Annotation], renderer: Any) -> None:
    """Put each label where it covers neither a point nor another label, as far as there is room."""
    frame, taken = axes.get_window_extent(renderer), []
    for line in axes.lines:
        for x, y in axes.transData.transform(line.get_xydata()):
            taken.append(Bbox.from_extents(x - 5, y - 5, x + 5, y + 5))
    for label in labels:
        for x, y, horizontal, vertical in _PLACES:
            label.set(position=(x, y), ha=horizontal, va=vertical)
            box = label.get_window_extent(renderer)
            is_inside = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
            if is_inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
