"""What a finding is an instance of, in the words of MITRE ATLAS 5.6.0 and NIST AI 100-2e2025."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of attack: ids and names of ATLAS techniques and of NIST; none where none fits."""

    atlas: tuple[str, ...] = ()
    nist: tuple[str, ...] = ()


KINDS = {
    "white-box evasion": Kind(
        ("AML.T0043.000 White-Box Optimization", "AML.T0015 Evade AI Model"),
        ("NISTAML.022 Evasion",),
    ),
    "black-box evasion": Kind(
        ("AML.T0043.001 Black-Box Optimization", "AML.T0015 Evade AI Model"),
        ("NISTAML.025 Black-box Evasion",),
    ),
    "physical evasion": Kind(
        ("AML.T0041 Physical Environment Access", "AML.T0015 Evade AI Model"),
        ("NISTAML.022 Evasion",),
    ),
    "backdoor": Kind(
        ("AML.T0043.004 Insert Backdoor Trigger", "AML.T0018.000 Poison AI Model"),
        ("NISTAML.023 Backdoor Poisoning",),
    ),
    "data poisoning": Kind(
        ("AML.T0020 Poison Training Data", "AML.T0059 Erode Dataset Integrity"),
        ("NISTAML.013 Data Poisoning",),
    ),
    "extraction": Kind(
        ("AML.T0024.002 Extract AI Model", "AML.T0005.001 Train Proxy via Replication"),
        ("NISTAML.031 Model Extraction",),
    ),
    "unknown inputs": Kind(),
    "calibration": Kind(),
    "explanation": Kind(),
    "masked gradients": Kind((), ("NISTAML.022 Evasion",)),
}


def names(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Return the ids and names of the kinds, each once, ATLAS first."""
    atlas = [name for kind in kinds for name in KINDS[kind].atlas]
    nist = [name for kind in kinds for name in KINDS[kind].nist]
    return tuple(dict.fromkeys([*atlas, *nist]))
