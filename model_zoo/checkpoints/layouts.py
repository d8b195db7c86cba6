"""Layouts: the names and wrappers under which released files hold a network's tensors.

A network here has one set of names. Each layout says, for each of them, which tensors of the file
make it up; so errors speak in the file's own names, and the same weights in two layouts give the
same network and the same fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model_zoo.checkpoints import files, parts
from model_zoo.checkpoints.files import (
    KeyReport,
    WeightsSource,
    matches,
    tensors_of,
    without_prefix,
)
from model_zoo.checkpoints.parts import HEADS, Part
from ultrabench_eval.core.errors import UserError


def stacked(parts: list[Tensor]) -> Tensor:
    """The parts one below the other (query, key, value); a single part as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def without_key_bias(parts: list[Tensor]) -> Tensor:
    """Attention biases of queries and values, [D] each, with zeros for the keys between: [3 D].

    Of one part, [3 D], the middle third is set to zero.
    """
    if len(parts) == 1:
        query, _, value = parts[0].chunk(3)
    else:
        query, value = parts
    return torch.cat([query, torch.zeros_like(query), value])


class Recipe(NamedTuple):
    """How one tensor of the network is made from tensors of the file."""

    keys: tuple[str, ...]
    """Names in the file. None: the network keeps the value it was built with."""
    join: Callable[[list[Tensor]], Tensor] = stacked


