"""Robust accuracy against epsilon, drawn as steps."""

from collections.abc import Sequence

from trustml.benchmarks.curve import Curve
from trustml.reports._drawing import canvas, png


def curve_picture(curves: Sequence[Curve]) -> bytes:
    """Return the PNG, one panel a norm; the accuracy of the worst case is drawn bold."""
    norms = list(dict.fromkeys(curve.norm for curve in curves))
    figure = canvas(5.6 * len(norms), 3.6)
    panels = figure.subplots(1, len(norms), squeeze=False)[0]
    for panel, norm in zip(panels, norms, strict=True):
        mine = [curve for curve in curves if curve.norm == norm]
        for curve in mine:
            end = (*curve.epsilons, max(curve.epsilons[-1] for curve in mine))
            height = [100 * value for value in (*curve.accuracies, curve.accuracies[-1])]
            # The worst case lies on the others wherever one attack is all of it: below them.
            wide, order = (3.2, 1.9) if curve.case.endswith("-all") else (1.2, 2.0)
            panel.step(end, height, where="post", label=curve.case, linewidth=wide, zorder=order)
        panel.set_xlabel(f"epsilon in {norm}")
        panel.set_ylabel("robust accuracy in %")
        panel.set_ylim(0, 100)
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    return png(figure)
