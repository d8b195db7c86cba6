"""Corruptions of test images: how much of a score is retained when the images get worse.

Two families: `paper` holds the three of the US-JEPA paper (appendix E.2), `physics` changes that a
scanner or a patient can cause, in physical units. Here they are only listed; the code is imported
when an image is corrupted. Severity 1, 2, 3 are the levels of a corruption, 0 the image as it is.
Of a video, each frame is corrupted by the same draw.

A third family is of videos alone: `temporal` changes which frames are shown when. Its controls have
one severity.

Anyone's is registered by a plugin file and belongs to the family `plugin`:
`ultrabench_eval.corrupt.register("salt", Corruption("salt", unit="%", levels=(1, 3, 10),
function=salt))`.

H, W are an image's height and width.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError, did_you_mean
from ultrabench_eval.core.registry import Registry

if TYPE_CHECKING:
    from tasks.samples.clips import Clip
    from tasks.samples.images import Image
    from tasks.task import ScanMask

TEMPORAL = "temporal"
FAMILIES = ("paper", "physics", TEMPORAL, "plugin")
SEVERITIES = (1, 2, 3)

Function = Callable[[np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]
"""See `Corruption.apply`."""


@dataclass(frozen=True)
class Corruption:
    """One way to make an image worse.

    Args:
        name: of ours also that of the function in the module of its family.
        family: one of `FAMILIES`.
        unit: of the levels, for tables and axes.
        levels: what severity 1, 2 and 3 mean, in `unit`; always from mild to hard. Of a temporal
            control one, which means nothing.
        version: of ours, raised whenever some pixel of some image would come out differently. Of a
            plugin's the code counts.
        needs_mask: the result depends on the ultrasound region.
        summary: one line for listings.
        function: of a plugin's; does what `apply` says, and is a function of its arguments alone.
    """

    name: str
    family: str = "plugin"
    unit: str = ""
    levels: tuple[float, ...] = (1, 2, 3)
    version: int = 1
    needs_mask: bool = False
    summary: str = "by a plugin"
    function: Function | None = None

    def apply(
        self, image: np.ndarray, mask: np.ndarray, level: float, rng: np.random.Generator
    ) -> np.ndarray:
        """The corrupted image, uint8 [H, W, 3], an array of its own.

        Args:
            image: uint8 RGB [H, W, 3]; not written into.
            mask: the ultrasound region, bool [H, W].
            level: in `unit`; any, not only one of `levels`.
            rng: what is drawn from it does not depend on `level`.

        Raises:
            UserError: a plugin's gives something else, or not the same twice.
        """
        if self.function is not None:
            return self._checked(self.function, image, mask, level, rng)
        module = importlib.import_module(f"{__name__}.{self.family}")
        result: np.ndarray = getattr(module, self.name)(image, mask, level, rng)
        return result

    def _checked(
        self,
        function: Function,
        image: np.ndarray,
        mask: np.ndarray,
        level: float,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """What anyone's function gives, if it is an image and the same if asked again."""
        given = image.copy(), mask.copy()
        for array in given:
            array.flags.writeable = False
        state = rng.bit_generator.state
        results = []
        for _ in range(2):
            rng.bit_generator.state = state
            results.append(np.array(function(*given, level, rng)))
        result, again = results
        if result.dtype != np.uint8 or result.shape != image.shape:
            raise UserError(
                f"corruption '{self.name}' gives {result.dtype} {list(result.shape)} for an image "
                f"of {list(image.shape)}; it must give uint8 of the same shape: correct its plugin"
            )
        if not np.array_equal(result, again):
            raise UserError(
                f"corruption '{self.name}' gives another image each time; draw from the generator "
                "that its function is given, and from no other"
            )
        return result

    @cached_property
    def revision(self) -> str:
        """What tells it from itself after a change: the version, or SHA-256 of a plugin's code."""
        if self.function is None:
            return str(self.version)
        from model_zoo import code_identity

        return code_identity.of([self.function], f"corruption '{self.name}'")

    def level(self, severity: int) -> float:
        """The level of severity 1, 2 or 3, in `unit`."""
        return self.levels[severity - 1]

    @property
    def severities(self) -> tuple[int, ...]:
        """Those that it has, from mild to hard."""
        return SEVERITIES[: len(self.levels)]

    @property
    def temporal(self) -> bool:
        """Whether it is of videos alone: it changes which frames are shown when, and no frame."""
        return self.family == TEMPORAL


