"""What the US-JEPA paper (arXiv 2602.19322) says of its numbers, as data.

Sentences are paraphrased. Where a claim is a word ("clearly", "on par"), `how` says what it was
taken to mean. The paper writes "%" for points of macro F1 where Table 2 lets it be seen (+9.5 %
on MMOTU is 52.2 - 42.7), so drops are read as points.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ultrabench_eval.report.paper.published import US_JEPA
from ultrabench_eval.report.paper.quantities import (
    About,
    Above,
    AtLeast,
    Below,
    Best,
    Condition,
    Mean,
    Minus,
    Quantity,
    Ratio,
    ScorePlace,
    ScoreQuantity,
    every,
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
FRACTIONS = (1, 5, 10, 50)
PAR = 1.0  # points that "on par", "match" allow
COMPARABLE = 10.0  # points that "comparable" allows between means of two models


# ---- words of the claims ------------------------------------------------------------------------


def at(
    model: str, task: str, fraction: int = 100, corruption: str = "none", severity: int = 0
) -> ScoreQuantity:
    """A score."""
    return ScoreQuantity(ScorePlace(model, task, fraction, corruption, severity))


def lost(model: str, task: str, corruption: str) -> Minus:
    """Points lost from uncorrupted images to severity 3."""
    worse = at(model, task, 100, corruption, 3)
    return Minus(at(model, task), worse, f"{model} on {task} loses at {corruption} 3")


def mean(
    models: Iterable[str],
    task: str,
    name: str,
    *,
    fraction: int = 100,
    corruption: str = "none",
    severity: int = 0,
) -> Mean:
    """Mean of models on a task."""
    return Mean(tuple(at(m, task, fraction, corruption, severity) for m in models), name)


def best(models: Iterable[str], task: str, name: str = "best baseline") -> Best:
    """The best of models on a task."""
    return Best(tuple(at(model, task) for model in models), name)


def lead(ours: Quantity, theirs: Quantity, name: str, margin: float = 0.0) -> Above:
    """Ours is above theirs, or at most `margin` points below."""
    return Above(Minus(ours, theirs, name), -margin)


def first(models: Iterable[str], others: Iterable[str], task: str) -> Above:
    """The best of models is above all others on a task."""
    return lead(best(models, task), best(others, task), f"{task}, ahead by")


def over_tasks(model: str) -> Mean:
    """A model's mean over the tasks."""
    return Mean(tuple(at(model, task) for task in TASKS), f"{model}, mean of tasks")


def second_to(task: str, leader: str) -> AtLeast:
    """One of ours is behind `leader` and above all others on a task."""
    rest = [model for model in BASELINES if model != leader]
    return every(
        lead(at(leader, task), best(OURS, task), f"{task}, {leader} − best of ours"),
        lead(best(OURS, task), best(rest, task), f"{task}, best of ours − the others"),
    )


# ---- the claims ---------------------------------------------------------------------------------

ABSTRACT = (
    Claim(
        "A1",
        "abstract",
        "By linear probes both models are level with or above the ultrasound and the universal "
        "baselines.",
        every(
            *(
                lead(
                    over_tasks(model),
                    Best(tuple(over_tasks(b) for b in BASELINES), "best baseline"),
                    f"{model}, mean of tasks − best baseline's",
                    PAR,
                )
                for model in OURS
            )
        ),
        how="the mean over the eight tasks is at most 1 point below that of the best baseline",
    ),
    Claim(
        "A2",
        "4.1",
        "The teacher, URFM, is consistently the best of the baselines.",
        AtLeast(
            len(TASKS),
            tuple(first(["urfm"], [b for b in BASELINES if b != "urfm"], task) for task in TASKS),
        ),
        how="it is first among the baselines on each task",
        note="It is first on five of eight tasks and by their mean, but second on BUTTERFLY, "
        "third on GBCU and fifth on BUSBRA.",
    ),
)

