"""The probes as scikit-learn estimators, for features of one's own.

    classifier = ProbeClassifier("linear", protocol="tuned", seeds=5)
    classifier.fit(X, y, groups=patients)
    classifier.predict_proba(X_test)

What is trained is the very probe of `ubench run`. N is the number of samples, D the feature width,
T of tokens, C of classes.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ultrabench_eval import probes
from ultrabench_eval import protocol as protocols
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.feature_rows import InMemory
from ultrabench_eval.probes.heads import DataOf, Probes, streams
from ultrabench_eval.protocol import Protocol
from ultrabench_eval.task_types import calibration


class ProbeClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A probe of the harness, trained and selected as `ubench run` does it.

    The setting (learning rate, penalty, number of neighbours ...) and the epoch are those of the
    lowest loss on validation samples, which are never trained on. They are given to `fit`, or
    drawn from the training samples: whole groups, stratified by class. Where there are too few to
    hold some back, a warning says that all are validated on themselves.

    It passes scikit-learn's `check_estimator` with each of the probes on pooled features. The
    attentive probe reads tokens [N, T, D], which those checks have not.

    Args:
        probe: "linear", "logistic", "ridge", "knn", "attentive", or a plugin's.
        protocol: "paper", "tuned", a YAML file, or a `Protocol`.
        seeds: how many probes are trained, with seeds 0 ... n-1; probabilities are their mean.
        validation: part of the samples that is drawn where none are given, in (0, 0.5].
        calibrated: apply to each seed's probabilities the temperature that is fitted on validation.

    Attributes:
        classes_: the C labels, sorted.
        probes_: the trained stack, one head per seed.
        temperatures_: of each seed, float64; 1 where `calibrated` is false.
        n_features_in_: D.

    Raises:
        UserError: in `fit`, there is no such probe or protocol, or the probe is not for classes.
        ValueError: in `fit`, as scikit-learn's estimators: one class, NaN, shapes that differ.
    """

    def __init__(
        self,
        probe: str = "linear",
        *,
        protocol: str | Path | Protocol = "paper",
        seeds: int = 1,
        validation: float = 0.2,
        calibrated: bool = True,
    ) -> None:
        self.probe = probe
        self.protocol = protocol
        self.seeds = seeds
        self.validation = validation
        self.calibrated = calibrated

    def fit(
        self,
        X: Any,
        y: Any,
        groups: Any = None,
        validation: tuple[Any, Any] | None = None,
    ) -> Self:
        """Train on samples.

        Args:
            X: [N, D], or tokens [N, T, D] for a probe that reads them; float64 is computed in
                float64, all else in float32.
            y: N labels of any kind.
            groups: N patients or videos, so that no validation sample is of a patient that is
                trained on; None if each sample is of another.
            validation: X and y to validate on; None: drawn from the samples.
        """
        if (kind := probes.get(self.probe).predicts) != "classes":
            raise UserError(f"the probe '{self.probe}' predicts {kind}; name one for classes")
        if probes.get(self.probe).reads == "images":
            raise UserError(
                f"the probe '{self.probe}' trains a network and takes no features; name "
                "another, or use ubench run --protocol finetune"
            )
        x, labels = self._checked(X, y)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"{type(self).__name__} needs two classes; y has 1 class")
        if validation is None:
            rows, held = self._drawn(codes, groups)
            train = x[rows], codes[rows]
            other = x[held], codes[held]
        else:
            given_x, given_y = self._checked(*validation, reset=False)
            unknown = sorted(set(given_y.tolist()) - set(self.classes_.tolist()))
            if unknown:
                raise ValueError(f"labels of the validation samples that y lacks: {unknown}")
            train, other = (x, codes), (given_x, np.searchsorted(self.classes_, given_y))
        train_x, train_y, other_x, other_y = map(torch.from_numpy, (*train, *other))
        data: DataOf[Any] = DataOf(
            self._read(train_x), train_y, self._read(other_x), other_y, len(self.classes_)
        )
        known = self.protocol
        known = known if isinstance(known, Protocol) else protocols.load(known)
        draws = streams(len(train[0]), len(other[0]), range(self.seeds), None, None)
        self.probes_: Probes = probes.get(self.probe).train(data, draws, known).chosen()
        of_seeds = self.probes_.predict(data.validation_x).numpy()
        self.temperatures_ = np.array(
            [calibration.temperature(p, other[1]) if self.calibrated else 1.0 for p in of_seeds]
        )
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities, float64 [N, C] in the order of `classes_`."""
        check_is_fitted(self)
        x = self._read(torch.from_numpy(self._checked(X, reset=False)[0]))
        of_seeds = self.probes_.predict(x).numpy()
        if self.calibrated:
            of_seeds = calibration.apply(of_seeds, self.temperatures_[:, None])
        mean = of_seeds.mean(0, dtype=np.float64)
        return np.asarray(mean / mean.sum(1, keepdims=True))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each sample, N labels."""
        probable = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[probable])

    def _read(self, x: torch.Tensor) -> Any:
        """As the probe reads it."""
        return InMemory(x) if probes.get(self.probe).reads == "tokens" else x

    def _checked(self, X: Any, y: Any = "no_validation", reset: bool = True) -> tuple[Any, Any]:
        tokens = probes.get(self.probe).reads == "tokens"
        dtype: Any = [np.float32, np.float64] if reset else self._dtype
        found = validate_data(self, X, y, reset=reset, dtype=dtype, order="C", allow_nd=tokens)
        x, labels = found if isinstance(found, tuple) else (found, None)
        if tokens and x.ndim != 3:
            raise ValueError(
                f"the probe '{self.probe}' reads tokens [N, T, D]; X has the shape {x.shape}"
            )
        self._dtype: Any = x.dtype
        return np.array(x), labels  # a copy: torch takes no array that may not be written to

    def _drawn(self, codes: np.ndarray, groups: Any) -> tuple[np.ndarray, np.ndarray]:
        """Rows to train and to validate on; every class keeps a training sample."""
        count = len(codes)
        of = np.arange(count) if groups is None else np.asarray(groups)
        if len(of) != count:
            raise ValueError(f"there are {count} samples and {len(of)} groups")
        parts = min(
            max(2, round(1 / self.validation)), int(np.bincount(codes).min()), len(np.unique(of))
        )
        if parts > 1:
            folds = StratifiedGroupKFold(parts, shuffle=True, random_state=0)
            for rows, held in folds.split(codes, codes, of):
                if len(held) and len(np.unique(codes[rows])) == len(np.unique(codes)):
                    return rows, held
        warnings.warn(
            "too few samples or groups of a class to hold some back: the setting is chosen on the "
            "training samples; give validation samples to fit()",
            stacklevel=3,
        )
        return np.arange(count), np.arange(count)
