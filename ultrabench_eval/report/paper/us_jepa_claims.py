"""What the US-JEPA paper (arXiv 2602.19322) says of its numbers: a row per claim.

Sentences are paraphrased. Where a claim is a word ("clearly", "on par"), `how` says what it was
taken to mean. The paper writes "%" for points of macro F1 where Table 2 lets it be seen (+9.5 %
on MMOTU is 52.2 - 42.7), so drops are read as points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

from ultrabench_eval.report.paper.published import US_JEPA
from ultrabench_eval.report.paper.quantities import (
    AtLeast,
    Bound,
    Combined,
    Condition,
    Quantity,
    ScorePlace,
    every,
    minus,
)


@dataclass(frozen=True)
class Claim:
    """A checkable statement of a paper."""

    id: str
    section: str
    text: str
    """In our words."""
    test: Condition
    how: str = ""
    """What vague words were taken to mean."""
    note: str = ""
    """What else the paper's own numbers say."""


OURS = US_JEPA.ours
GENERAL = ("dinov3", "ijepa")
DOMAIN = ("ultrasam", "samus", "echocare", "usf-mae", "usfm", "urfm")
BASELINES = GENERAL + DOMAIN
COMPARED = ("usfm", "urfm")
"""The baselines of sections 5.3 and 5.4."""
TASKS = tuple(US_JEPA.tasks)
SIX = tuple(task for task in TASKS if task not in ("aul", "tn5000"))
"""The tasks on which URFM is not said to be strong."""
PAR = 1.0  # points that "on par", "match" allow
COMPARABLE = 10.0  # points that "comparable" allows between means of two models
SEVERITY = 3  # of all numbers that the text gives of corrupted images

# ---- words of the claims: quantities ------------------------------------------------------------


def at(model: str, task: str, corruption: str = "none", fraction: int = 100) -> ScorePlace:
    """A score."""
    severity = 0 if corruption == "none" else SEVERITY
    return ScorePlace(model, task, fraction, corruption, severity)


def lost(model: str, task: str, corruption: str = "none", fraction: int = 100) -> Combined:
    """Points lost from uncorrupted images and all labels."""
    name = f"{model} on {task} loses at {corruption} {SEVERITY}"
    return minus(at(model, task), at(model, task, corruption, fraction), name)


def mean(
    name: str,
    models: Iterable[str],
    tasks: Iterable[str],
    corruption: str = "none",
    fractions: Iterable[int] = (100,),
    of: Callable[[str, str, str, int], Quantity] = at,
) -> Combined:
    """Mean over models, tasks and fractions."""
    places = product(models, tasks, fractions)
    return Combined("mean", tuple(of(m, t, corruption, f) for m, t, f in places), name)


def over_tasks(model: str) -> Combined:
    """A model's mean over the tasks."""
    return mean(f"{model}, mean of tasks", [model], TASKS)


def best(models: Iterable[str], task: str, name: str = "best baseline") -> Combined:
    """The best of models on a task."""
    return Combined("best", tuple(at(model, task) for model in models), name)


def gap(model: str, other: str, task: str, corruption: str) -> Combined:
    """Points between two models on corrupted images."""
    name = f"{task}, {model} − {other}"
    return minus(at(model, task, corruption), at(other, task, corruption), name)


def others(*leaders: str, among: Iterable[str] = BASELINES) -> tuple[str, ...]:
    """Models without the leaders."""
    return tuple(model for model in among if model not in leaders)


# ---- words of the claims: conditions ------------------------------------------------------------


def about(quantity: Quantity, stated: float, within: float = 3.0) -> Bound:
    """A quantity is what is stated, give or take."""
    return Bound(quantity, "stated", stated, within)


def below(quantity: Quantity, bound: float) -> Bound:
    """A quantity is less than a bound."""
    return Bound(quantity, "<", bound)