PROBING = (
    Claim(
        "P1",
        "5.2",
        "One of the two models is best on five of the eight tasks.",
        AtLeast(5, tuple(first(OURS, BASELINES, task) for task in TASKS)),
        note="US-JEPA alone is first on MMOTU and POCUS, USrc-JEPA alone on BUSBRA, FATTY LIVER "
        "and GBCU: no single model is best on five.",
    ),
    Claim(
        "P2",
        "5.2",
        "The five are BUSBRA, FATTY LIVER, GBCU, MMOTU and POCUS.",
        every(
            *(
                first(OURS, BASELINES, task)
                for task in ("busbra", "fatty_liver", "gbcu", "mmotu", "pocus")
            )
        ),
    ),
    Claim(
        "P3",
        "5.2",
        "They are second on AUL and TN5000.",
        every(second_to("aul", "urfm"), second_to("tn5000", "urfm")),
        note='The paper says two of "the remaining five" tasks; three of eight remain.',
    ),
    Claim(
        "P4",
        "5.2",
        "On BUTTERFLY they are less than 2 points below the best baseline.",
        every(
            *(
                Below(
                    Minus(
                        best(BASELINES, "butterfly"),
                        at(model, "butterfly"),
                        f"best baseline − {model}",
                    ),
                    2.0,
                )
                for model in OURS
            )
        ),
    ),
    Claim(
        "P5",
        "5.2",
        "On MMOTU the baselines are below 40 on average.",
        Below(mean(BASELINES, "mmotu", "mean of the baselines"), 40.0),
    ),
    Claim("P6", "5.2", "US-JEPA reaches 52.2 on MMOTU.", About(at("us-jepa", "mmotu"), 52.2)),
    Claim(
        "P7",
        "5.2",
        "That is 9.5 above the best baseline on MMOTU, URFM.",
        every(
            About(Minus(at("us-jepa", "mmotu"), at("urfm", "mmotu"), "us-jepa − urfm"), 9.5),
            first(["urfm"], [b for b in BASELINES if b != "urfm"], "mmotu"),
        ),
        note="Points, written as %.",
    ),
    Claim(
        "P8",
        "5.2",
        "URFM is strong on AUL and TN5000.",
        every(
            *(
                first(["urfm"], [m for m in (*BASELINES, *OURS) if m != "urfm"], task)
                for task in ("aul", "tn5000")
            )
        ),
        how="it is first of all",
    ),
    Claim(
        "P9",
        "5.2",
        "On the six other tasks they are clearly above the universal models, DINOv3 and I-JEPA.",
        every(*(first(OURS, GENERAL, task) for task in TASKS if task not in ("aul", "tn5000"))),
        how="the better of ours is above both, by whatever margin",
        note="On BUTTERFLY DINOv3 (91.7) is above USrc-JEPA (91.5) and US-JEPA (90.8).",
    ),
    Claim(
        "P10",
        "5.2",
        "On the six other tasks they are above most of the six ultrasound baselines.",
        every(
            *(
                AtLeast(
                    4,
                    tuple(lead(best(OURS, task), at(model, task), model) for model in DOMAIN),
                    task,
                )
                for task in TASKS
                if task not in ("aul", "tn5000")
            )
        ),
        how="the better of ours is above at least four of six on each task",
        note="On BUTTERFLY the better of ours is above three, level with SAMUS (91.5) and below "
        "USFM and URFM.",
    ),
)

