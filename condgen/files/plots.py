"""Plots of curves as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Curve:
    """Points of one curve, in order."""

    name: str
    x: list[float]
    y: list[float]

    def rows(self) -> list[list[float]]:
        """The points as rows [x, y], for a report."""
        return [self.x, self.y]


def plot(curves: Sequence[Curve], x: str, y: str, log: bool = False) -> bytes:
    """Plots several curves as PNG; b"" where they have no points.

    Args:
        x, y: labels of the axes.
        log: a logarithmic x axis.
    """
    curves = [curve for curve in curves if curve.x]
    if not curves:
        return b""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [curve.name for curve in curves]
    if not all(name.isascii() for name in names):
        from condgen.files.fonts import plot_labels

        matplotlib.rcParams["font.family"], names = plot_labels(names)
    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=110)
    for curve, name in zip(curves, names):
        axes.plot(curve.x, curve.y, marker="o", markersize=4, linewidth=1.5, label=name)
    if log:
        axes.set_xscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    pyplot.close(figure)
    return out.getvalue()