@dataclass(frozen=True)
class Layout:
    """One way a network is stored."""

    name: str = "own"
    recipe: Callable[[str], Recipe] = lambda key: Recipe((key,))
    """The recipe of each of the network's names; by default the names are the same."""
    marker: str = ""
    """A key that only this layout has; the first layout of a model needs none."""
    leftovers: tuple[str, ...] = ()
    """Patterns of keys that the encoder is known not to use."""
    leftover_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of leftovers, where a file has them: of a decoder that tells two models apart whose
    encoders are alike."""
    foreign_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes that leftovers have in files of another model, whose other names are the same."""
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors the file must hold with these values (real ones to 1 %), because the network has
    them built in."""


class Filled(NamedTuple):
    """Which part of a file filled a network, and how it was named."""

    entry: str
    """Wrapper in the file; "" for its top level."""
    layout: str


def fill(
    network: nn.Module,
    content: Mapping[str, Any],
    *,
    name: str,
    source: WeightsSource,
    entries: tuple[str, ...] = ("",),
    layouts: tuple[Layout, ...] = (Layout(),),
    prefixes: tuple[str, ...] = ("module.",),
    heads: tuple[str, ...] = HEADS,
) -> Filled:
    """Fill every parameter and buffer of `network` from a checkpoint; all or nothing.

    A file that holds no name of the network in the released places is searched for it, see
    `parts`. A classifier behind the network is left out.

    Args:
        network: filled in place.
        content: a checkpoint, as `weights.read` gives it.
        name: the model's name, for errors.
        source: where the content comes from; its entry, if any, goes before `entries`.
        entries: wrappers to look in, "" for the top level. The first that holds tensors is the
            one: another is not tried if that does not fit.
        layouts: the model's layouts; the first is the authors'.
        prefixes: taken off one after the other where all keys have them, but for leftovers.
        heads: patterns of a classifier's keys, which are left out, and told.

    Raises:
        UserError: no such entry; a key is missing, unexpected or of another shape; a value is not
            finite, of another kind, or not the constant it must be.
    """
    own = network.state_dict()
    filling = _Filling(own, layouts, heads)
    part = _part(content, source, entries)
    if part is not None:
        part = part._replace(tensors=filling.without(prefixes, part.tensors))
    if part is None or not filling.knows(part.tensors):
        part = parts.fitting(content, filling.names, filling.report, name=name, source=source)
    layout = filling.layout(part.tensors)
    where = WeightsSource(source.path, part.entry or None)
    report, values = filling.assembled(part.tensors)
    if not report.fits:
        raise UserError(
            f"{where} does not fit model '{name}': {report}; "
            f"give the checkpoint that was made for '{name}'{parts.told(content, source.path)}"
        )
    _check_values(own, part.tensors, filling.recipes(layout), layout, where, name)
    network.load_state_dict(values)
    used = {key for recipe in filling.recipes(layout).values() for key in recipe.keys}
    known = (*layout.leftovers, *layout.constants)
    dropped = [key for key in part.tensors if key not in used and not matches(key, known)]
    files.tell(where, (*dropped, *part.beside))
    return Filled(part.entry, layout.name)


@dataclass(frozen=True)
class _Filling:
    """What a network wants of a file, by its layouts."""

    own: Mapping[str, Tensor]
    layouts: tuple[Layout, ...]
    heads: tuple[str, ...]

    def recipes(self, layout: Layout) -> dict[str, Recipe]:
        """How each of the network's tensors is made."""
        return {key: layout.recipe(key) for key in self.own}

    @property
    def names(self) -> tuple[str, ...]:
        """Of all tensors that any layout takes from a file, in the network's order."""
        recipes = (self.recipes(layout).values() for layout in self.layouts)
        keys = (key for of_one in recipes for recipe in of_one for key in recipe.keys)
        return tuple(dict.fromkeys(keys))

    def without(self, prefixes: tuple[str, ...], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors without those prefixes that all have, but for leftovers."""
        leftovers = tuple(pattern for layout in self.layouts for pattern in layout.leftovers)
        tensors = parts.unwrapped(tensors)
        for prefix in prefixes:
            tensors = without_prefix(tensors, prefix, leftovers)
        return tensors

    def knows(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether any of them has a name that is wanted."""
        return not set(self.names).isdisjoint(tensors)

    def layout(self, tensors: Mapping[str, Tensor]) -> Layout:
        """The layout that tensors are in."""
        marked = (one for one in self.layouts if one.marker and one.marker in tensors)
        return next(marked, self.layouts[0])

    def report(self, part: Part) -> KeyReport:
        """How a part of a file compares with the network."""
        return self.assembled(part.tensors)[0]

    def assembled(self, tensors: Mapping[str, Tensor]) -> tuple[KeyReport, dict[str, Tensor]]:
        """How tensors compare with the network, and its values by them."""
        layout = self.layout(tensors)
        return _assemble(self.own, self.recipes(layout), tensors, layout, self.heads)


def _part(
    content: Mapping[str, Any], source: WeightsSource, entries: tuple[str, ...]
) -> Part | None:
    """The part that the user named, or the first of the entries that holds tensors."""
    top = tensors_of(content)
    if source.entry:
        start = source.entry + "."
        for holder in (content, content.get("state_dict"), content.get("model")):
            if not isinstance(holder, dict):
                continue
            inner = holder.get(source.entry)
            within = tensors_of(inner if isinstance(inner, dict) else holder)
            under = {key: value for key, value in within.items() if key.startswith(start)}
            tensors = within if isinstance(inner, dict) else without_prefix(under, start)
            if tensors:
                return Part(source.entry, tensors, ())
        return None
    for entry in entries:
        inner = content.get(entry)
        tensors = (tensors_of(inner) if isinstance(inner, dict) else {}) if entry else top
        if tensors:
            return Part(entry, tensors, ())
    return None


def _assemble(
    own: Mapping[str, Tensor],
    recipes: Mapping[str, Recipe],
    tensors: Mapping[str, Tensor],
    layout: Layout,
    heads: tuple[str, ...],
) -> tuple[KeyReport, dict[str, Tensor]]:
    """The network's values, and what stands against them."""
    wanted = [key for recipe in recipes.values() for key in recipe.keys]
    wanted += layout.constants
    missing = [key for key in dict.fromkeys(wanted) if key not in tensors]
    used = set(wanted)
    leftovers = (*layout.leftovers, *heads)
    unexpected = [key for key in tensors if key not in used and not matches(key, leftovers)]
    foreign = layout.foreign_shapes.items()
    unexpected += [key for key, shape in foreign if key in tensors and tensors[key].shape == shape]
    known = {key: value.shape for key, value in layout.constants.items()}
    reshaped = [
        f"{key}: {list(tensors[key].shape)} in the file, {list(shape)} in the model"
        for key, shape in (known | dict(layout.leftover_shapes)).items()
        if key in tensors and tensors[key].shape != shape
    ]
    values = {}
    for key, recipe in recipes.items():
        given = [tensors[part] for part in recipe.keys if part in tensors]
        if len(given) < len(recipe.keys):
            continue
        try:
            value = recipe.join(given) if given else own[key]
        except (RuntimeError, ValueError):  # parts that do not go together
            value = None
        if value is None or value.shape != own[key].shape:
            shapes = ", ".join(f"{p}: {list(tensors[p].shape)}" for p in recipe.keys)
            reshaped.append(f"{shapes} in the file, {list(own[key].shape)} in the model")
        else:
            values[key] = value
    return KeyReport(missing, unexpected, reshaped), values


def _check_values(
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    recipes: Mapping[str, Recipe],
    layout: Layout,
    where: WeightsSource,
    name: str,
) -> None:
    filled = {part: own[key] for key, recipe in recipes.items() for part in recipe.keys}
    files.check_kinds({part: (tensors[part], one) for part, one in filled.items()}, where)
    for key in dict.fromkeys(key for recipe in recipes.values() for key in recipe.keys):
        # By the extremes, which takes a quarter of the time of looking at each number.
        if tensors[key].is_floating_point() and not _finite(tensors[key]):
            raise UserError(
                f"{where} holds NaN or infinite numbers in {key}; the training diverged or the "
                "file is damaged: take another checkpoint"
            )
    for key, value in layout.constants.items():
        if not _same(tensors[key], value):
            raise UserError(
                f"{where} holds other numbers in {key} than model '{name}' is built with; "
                f"give the checkpoint that was made for '{name}'"
            )


def _finite(tensor: Tensor) -> bool:
    return tensor.numel() == 0 or bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def _same(given: Tensor, value: Tensor) -> bool:
    if not value.is_floating_point():
        return torch.equal(given.to(value.dtype), value)
    if not given.is_floating_point():
        return False
    # Files store such tables in bfloat16 too.
    return torch.allclose(given.float(), value.float(), rtol=1e-2, atol=1e-6)