FEWSHOT = (
    Claim(
        "F1",
        "5.3",
        "With less than 10 % of FATTY LIVER's labels they are 18 above URFM and USFM on average.",
        About(
            Minus(
                Mean(
                    tuple(at(m, "fatty_liver", f) for m in OURS for f in (1, 5)), "ours at 1, 5 %"
                ),
                Mean(
                    tuple(at(m, "fatty_liver", f) for m in COMPARED for f in (1, 5)),
                    "usfm, urfm at 1, 5 %",
                ),
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
        Above(
            Minus(
                Mean(
                    tuple(
                        Minus(at(m, "pocus"), at(m, "pocus", f)) for m in COMPARED for f in (1, 5)
                    ),
                    "usfm, urfm lose at 1, 5 %",
                ),
                Mean(
                    tuple(Minus(at(m, "pocus"), at(m, "pocus", f)) for m in OURS for f in (1, 5)),
                    "ours lose",
                ),
            )
        ),
        how="points from 100 % to 1 % and 5 %, mean over the models",
    ),
    Claim(
        "F3",
        "5.3",
        "With few labels they are at least on par with URFM and USFM on BUSBRA, MMOTU and AUL.",
        every(
            *(
                lead(
                    mean(OURS, task, "ours", fraction=fraction),
                    mean(COMPARED, task, "usfm, urfm", fraction=fraction),
                    f"{task} with {fraction} %, ours − usfm, urfm",
                    PAR,
                )
                for task in ("busbra", "mmotu", "aul")
                for fraction in (1, 5, 10)
            )
        ),
        how="means of the two pairs of models at 1, 5 and 10 %, at most 1 point below",
    ),
    Claim(
        "F4",
        "appendix D",
        "URFM and USFM are the most competitive baselines.",
        every(
            *(
                lead(
                    over_tasks(model),
                    Best(
                        tuple(over_tasks(b) for b in BASELINES if b not in COMPARED),
                        "best of the other baselines",
                    ),
                    f"{model}, mean of tasks − best other baseline's",
                )
                for model in COMPARED
            )
        ),
        how="the two highest means over the eight tasks",
    ),
)


def printed_at(corruption: str, task: str, **values: float) -> AtLeast:
    """Scores at severity 3 that the text prints; `_` in a keyword stands for `-`."""
    return every(
        *(
            About(at(model.replace("_", "-"), task, 100, corruption, 3), value, within=5.0)
            for model, value in values.items()
        )
    )


def printed_losses(corruption: str, task: str, **values: float) -> AtLeast:
    """Points lost at severity 3 that the text prints."""
    return every(
        *(
            About(lost(model.replace("_", "-"), task, corruption), value, within=5.0)
            for model, value in values.items()
        )
    )


def severe(corruption: str, model: str, other: str, task: str, margin: float = 0.0) -> Above:
    """A model is above another at severity 3 on a task."""
    return lead(
        at(model, task, 100, corruption, 3),
        at(other, task, 100, corruption, 3),
        f"{task}, {model} − {other}",
        margin,
    )


FIVE = "give or take 5 points in a run"

ROBUSTNESS = (
    Claim(
        "R1",
        "5.4",
        "POCUS, blur of severity 3: URFM falls from 91.7 to 46.8, nearly half of it.",
        every(
            About(at("urfm", "pocus"), 91.7, within=5.0),
            *printed_at("blur", "pocus", urfm=46.8).conditions,
            Below(
                Ratio(
                    at("urfm", "pocus", 100, "blur", 3),
                    at("urfm", "pocus"),
                    "urfm on pocus keeps at blur 3, %",
                ),
                55.0,
            ),
        ),
        how=FIVE,
    ),
    Claim(
        "R2",
        "5.4",
        "POCUS, blur of severity 3: US-JEPA and USrc-JEPA keep 69.5 and 78.4.",
        printed_at("blur", "pocus", us_jepa=69.5, usrc_jepa=78.4),
        how=FIVE,
    ),
    Claim(
        "R3",
        "5.4",
        "BUTTERFLY, blur of severity 3: URFM 22.4, US-JEPA 80.8, USrc-JEPA 70.9.",
        printed_at("blur", "butterfly", urfm=22.4, us_jepa=80.8, usrc_jepa=70.9),
        how=FIVE,
    ),
    Claim(
        "R4",
        "5.4",
        "Blur of severity 3: USFM falls to 77.8 on POCUS and 59.8 on BUTTERFLY.",
        every(
            *printed_at("blur", "pocus", usfm=77.8).conditions,
            *printed_at("blur", "butterfly", usfm=59.8).conditions,
        ),
        how=FIVE,
    ),
    Claim(
        "R5",
        "5.4",
        "There USFM loses less than URFM, and is below both models on BUTTERFLY.",
        every(
            *(
                lead(lost("urfm", task, "blur"), lost("usfm", task, "blur"), f"{task}, urfm − usfm")
                for task in ("pocus", "butterfly")
            ),
            *(severe("blur", model, "usfm", "butterfly") for model in OURS),
        ),
        note="Not said: on POCUS USFM (77.8, from 85.7 in Table 2) is above US-JEPA (69.5) and "
        "loses least of the four: 7.9 points beside 23.6, 14.1 and 44.9.",
    ),
    Claim(
        "R6",
        "5.4",
        "Both models withstand blur well.",
        every(
            *(
                lead(lost("urfm", task, "blur"), lost(m, task, "blur"), f"{task}, urfm − {m}")
                for task in ("pocus", "butterfly")
                for m in OURS
            )
        ),
        how="each loses less than URFM at severity 3 on the two tasks of which numbers are given",
    ),
    Claim(
        "R7",
        "5.4",
        "Under contrast and speckle they match or exceed URFM and USFM on most tasks.",
        every(
            *(
                AtLeast(
                    5,
                    tuple(
                        lead(
                            mean(OURS, task, "ours", corruption=name, severity=3),
                            mean(COMPARED, task, "usfm, urfm", corruption=name, severity=3),
                            f"{task} at {name} 3, ours − usfm, urfm",
                            PAR,
                        )
                        for task in TASKS
                    ),
                )
                for name in ("contrast", "speckle")
            )
        ),
        how="means of the two pairs of models at severity 3, at most 1 point below, on five tasks",
    ),
    Claim(
        "R8",
        "5.4",
        "GBCU, contrast of severity 3: URFM loses 8.9, they lose 47.",
        every(
            *printed_losses("contrast", "gbcu", urfm=8.9).conditions,
            About(
                Mean(
                    tuple(lost(model, "gbcu", "contrast") for model in OURS),
                    "ours on gbcu lose at contrast 3",
                ),
                47.0,
                within=5.0,
            ),
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
        printed_losses("contrast", "tn5000", urfm=11.0, us_jepa=23.2, usrc_jepa=17.7),
        how=f"points; {FIVE}",
    ),
    Claim(
        "R10",
        "5.4",
        "On the other six tasks the four are comparable under contrast.",
        every(
            *(
                Above(
                    Minus(
                        at(m, task, 100, "contrast", 3),
                        mean(COMPARED, task, "usfm, urfm", corruption="contrast", severity=3),
                        f"{task}, {m} − usfm, urfm",
                    ),
                    -COMPARABLE,
                )
                for task in TASKS
                if task not in ("gbcu", "tn5000")
                for m in OURS
            )
        ),
        how="at severity 3 each of ours is at most 10 points below the mean of URFM and USFM",
    ),
    Claim(
        "R11",
        "5.4",
        "BUTTERFLY, speckle of severity 3: US-JEPA loses 0.6, USrc-JEPA 9.8, USFM 25, URFM 44.6.",
        printed_losses("speckle", "butterfly", us_jepa=0.6, usrc_jepa=9.8, usfm=25.0, urfm=44.6),
        how=f"points; {FIVE}",
    ),
    Claim(
        "R12",
        "5.4",
        "At speckle of severity 3 both match or exceed URFM on all tasks.",
        every(*(severe("speckle", m, "urfm", task, PAR) for m in OURS for task in TASKS)),
        how="at most 1 point below",
        note="On AUL and TN5000 URFM starts 1.9 to 6.6 points higher (Table 2).",
    ),
    Claim(
        "R13",
        "5.4",
        "At speckle of severity 3 US-JEPA is above USFM on all eight tasks.",
        every(*(severe("speckle", "us-jepa", "usfm", task) for task in TASKS)),
    ),
    Claim(
        "R14",
        "5.4",
        "At speckle of severity 3 USFM is below USrc-JEPA on four of the eight tasks.",
        AtLeast(4, tuple(severe("speckle", "usrc-jepa", "usfm", task) for task in TASKS)),
        note='"Competitive on four" is not tested: it has no measure.',
    ),
    Claim(
        "R15",
        "5.4",
        "The widest gap between USrc-JEPA and USFM there is 34.39, on FATTY LIVER.",
        every(
            About(
                Minus(
                    at("usrc-jepa", "fatty_liver", 100, "speckle", 3),
                    at("usfm", "fatty_liver", 100, "speckle", 3),
                    "fatty_liver, usrc-jepa − usfm",
                ),
                34.39,
                within=5.0,
            ),
            *(
                lead(
                    Minus(
                        at("usrc-jepa", "fatty_liver", 100, "speckle", 3),
                        at("usfm", "fatty_liver", 100, "speckle", 3),
                    ),
                    Minus(
                        at("usrc-jepa", task, 100, "speckle", 3),
                        at("usfm", task, 100, "speckle", 3),
                    ),
                    f"gap on fatty_liver − gap on {task}",
                )
                for task in TASKS
                if task != "fatty_liver"
            ),
        ),
        how=FIVE,
        note="The only number of the text with two decimals.",
    ),
)

CLAIMS: tuple[Claim, ...] = (*ABSTRACT, *PROBING, *FEWSHOT, *ROBUSTNESS)

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
