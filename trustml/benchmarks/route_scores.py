"""The one scoring row for all safeguards: the numbers that follow from what a case has kept."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from trustml.bayes.conjugate import Beta
from trustml.conformal import conformal_quantile
from trustml.contracts import Score
from trustml.errors import NotApplicable
from trustml.metrics import mean_share, median, proportion

RATES = {"1 %": 0.01, "5 %": 0.05}  # of false alarms
TAMPERED = ("static", "adaptive")
_Z = 1.959963984540054
Kept = Mapping[str, Tensor]


def scores_of(found: Kept, false_alarms: float) -> dict[str, Score]:
    """Return the scores of what a case has kept: of mail, of items under watch, or of a poison.

    Raises:
        NotApplicable: the model reads nothing rightly, so that nothing can be misled.
    """
    if not bool(found["bare: right"].any()):
        raise NotApplicable("the model reads no mail rightly, so that none can be misled")
    if "clean: peaks" in found:
        scores = _watched(found, false_alarms)
    elif "poisoned: right" in found:
        scores = _poisoned(found)
    else:
        scores = _mailed(found)
    if "latency" in found:
        scores |= latencies(found["latency"])
    return scores


def exact(successes: int, count: int) -> Score:
    """Return the proportion with its exact 95 % interval (Clopper, Pearson 1934)."""
    low = Beta(successes, count - successes + 1).quantile(0.025) if successes else 0.0
    high = Beta(successes + 1, count - successes).quantile(0.975) if successes < count else 1.0
    return Score(successes / count, low, high, "higher")


def paired_change(before: Tensor, after: Tensor) -> Score:
    """Return mean(after) - mean(before) of the same samples (N,) bool, with its 95 % interval.

    Agresti, Min 2005, Statistics in Medicine 24: half a sample is added to each of the four cells.
    """
    count = len(before)
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    total, apart = count + 2, won - lost
    middle = apart / total
    spread = math.sqrt((won + lost + 1) - apart**2 / total) / total
    low, high = max(middle - _Z * spread, -1.0), min(middle + _Z * spread, 1.0)
    return Score(apart / count, low, high, "higher")


def latencies(milliseconds: Tensor) -> dict[str, Score]:
    """Return the median, with its interval, and the 95th percentile of times."""
    late = float(milliseconds.quantile(0.95))
    return {
        "latency p50": median(milliseconds, "lower", low=0.0, high=float(milliseconds.max())),
        "latency p95": Score(late, late, late, "lower"),
    }


def _mailed(found: Kept) -> dict[str, Score]:
    before, right = found["bare: right"].bool(), found["clean: misread"] == 0
    scores = {"success without": _share(found["bare: static: misread"].bool(), before)}
    for way in TAMPERED:
        # Without a safeguard there is nothing more to know.
        of = way if f"{way}: misread" in found else "static"
        slips = found[f"{of}: misread"].bool() & found[f"{of}: accepted"].bool()
        scores[f"success {way}"] = _share(slips, right)
    refused = found["clean: accepted"] == 0
    scores |= _clean(before, right, refused)
    if "validation: doubt" in found:
        for word, rate in RATES.items():
            threshold = conformal_quantile(found["validation: doubt"], rate)
            alarms = found["clean: doubt"] > threshold
            scores[f"false alarms at {word}"] = proportion(int(alarms.sum()), len(alarms), "lower")
            for way in TAMPERED:
                of = way if f"{way}: misread" in found else "static"
                misread = found[f"{of}: misread"].bool() & right
                if bool(misread.any()):
                    hit = (found[f"{of}: doubt"] > threshold) & misread
                    scores[f"found {way} at {word}"] = exact(int(hit.sum()), int(misread.sum()))
    return scores


def _watched(found: Kept, false_alarms: float) -> dict[str, Score]:
    """Return what is missorted before the alarm, how often it comes, and after how many items."""
    right = found["bare: right"].bool()
    scores = {"success without": _share(found["static: misread"].bool(), right)}
    scores |= _clean(right, right, torch.zeros_like(right))
    for way in TAMPERED:
        running = found[f"{way}: suspicion"]
        rows = found[f"{way}: rows"]
        alarm = first_alarm(running, conformal_quantile(found["clean: peaks"], false_alarms))
        scores[f"success {way}"] = before_alarm(
            found[f"{way}: misread"].bool()[rows], right[rows], alarm
        )
        for word, rate in RATES.items():
            alarm = first_alarm(running, conformal_quantile(found["clean: peaks"], rate))
            hit = alarm < running.shape[1]
            scores[f"found {way} at {word}"] = exact(int(hit.sum()), len(hit))
            if bool(hit.any()):
                items = (alarm[hit] + 1).double()
                far = float(running.shape[1])
                scores[f"delay {way} at {word}"] = median(items, "lower", low=1.0, high=far)
    return scores


def first_alarm(running: Tensor, threshold: float) -> Tensor:
    """Return (T,) the first item of each stream (T, L) above the threshold, or L if none is."""
    above = running > threshold
    length = running.shape[1]
    return torch.where(above.any(1), above.to(torch.uint8).argmax(1), length)


def before_alarm(misread: Tensor, right: Tensor, alarm: Tensor) -> Score:
    """Return the share of rightly read items (T, L) that were missorted by the time of the alarm.

    The item that raises it is sorted already. The interval is over the drawing of streams.
    """
    places = torch.arange(misread.shape[1])[None]
    lost = misread & right & (places <= alarm[:, None])
    share = lost.sum(1).double() / right.sum(1).clamp_min(1)
    return mean_share(share, "lower", misread.shape[1])


def _poisoned(found: Kept) -> dict[str, Score]:
    before, right = found["bare: right"].bool(), found["right"].bool()
    honest = found["clean: misread"] == 0
    scores = _clean(before, honest, found["clean: accepted"] == 0)
    if "trigger: hit" in found:
        aimed = found["trigger: aimed"].bool()
        bare = found["bare trigger: hit"].bool()
        woken = found["trigger: hit"].bool() & found["trigger: accepted"].bool()
        scores["success without"] = _share(bare, aimed & found["poisoned: right"].bool())
        scores["success static"] = _share(woken, aimed & right)
    else:
        scores["success without"] = _loss(before, found["poisoned: right"].bool())
        scores["success static"] = _loss(before, right)
    scores["poisoned accuracy"] = proportion(int(right.sum()), len(right))
    if "touched" in found:
        hit, poisons, alarms, others = found["touched"].tolist()
        if poisons:
            scores["poisons found"] = exact(hit, poisons)
        if others:
            scores["honest samples touched"] = proportion(alarms, others, "lower")
    return scores


def _clean(before: Tensor, right: Tensor, refused: Tensor) -> dict[str, Score]:
    """Return accuracy on clean mail, its change, and how much of it a person must read."""
    hand = proportion(int(refused.sum()), len(refused), "lower")
    return {
        "clean accuracy": proportion(int(right.sum()), len(right)),
        "clean accuracy change": paired_change(before, right),
        "review per 1000": Score(1000 * hand.value, 1000 * hand.low, 1000 * hand.high, "lower"),
    }


def _share(hit: Tensor, among: Tensor) -> Score:
    if not bool(among.any()):
        raise NotApplicable("the guarded model reads no mail rightly, so that none can be misled")
    return proportion(int((hit & among).sum()), int(among.sum()), "lower")


def _loss(before: Tensor, after: Tensor) -> Score:
    change = paired_change(before, after)
    return Score(-change.value, -change.high, -change.low, "lower")