CORRUPTIONS: dict[str, Corruption] = {
    corruption.name: corruption
    for corruption in (
        Corruption(
            "blur", "paper", "px of 224", (1, 2, 3), 1, False, "Gaussian blur of the whole image"
        ),
        Corruption(
            "contrast",
            "paper",
            "contrast kept",
            (0.7, 0.5, 0.3),
            1,
            True,
            "grey values shrunk towards the median of the ultrasound region",
        ),
        Corruption(
            "speckle",
            "paper",
            "noise sd before smoothing",
            (0.35, 0.70, 1.05),
            1,
            False,
            "multiplicative Gaussian noise with growing grains",
        ),
        Corruption(
            "attenuation",
            "physics",
            "dB at the far end",
            (6, 12, 18),
            1,
            True,
            "echoes lost with depth, as behind fat or at too high a frequency",
        ),
        Corruption(
            "dynamic_range",
            "physics",
            "dB displayed",
            (54, 48, 42),
            1,
            True,
            "the dark end of the display range cut off",
        ),
        Corruption(
            "gain",
            "physics",
            "dB rms over depth",
            (3, 6, 9),
            1,
            True,
            "time-gain sliders set wrong, each by a random amount",
        ),
        Corruption(
            "lateral_resolution",
            "physics",
            "beam width, % of the field",
            (1.5, 3, 6),
            1,
            True,
            "a wider beam: echoes smeared across depth",
        ),
        Corruption(
            "shadow",
            "physics",
            "dB in the shadow",
            (10, 20, 30),
            1,
            True,
            "one to three acoustic shadows from a random depth downwards",
        ),
        Corruption(
            "speckle_looks",
            "physics",
            "looks",
            (4, 2, 1),
            1,
            True,
            "more speckle: gamma noise of so many looks on the echo intensity",
        ),
    )
}
"""Ours, in the order in which pages show them; `known` has those of plugins too."""

TEMPORAL_CORRUPTIONS: dict[str, Corruption] = {
    name: Corruption(name, TEMPORAL, unit, levels, summary=summary)
    for name, unit, levels, summary in (
        ("shuffled", "", (1,), "control: the frames in a random order"),
        ("reversed", "", (1,), "control: the frames backwards"),
        ("repeated", "", (1,), "control: one frame all the time"),
        ("dropped", "% of the frames", (20, 40, 60), "lost frames show the one before"),
        ("jitter", "sd in frame spacings", (0.5, 1, 2), "frames of other moments"),
        ("speed", "times as slow", (1.5, 2, 4), "the video runs more slowly"),
    )
}
"""Those of videos alone (`temporal`)."""
CONTROLS = tuple(one.name for one in TEMPORAL_CORRUPTIONS.values() if len(one.levels) == 1)
"""What tasks of videos are tested with by default: does the order of frames count?"""

registry: Registry[Corruption] = Registry(
    "corruption", group="ultrabench_eval.corruptions", listing="ubench run --help"
)
for _one in (*CORRUPTIONS.values(), *TEMPORAL_CORRUPTIONS.values()):
    registry.register(_one.name, _one)
_described: dict[str, Corruption] = {}


def register(name: str, corruption: Corruption) -> Any:
    """Make a corruption known; `--corruptions NAME` asks for it.

    Raises:
        UserError: it has no function, is called otherwise itself, or has a name that cannot be
            asked for.
    """
    if corruption.name != name:
        raise UserError(
            f"the corruption '{corruption.name}' is registered as '{name}'; give it one name in "
            "both places"
        )
    if not isinstance(corruption.function, FunctionType) or corruption.family != "plugin":
        raise UserError(
            f"the corruption '{name}' has no function; give it `function`, written with def, "
            "and no family"
        )
    if not name.isidentifier() or name in (*FAMILIES, "all", "none"):
        raise UserError(
            f"a corruption cannot be called '{name}'; use letters, digits and _, and no name of a "
            "family"
        )
    levels = [float(level) for level in corruption.levels]
    if len(levels) != len(SEVERITIES) or not np.isfinite(levels).all():
        raise UserError(f"the corruption '{name}' needs three levels, from mild to hard")
    mild, middle, hard = levels
    return registry.register(name, replace(corruption, levels=(mild, middle, hard)))


def known() -> dict[str, Corruption]:
    """All corruptions by name: ours in their order, then those of plugins."""
    return {name: find(name) for name in _names()}


def names(families: str) -> list[str]:
    """Names of corruptions, each once.

    Args:
        families: "none" or "" for an empty list, or a comma list of names, families and "all",
            which is all that images can have; "temporal" is named by itself.

    Raises:
        UserError: a name is unknown.
    """
    if families.strip() in ("", "none"):
        return []
    found: dict[str, None] = {}
    for part in families.split(","):
        word = part.strip()
        if word in registry:
            found[word] = None
        elif word == "all" or word in FAMILIES:
            families_of_all = [family for family in FAMILIES if family != TEMPORAL]
            meant = families_of_all if word == "all" else [word]
            found |= {c.name: None for c in known().values() if c.family in meant}
        else:
            raise UserError(_unknown(word))
    return list(found)


