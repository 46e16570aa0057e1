"""Which fields of a plan matter to which exams."""

from trustml.benchmarks.plan import Plan

# Field of a plan → the exams, and the way of attacking detectors, that heed it. What all exams heed
# is not named, nor what an exam itself refuses.
_ATTACKS = ("attacks",)
HEEDED_BY: dict[str, tuple[str, ...]] = {
    "norms": ("attacks", "aware"),
    "epsilons": ("attacks", "aware"),
    "target": _ATTACKS,
    "curve": _ATTACKS,
    "surrogates": _ATTACKS,
    "grid": _ATTACKS,
    "eot": _ATTACKS,
    "certify": _ATTACKS,
    "precision": _ATTACKS,
    "indicators": ("attacks", "routes", "poisons"),
    "budget": ("attacks", "stealers"),
    "figures": ("attributions",),
    "outside": ("detectors",),
    "aware": ("detectors",),
    "false_alarms": ("detectors", "routes", "poisons", "inspections"),
    "terms": ("stealers",),
    "countermeasures": ("stealers",),
    "copy": ("stealers",),
    "controls": ("inspections",),
    "controls_of": ("inspections",),
}


def heeds(plan: Plan, name: str) -> bool:
    """Return whether something that the plan asks for depends on its field of that name."""
    exams = HEEDED_BY.get(name)
    return exams is None or any(getattr(plan, exam) for exam in exams)