def lead(ours: Quantity, theirs: Quantity, name: str, margin: float = 0.0) -> Bound:
    """Ours is above theirs, or at most `margin` points below."""
    return Bound(minus(ours, theirs, name), ">", -margin)


def at_least(count: int, conditions: Iterable[Condition], name: str = "") -> AtLeast:
    """So many of the conditions hold, or more."""
    return AtLeast(count, tuple(conditions), name)


def first(models: Iterable[str], rest: Iterable[str], task: str) -> Bound:
    """The best of models is above all others on a task."""
    return lead(best(models, task), best(rest, task), f"{task}, ahead by")


def second_to(leader: str, task: str) -> AtLeast:
    """One of ours is behind `leader` and above all others on a task."""
    ours, rest = best(OURS, task), best(others(leader), task)
    return every(
        [
            lead(at(leader, task), ours, f"{task}, {leader} − best of ours"),
            lead(ours, rest, f"{task}, best of ours − the others"),
        ]
    )


def lead_by_mean(
    models: Iterable[str], rest: Iterable[str], which: str, margin: float = 0.0
) -> AtLeast:
    """The means over the tasks of all models are above the others', of which `which` is best."""
    top = Combined("best", tuple(over_tasks(model) for model in rest))
    return every(
        lead(over_tasks(model), top, f"{model}, mean of tasks − {which}'s", margin)
        for model in models
    )


def on_par(task: str, corruption: str = "none", fraction: int = 100) -> Bound:
    """The mean of ours is at most `PAR` below that of the baselines of sections 5.3 and 5.4."""
    ours, theirs = (mean("", pair, [task], corruption, [fraction]) for pair in (OURS, COMPARED))
    where = f"{task}{at('', task, corruption, fraction).condition}"
    return lead(ours, theirs, f"{where}, ours − usfm, urfm", PAR)


def severe(corruption: str, model: str, other: str, task: str, margin: float = 0.0) -> Bound:
    """A model is above another on corrupted images of a task."""
    return Bound(gap(model, other, task, corruption), ">", -margin)


def less_lost(model: str, task: str) -> Bound:
    """A model loses less by blur than URFM."""
    return lead(lost("urfm", task, "blur"), lost(model, task, "blur"), f"{task}, urfm − {model}")


def stated(
    what: Callable[[str, str, str], Quantity], corruption: str, task: str, **values: float
) -> list[Bound]:
    """Numbers of corrupted images as the text gives them; `_` in a keyword stands for `-`."""
    return [
        about(what(model.replace("_", "-"), task, corruption), value, within=5.0)
        for model, value in values.items()
    ]


FIVE = "give or take 5 points in a run"

# ---- the claims ---------------------------------------------------------------------------------