def find(name: str) -> Corruption:
    """The corruption called `name`.

    Raises:
        UserError: there is none.
    """
    if name not in registry:
        raise UserError(_unknown(name))
    found: Corruption = CORRUPTIONS.get(name) or registry.get(name)
    return found


def reordered(
    positions: Sequence[int], name: str, severity: int, *, at: int | None, seed: int
) -> list[int]:
    """The positions of a video's frames by a temporal corruption, as many as before.

    Args:
        positions: of the frames that an encoder is shown, in order.
        name: of a temporal corruption.
        severity: 0 (as they are), or one that it has.
        at: the position that is labelled, one of `positions`, or None.
        seed: of the video; see `corrupt`.

    Raises:
        UserError: the name is unknown, or the severity none that it has.
    """
    corruption = find(name)
    _check_severity(severity, corruption)
    if severity == 0:
        return list(positions)
    rng = np.random.default_rng(hashing.seed_for(seed, f"corruption/{name}"))
    module = importlib.import_module(f"{__name__}.{corruption.family}")
    found: list[int] = getattr(module, name)(positions, at, corruption.level(severity), rng)
    return found


def describe(found: Iterable[Corruption]) -> None:
    """Have pages know corruptions as results describe them, without their plugins."""
    _described.update((one.name, one) for one in found)


def told(name: str) -> Corruption:
    """What pages say of a corruption: as `find`, else as results describe it."""
    return find(name) if name in registry else _described.get(name, Corruption(name))


def order(name: str) -> tuple[int, str]:
    """By which pages sort corruptions: ours first, as they are listed."""
    ours = [*CORRUPTIONS, *TEMPORAL_CORRUPTIONS]
    return (ours.index(name) if name in ours else len(ours)), name


def condition(name: str) -> str:
    """Name and version, e.g. "blur-1", or a plugin's code: part of the key under which features are
    kept, and of the identity of results."""
    return f"{name}-{find(name).revision}"


def corrupt(
    image: np.ndarray, name: str, severity: int, *, mask: np.ndarray | None, seed: int
) -> np.ndarray:
    """The corrupted image, uint8 RGB [H, W, 3], an array of its own.

    The generator depends on `seed` and `name` only: the severities of one image share their random
    numbers, so that they differ by severity and not by chance.

    Args:
        image: uint8 RGB [H, W, 3]; not written into.
        severity: 0 (the image as it is) to 3.
        mask: the ultrasound region, bool [H, W]; None: the whole image.

    Raises:
        UserError: the name is unknown or of videos alone, or the severity not one of 0, 1, 2, 3.
        ValueError: wrong shape or type.
    """
    corruption = find(name)
    _check_severity(severity, corruption)
    if corruption.temporal:
        raise UserError(f"'{name}' changes the time of a video; choose a corruption of images")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be uint8 [H, W, 3], not {image.dtype} {image.shape}")
    if mask is None:
        mask = np.ones(image.shape[:2], bool)
    if mask.dtype != np.bool_ or mask.shape != image.shape[:2]:
        raise ValueError(f"mask must be bool {image.shape[:2]}, not {mask.dtype} {mask.shape}")
    if severity == 0 or (corruption.needs_mask and not mask.any()):
        return image.copy()
    rng = np.random.default_rng(hashing.seed_for(seed, f"corruption/{name}"))
    return corruption.apply(image, mask, corruption.level(severity), rng)


