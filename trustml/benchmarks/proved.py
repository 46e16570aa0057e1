"""The certificate of a case: which samples nothing that the threat allows can fool."""

import time

import torch

from trustml.benchmarks.certify import certificate
from trustml.benchmarks.judge import Exam
from trustml.benchmarks.plan import Bounds
from trustml.benchmarks.samples import CERTIFIED, CLEAN_WRONG, NORMS, ROBUST, Samples, sealed
from trustml.contracts import Split
from trustml.threats import Lp

# Backward walks that one layer may cost a sample: what is quick takes a second for thousands of
# samples, with hundreds a small convolutional network takes a tenth of a second each.
_WALKS = {"auto": None, "tight": 200}


def proved(exam: Exam, bounds: Bounds) -> tuple[Samples, str, float]:
    """Return the samples with what is proved of them, the method, and its seconds.

    Raises:
        NotApplicable: nothing can be proved about such a model or threat; the reason.
    """
    setting, began = exam.setting, time.perf_counter()
    split = setting.split
    goals = exam.goals(split.y)
    aimed = Split(split.x, goals, split.ids, split.classes, split.low, split.high)
    threat = exam.threat
    assert isinstance(threat, Lp), "no certificate is planned of a measure that is no norm"
    found = certificate(setting.module, aimed, threat, walks=_WALKS[bounds])
    verdict = torch.where(found.certified.cpu(), CERTIFIED, ROBUST)
    verdict = torch.where(setting.right, verdict, CLEAN_WRONG)
    nothing, nowhere = torch.zeros(len(split)), torch.zeros(len(split), len(NORMS))
    samples = sealed(split.ids, verdict, split.x, nowhere, (nothing, nothing))
    return samples, found.method, time.perf_counter() - began