CLAIMS = (
    Claim(
        "A1",
        "abstract",
        "By linear probes both models are level with or above the ultrasound and the universal "
        "baselines.",
        lead_by_mean(OURS, BASELINES, "best baseline", PAR),
        how="the mean over the eight tasks is at most 1 point below that of the best baseline",
    ),
    Claim(
        "A2",
        "4.1",
        "The teacher, URFM, is consistently the best of the baselines.",
        every(first(["urfm"], others("urfm"), task) for task in TASKS),
        how="it is first among the baselines on each task",
        note="It is first on five of eight tasks and by their mean, but second on BUTTERFLY, "
        "third on GBCU and fifth on BUSBRA.",
    ),
    Claim(
        "P1",
        "5.2",
        "One of the two models is best on five of the eight tasks.",
        at_least(5, (first(OURS, BASELINES, task) for task in TASKS)),
        note="US-JEPA alone is first on MMOTU and POCUS, USrc-JEPA alone on BUSBRA, FATTY LIVER "
        "and GBCU: no single model is best on five.",
    ),
    Claim(
        "P2",
        "5.2",
        "The five are BUSBRA, FATTY LIVER, GBCU, MMOTU and POCUS.",
        every(first(OURS, BASELINES, task) for task in others("butterfly", among=SIX)),
    ),
    Claim(
        "P3",
        "5.2",
        "They are second on AUL and TN5000.",
        every(second_to("urfm", task) for task in ("aul", "tn5000")),
        note='The paper says two of "the remaining five" tasks; three of eight remain.',
    ),
    Claim(
        "P4",
        "5.2",
        "On BUTTERFLY they are less than 2 points below the best baseline.",
        every(
            below(
                minus(best(BASELINES, "butterfly"), at(m, "butterfly"), f"best baseline − {m}"), 2.0
            )
            for m in OURS
        ),
    ),
    Claim(
        "P5",
        "5.2",
        "On MMOTU the baselines are below 40 on average.",
        below(mean("mean of the baselines", BASELINES, ["mmotu"]), 40.0),
    ),
    Claim("P6", "5.2", "US-JEPA reaches 52.2 on MMOTU.", about(at("us-jepa", "mmotu"), 52.2)),
    Claim(
        "P7",
        "5.2",
        "That is 9.5 above the best baseline on MMOTU, URFM.",
        every(
            [
                about(minus(at("us-jepa", "mmotu"), at("urfm", "mmotu"), "us-jepa − urfm"), 9.5),
                first(["urfm"], others("urfm"), "mmotu"),
            ]
        ),
        note="Points, written as %.",
    ),
    Claim(
        "P8",
        "5.2",
        "URFM is strong on AUL and TN5000.",
        every(
            first(["urfm"], others("urfm", among=BASELINES + OURS), task)
            for task in ("aul", "tn5000")
        ),
        how="it is first of all",
    ),
    Claim(
        "P9",
        "5.2",
        "On the six other tasks they are clearly above the universal models, DINOv3 and I-JEPA.",
        every(first(OURS, GENERAL, task) for task in SIX),
        how="the better of ours is above both, by whatever margin",
        note="On BUTTERFLY DINOv3 (91.7) is above USrc-JEPA (91.5) and US-JEPA (90.8).",
    ),
    Claim(
        "P10",
        "5.2",
        "On the six other tasks they are above most of the six ultrasound baselines.",
        every(
            at_least(4, (lead(best(OURS, task), at(m, task), m) for m in DOMAIN), task)
            for task in SIX
        ),
        how="the better of ours is above at least four of six on each task",
        note="On BUTTERFLY the better of ours is above three, level with SAMUS (91.5) and below "
        "USFM and URFM.",
    ),
    Claim(
        "F1",
        "5.3",
        "With less than 10 % of FATTY LIVER's labels they are 18 above URFM and USFM on average.",
        about(
            minus(
                mean("ours at 1, 5 %", OURS, ["fatty_liver"], fractions=(1, 5)),
                mean("usfm, urfm at 1, 5 %", COMPARED, ["fatty_liver"], fractions=(1, 5)),
            ),
            18.0,
            within=5.0,
        ),
        how="mean over both models at 1 % and 5 %, in points, give or take 5 in a run",
    ),
    Claim(
        "F2",
        "5.3",
        "On POCUS fewer labels cost URFM and USFM more than them.",
        lead(
            mean("", COMPARED, ["pocus"], fractions=(1, 5), of=lost),
            mean("", OURS, ["pocus"], fractions=(1, 5), of=lost),
            "usfm, urfm lose at 1, 5 % − ours lose",
        ),
        how="points from 100 % to 1 % and 5 %, mean over the models",
    ),
    Claim(
        "F3",
        "5.3",
        "With few labels they are at least on par with URFM and USFM on BUSBRA, MMOTU and AUL.",
        every(
            on_par(task, fraction=fraction)
            for task in ("busbra", "mmotu", "aul")
            for fraction in (1, 5, 10)
        ),
        how="means of the two pairs of models at 1, 5 and 10 %, at most 1 point below",
    ),
    Claim(
        "F4",
        "appendix D",
        "URFM and USFM are the most competitive baselines.",
        lead_by_mean(COMPARED, others(*COMPARED), "best other baseline"),
        how="the two highest means over the eight tasks",
    ),
    Claim(
        "R1",
        "5.4",
        "POCUS, blur of severity 3: URFM falls from 91.7 to 46.8, nearly half of it.",
        every(
            [
                about(at("urfm", "pocus"), 91.7, within=5.0),
                *stated(at, "blur", "pocus", urfm=46.8),
                below(
                    Combined(
                        "ratio",
                        (at("urfm", "pocus", "blur"), at("urfm", "pocus")),
                        "urfm on pocus keeps at blur 3, %",
                    ),
                    55.0,
                ),
            ]
        ),
        how=FIVE,
    ),
    Claim(
        "R2",
        "5.4",
        "POCUS, blur of severity 3: US-JEPA and USrc-JEPA keep 69.5 and 78.4.",
        every(stated(at, "blur", "pocus", us_jepa=69.5, usrc_jepa=78.4)),
        how=FIVE,
    ),
    Claim(
        "R3",
        "5.4",
        "BUTTERFLY, blur of severity 3: URFM 22.4, US-JEPA 80.8, USrc-JEPA 70.9.",
        every(stated(at, "blur", "butterfly", urfm=22.4, us_jepa=80.8, usrc_jepa=70.9)),
        how=FIVE,
    ),
    Claim(
        "R4",
        "5.4",
        "Blur of severity 3: USFM falls to 77.8 on POCUS and 59.8 on BUTTERFLY.",
        every(stated(at, "blur", "pocus", usfm=77.8) + stated(at, "blur", "butterfly", usfm=59.8)),
        how=FIVE,
    ),
    Claim(
        "R5",
        "5.4",
        "There USFM loses less than URFM, and is below both models on BUTTERFLY.",
        every(
            [
                *(less_lost("usfm", task) for task in ("pocus", "butterfly")),
                *(severe("blur", model, "usfm", "butterfly") for model in OURS),
            ]
        ),
        note="Not said: on POCUS USFM (77.8, from 85.7 in Table 2) is above US-JEPA (69.5) and "
        "loses least of the four: 7.9 points beside 23.6, 14.1 and 44.9.",
    ),
    Claim(
        "R6",
        "5.4",
        "Both models withstand blur well.",
        every(less_lost(model, task) for task in ("pocus", "butterfly") for model in OURS),
        how="each loses less than URFM at severity 3 on the two tasks of which numbers are given",
    ),
    Claim(
        "R7",
        "5.4",
        "Under contrast and speckle they match or exceed URFM and USFM on most tasks.",
        every(
            at_least(5, (on_par(task, name) for task in TASKS)) for name in ("contrast", "speckle")
        ),
        how="means of the two pairs of models at severity 3, at most 1 point below, on five tasks",
    ),
    Claim(
        "R8",
        "5.4",
        "GBCU, contrast of severity 3: URFM loses 8.9, they lose 47.",
        every(
            [
                *stated(lost, "contrast", "gbcu", urfm=8.9),
                about(
                    mean("ours on gbcu lose at contrast 3", OURS, ["gbcu"], "contrast", of=lost),
                    47.0,
                    within=5.0,
                ),
            ]
        ),
        how=f"points, mean of the two models; {FIVE}",
        note="In points, 47 of 67.0 and 70.2 leaves about 20 and 23, near what one "
        "constant answer gives in three classes; in percent of the score it would leave 36 and 37. "
        "The paper does not say which.",
    ),
    Claim(
        "R9",
        "5.4",
        "TN5000, contrast of severity 3: URFM loses 11, US-JEPA 23.2, USrc-JEPA 17.7.",
        every(stated(lost, "contrast", "tn5000", urfm=11.0, us_jepa=23.2, usrc_jepa=17.7)),
        how=f"points; {FIVE}",
    ),
    Claim(
        "R10",
        "5.4",
        "On the other six tasks the four are comparable under contrast.",
        every(
            lead(
                at(model, task, "contrast"),
                mean("", COMPARED, [task], "contrast"),
                f"{task}, {model} − usfm, urfm",
                COMPARABLE,
            )
            for task in others("gbcu", "tn5000", among=TASKS)
            for model in OURS
        ),
        how="at severity 3 each of ours is at most 10 points below the mean of URFM and USFM",
    ),
    Claim(
        "R11",
        "5.4",
        "BUTTERFLY, speckle of severity 3: US-JEPA loses 0.6, USrc-JEPA 9.8, USFM 25, URFM 44.6.",
        every(
            stated(lost, "speckle", "butterfly", us_jepa=0.6, usrc_jepa=9.8, usfm=25.0, urfm=44.6)
        ),
        how=f"points; {FIVE}",
    ),
    Claim(
        "R12",
        "5.4",
        "At speckle of severity 3 both match or exceed URFM on all tasks.",
        every(severe("speckle", m, "urfm", task, PAR) for m in OURS for task in TASKS),
        how="at most 1 point below",
        note="On AUL and TN5000 URFM starts 1.9 to 6.6 points higher (Table 2).",
    ),
    Claim(
        "R13",
        "5.4",
        "At speckle of severity 3 US-JEPA is above USFM on all eight tasks.",
        every(severe("speckle", "us-jepa", "usfm", task) for task in TASKS),
    ),
    Claim(
        "R14",
        "5.4",
        "At speckle of severity 3 USFM is below USrc-JEPA on four of the eight tasks.",
        at_least(4, (severe("speckle", "usrc-jepa", "usfm", task) for task in TASKS)),
        note='"Competitive on four" is not tested: it has no measure.',
    ),
    Claim(
        "R15",
        "5.4",
        "The widest gap between USrc-JEPA and USFM there is 34.39, on FATTY LIVER.",
        every(
            [
                about(gap("usrc-jepa", "usfm", "fatty_liver", "speckle"), 34.39, within=5.0),
                *(
                    lead(
                        gap("usrc-jepa", "usfm", "fatty_liver", "speckle"),
                        gap("usrc-jepa", "usfm", task, "speckle"),
                        f"gap on fatty_liver − gap on {task}",
                    )
                    for task in others("fatty_liver", among=TASKS)
                ),
            ]
        ),
        how=FIVE,
        note="The only number of the text with two decimals.",
    ),
)