@dataclass(frozen=True)
class CorruptedImage:
    """An image of a task, corrupted when it is read; itself an image as tasks hold them.

    Args:
        image: the original.
        scan_mask: its ultrasound region; None: the whole image.
        corruption: a name of `known()`.
        severity: 0 to 3.
        seed: of the run; every image has one of its own derived from it.
        known: the original's digest, if it was taken before; what is decoded is checked against it.
        known_mask: the same of the scan mask.

    Raises:
        UserError: on construction, if the corruption or the severity is not known.
    """

    image: Image
    scan_mask: ScanMask | None
    corruption: str
    severity: int
    seed: int
    known: str | None = None
    known_mask: str | None = None

    def __post_init__(self) -> None:
        _check_severity(self.severity, find(self.corruption))

    @property
    def name(self) -> str:
        """The original's: conditions of one image are paired by it."""
        return self.image.name

    def read(self, digest: str | None = None) -> np.ndarray:
        """The corrupted image, uint8 RGB [H, W, 3]; a pure function of contents and `seed`.

        Args:
            digest: what `digest()` gave; the image must still be the one that it was made from.

        Raises:
            UserError: image or mask are damaged, have changed, or differ in size.
        """
        original = self._unchanged(digest)
        return self._worse([self.image.read(original)], original)[0]

    def _unchanged(self, digest: str | None) -> str:
        """The original's digest.

        Raises:
            UserError: it is not the one that `digest` was made from.
        """
        mask = self.scan_mask if find(self.corruption).needs_mask else None
        seen = replace(self, known_mask=mask.digest()) if mask is not None else self
        if digest is not None and seen.digest() != digest:
            raise UserError(
                f"image {self.name} or its scan mask changed during the run; run it again"
            )
        return self._original()

    def _original(self) -> str:
        return self.known or self.image.digest()

    def _worse(self, frames: Sequence[np.ndarray], original: str) -> list[np.ndarray]:
        """Images of one size, each corrupted by the same draw."""
        if self.severity == 0:
            return list(frames)
        mask = None
        if self.scan_mask is not None and find(self.corruption).needs_mask:
            mask = self.scan_mask.read()
            if mask.shape != (size := frames[0].shape[:2]):
                raise UserError(
                    f"scan mask of {self.scan_mask.name} has {mask.shape[1]} x {mask.shape[0]} "
                    f"pixels, but the image has {size[1]} x {size[0]}; "
                    "copy both again from the release"
                )
        # By content: neither the order of a split nor the name of a file changes the noise.
        seed = hashing.seed_for(self.seed, f"image/{original}")
        return [
            corrupt(frame, self.corruption, self.severity, mask=mask, seed=seed) for frame in frames
        ]

    def digest(self) -> str:
        """SHA-256 of all that the pixels are made from; severity 0 is the original's own."""
        if self.severity == 0:
            return self._original()
        corruption = find(self.corruption)
        mask = self.scan_mask if corruption.needs_mask else None
        identity: dict[str, Any] = {
            "image": self._original(),
            "mask": mask and (self.known_mask or mask.digest()),
            "corruption": corruption.name,
            "version": corruption.version if corruption.function is None else corruption.revision,
            "severity": self.severity,
            "level": float(corruption.level(self.severity)),
            "seed": self.seed,
        }
        return hashing.digest(identity)


@dataclass(frozen=True)
class CorruptedClip(CorruptedImage):
    """A video of a task, whose frames are corrupted when they are read, each by the same draw."""

    image: Clip  # type: ignore[assignment]

    @property
    def count(self) -> int:
        """Frames that there are."""
        return self.image.count

    @property
    def rate(self) -> float | None:
        """Frames per second, as the video says."""
        return self.image.rate

    @property
    def at(self) -> int | None:
        """The labelled frame."""
        return self.image.at

    @property
    def spacing(self) -> tuple[float, float] | None:
        """The video's."""
        return self.image.spacing

    @property
    def size(self) -> tuple[int, int]:
        """H and W."""
        return self.image.size

    def read(self, digest: str | None = None, positions: Sequence[int] | None = None) -> np.ndarray:
        """The frames at `positions`, all without any, uint8 RGB [T, H, W, 3]; as `CorruptedImage`.

        Raises:
            UserError: video or mask are damaged, have changed, or differ in size.
        """
        original = self._unchanged(digest)
        return np.stack(self._worse([*self.image.read(original, positions)], original))

    def stream(
        self, digest: str | None = None, positions: Iterable[int] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """What `read` gives one frame at a time, from the first to the last, each once."""
        original = self._unchanged(digest)
        for index, frame in self.image.stream(original, positions):
            yield index, self._worse([frame], original)[0]

    def frame(self, index: int) -> Image:
        """One corrupted frame, in memory."""
        from tasks.samples.images import ImageArray

        return ImageArray(self.read(None, [index])[0], self.image.frame(index).name)


def _names() -> list[str]:
    """Of all corruptions: ours in their order, then the others."""
    ours = [*CORRUPTIONS, *TEMPORAL_CORRUPTIONS]
    return [*ours, *sorted(set(registry.names()) - set(ours))]


def _check_severity(severity: int, corruption: Corruption) -> None:
    if severity not in (0, *corruption.severities):
        there = ", ".join(map(str, corruption.severities))
        raise UserError(f"severity {severity} is not one of 0 (as it is), {there}; choose one")


def _unknown(name: str) -> str:
    words = [*_names(), *FAMILIES, "all", "none"]
    return f"unknown corruption '{name}'{did_you_mean(name, words)} there are {', '.join(words)}"