# What no score decides. Counts are ours, from the tables as printed.
DISAGREEMENTS = (
    "Section 1.1 has 4.73 million frames of 49 data sets for pretraining, section 5.1.1 5,123,697 "
    "of 50. The rows of Table 3 add up to 5,124,146, of 50 named sources.",
    "Section 5.4 says that gallbladders are 0.27 % of the pretraining frames and explains the loss "
    "on GBCU with it; the gallbladder rows of Table 3 add up to 51,682 frames, 1.0 %. (Thyroids, "
    "264,441 frames or 5.2 %, agree.)",
    'Section 5.2 has its models second on two of "the remaining five" of eight tasks after being '
    "first on five; three remain.",
    'Drops in section 5.4 are in "%" without saying of what; the "9.5 %" of section 5.2 are '
    "points.",
    "Section 5.1.2 names Table 2 for the tasks' kinds of labels; that is Table 1.",
    "Equation 2 has an L1 loss and equation 5 a Smooth L1; Table 5 lists an EMA momentum though "
    "the teacher is frozen.",
    "Table 2 has 42.1 ± 0.0 for SAMUS, EchoCare and USF-MAE on FATTY LIVER: the macro F1 of one "
    "constant answer if 80 of the 110 test images are of that class (2 x 80 / 190 / 2 = 42.1), so "
    "these look like probes that learned nothing.",
    "Appendix A.2 calls TN5000 relatively balanced; it has 3,572 malignant images, 1,428 benign.",
)
