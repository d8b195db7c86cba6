"""Which part of a checkpoint is a network: found in whatever wraps it.

Training code keeps a network in dictionaries (`state_dict`, `teacher`) and under prefixes of keys
(`model.`, `module.encoder_q.`, `backbone.`). Every such part is looked at; one is taken only if it
fills the network to the last key, and it is the only one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from model_zoo.checkpoints import files
from model_zoo.checkpoints.files import KeyReport, WeightsSource
from model_zoo.encoder import RANDOM
from ultrabench_eval.core.errors import UserError

DEPTH = 4  # dictionaries in dictionaries
HEADS = (
    *("head.*", "heads.*", "head_dist.*", "fc.*", "_fc.*", "classifier.*", "last_linear.*"),
    *("mlp_head.*", "cls_head.*", "linear_head.*"),
)
"""Classifiers that training leaves behind a network, which gives features without them."""

# What torch's own wrappers put between the names of modules.
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")


class Part(NamedTuple):
    """Tensors of a checkpoint that lie under one dictionary and one prefix of keys."""

    entry: str
    """What names it after `PATH#`, such as "state_dict/model"; "" for the top level."""
    tensors: dict[str, Tensor]
    """Without the prefix."""
    beside: tuple[str, ...]
    """Keys of the same dictionary that lack the prefix, without what they share with it."""


class Chosen(NamedTuple):
    """The part that fits a network."""

    entry: str
    tensors: dict[str, Tensor]
    """Only what the network has."""
    dropped: tuple[str, ...]
    """Keys that it has not: a classifier, and what lies beside the network."""


def fill(
    network: nn.Module,
    path: Path | str | None,
    name: str = "",
    leftovers: tuple[str, ...] = (),
) -> nn.Module:
    """Fill every parameter and buffer of a network from a checkpoint file; all or nothing.

    The network is found in whatever wraps it (`state_dict`, `model.`, `module.`, ...), a classifier
    behind it is left out, and no code in the file is run.

    Args:
        network: filled in place.
        path: what `build` is given as `weights`: a file or folder, with `#entry` or
            `#entry/prefix` behind it where several networks are in it. None: what
            `$UBENCH_WEIGHTS/<name>*` matches. "random": the network stays as it is.
        name: the model's name, for that and for errors; by default that of the network's class.
        leftovers: patterns of further keys (`decoder.*`) that the network is known not to use.

    Raises:
        UserError: no such file, it is damaged, or no part of it fits.
    """
    if path == RANDOM:
        return network
    name = name or type(network).__name__
    source = files.find(name, path)
    if source is None:
        raise UserError(f"no weights for model '{name}'; pass --weights {name}=PATH")
    content = files.read(source.path)
    chosen = choose(network, content, name=name, source=source, leftovers=leftovers)
    found = WeightsSource(source.path, chosen.entry)
    files.fill(network, chosen.tensors, name=name, source=found)
    files.tell(found, chosen.dropped)
    return network


def choose(
    network: nn.Module,
    content: Mapping[str, Any],
    *,
    name: str,
    source: WeightsSource,
    leftovers: tuple[str, ...] = (),
) -> Chosen:
    """The state dict in a checkpoint that fits `network`, whatever it is wrapped in.

    Args:
        network: what is to be filled.
        content: a checkpoint, as `weights.read` gives it.
        name: the model's name, for the error.
        source: where the content comes from, and which entry of it is wanted.
        leftovers: patterns of keys that the model is known not to use.

    Raises:
        UserError: nothing fits (told by what comes nearest), or several parts do.
    """
    wanted = network.state_dict()
    allowed = (*leftovers, *HEADS)

    def report(part: Part) -> KeyReport:
        return files.compare(network, part.tensors, allowed)

    part = fitting(content, wanted, report, name=name, source=source)
    dropped = [key for key in part.tensors if key not in wanted]
    return Chosen(
        part.entry,
        {key: part.tensors[key] for key in wanted},
        (*dropped, *part.beside),
    )


def fitting(
    content: Mapping[str, Any],
    wanted: Iterable[str],
    report: Callable[[Part], KeyReport],
    *,
    name: str,
    source: WeightsSource,
) -> Part:
    """The one part of a checkpoint that fits by `report`.

    Args:
        content: a checkpoint, as `weights.read` gives it.
        wanted: names of the network's tensors in the file.
        report: compares a part with the network.
        name: the model's name, for the error.
        source: where the content comes from, and which entry of it is wanted.

    Raises:
        UserError: none fits, or several do.
    """
    reports = [(part, report(part)) for part in found(content, wanted, name=name, source=source)]
    fits = [part for part, one in reports if one.fits]
    exact = [part for part in fits if source.entry and _names(part.entry) == _names(source.entry)]
    if len(fits) > 1 and len(exact) != 1:
        entries = [part.entry or "top level" for part in fits]
        entry, why = usual([part.entry for part in fits])
        raise UserError(
            f"{source.path} holds several networks that fit model '{name}' "
            f"({files.shortened(entries, 8)}); name one{why}: "
            f"--weights {name}={source.path}#{entry}"
        )
    if not fits:
        nearest, differences = min(reports, key=lambda pair: sum(map(len, pair[1])))
        where = f"{source.path}#{nearest.entry}" if nearest.entry else str(source.path)
        raise UserError(
            f"{where} does not fit model '{name}': {differences}; "
            f"give the checkpoint that was made for '{name}'{told(content, source.path)}"
        )
    return exact[0] if len(exact) == 1 else fits[0]


def found(
    content: Mapping[str, Any], wanted: Iterable[str], *, name: str, source: WeightsSource
) -> list[Part]:
    """The parts of a checkpoint that hold a name of the network and are what the user named.

    Raises:
        UserError: there is none.
    """
    parts = list(all_of(content, frozenset(wanted)))
    asked = [part for part in parts if _answers(part.entry, source.entry)]
    if not asked:
        raise _nothing(content, parts, name, source, wanted)
    return asked


def told(content: Mapping[str, Any], path: Path) -> str:
    """What a checkpoint that does not fit holds instead, as an addition to an error."""
    from model_zoo.checkpoints import contents  # here, because it imports timm

    return contents.told(content, path)


USUAL = {
    "teacher": "DINO evaluates its teacher",
    "encoder_q": "MoCo evaluates its query encoder",
    "base_encoder": "MoCo v3 evaluates its base encoder",
    "target_encoder": "I-JEPA evaluates its target encoder",
    "ema": "the averaged copy is what is usually evaluated",
}
"""Names that tell which of several networks the method's authors evaluate."""


def usual(entries: Sequence[str]) -> tuple[str, str]:
    """The entry that is usually evaluated, and why, for a message; else the first one's."""
    for word, why in USUAL.items():
        for entry in entries:
            if any(word in (part, *part.split("_")) for part in _names(entry)):
                return entry, f" ({why})"
    return next(filter(None, entries), ""), ""


def _nothing(
    content: Mapping[str, Any],
    parts: list[Part],
    name: str,
    source: WeightsSource,
    wanted: Iterable[str],
) -> UserError:
    top = files.shortened(list(content), 8) or "nothing"
    held = [key for _, tensors in dictionaries(content) for key in tensors]
    instead = ""
    if held and not source.entry:
        instead = f", but {files.shortened(held, 2)}, where the model has "
        instead += files.shortened(list(wanted), 2)
    entries = [part.entry for part in parts if part.entry]
    remedy = (
        f"name one of its parts: {files.shortened([f'{source.path}#{e}' for e in entries], 3)}"
        if source.entry and entries
        else f"give the checkpoint that was made for '{name}'"
    )
    return UserError(
        f"{source} does not fit model '{name}': it holds no {source.entry or 'tensors of it'} (at "
        f"the top: {top}){instead}; {remedy}{told(content, source.path)}"
    )


def _answers(entry: str, asked: str | None) -> bool:
    """Whether a part is what the user named: its names in a row, wherever they begin and end."""
    if not asked:
        return True
    names, wanted = _names(entry), _names(asked)
    starts = range(len(names) - len(wanted) + 1)
    return any(names[start : start + len(wanted)] == wanted for start in starts)


def _names(entry: str) -> list[str]:
    return entry.replace(".", "/").strip("/").split("/")


def all_of(content: Mapping[str, Any], wanted: frozenset[str]) -> Iterator[Part]:
    """Every part of which at least one key has a name of the network."""
    for path, tensors in dictionaries(content):
        plain = unwrapped(tensors)
        for prefix in _prefixes(plain, wanted):
            yield under(path, prefix, plain)


def under(path: tuple[str, ...], prefix: str, tensors: Mapping[str, Tensor]) -> Part:
    """The part of a dictionary's tensors whose keys begin with a prefix.

    Args:
        path: names that lead to the dictionary.
        prefix: with its dot at the end; "" for all.
        tensors: of the dictionary.
    """
    return Part(
        "/".join((*path, *([prefix[:-1]] if prefix else []))),
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)},
        tuple(_unlike(key, prefix) for key in tensors if not key.startswith(prefix)),
    )


def _unlike(key: str, prefix: str) -> str:
    """A key without the names that it begins with as a prefix does."""
    (name, _, rest), (other, _, others) = key.partition("."), prefix.partition(".")
    return _unlike(rest, others) if name == other and rest else key


def dictionaries(
    content: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Each dictionary that holds tensors, with the names that lead to it."""
    if tensors := files.tensors_of(content):
        yield path, tensors
    if len(path) < DEPTH:
        for key, value in content.items():
            if isinstance(key, str) and isinstance(value, Mapping):
                yield from dictionaries(value, (*path, key))


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the names of torch's wrappers, unless two would then be one."""
    plain = {_without_wrappers(key): value for key, value in tensors.items()}
    return plain if len(plain) == len(tensors) else dict(tensors)


def _without_wrappers(key: str) -> str:
    for wrapper in _WRAPPERS:
        while key.startswith(wrapper):
            key = key.removeprefix(wrapper)
        key = key.replace(f".{wrapper}", ".")
    return key


def _prefixes(tensors: Iterable[str], wanted: frozenset[str]) -> list[str]:
    """Prefixes of the network's names in the file, the commonest first."""
    counts: dict[str, int] = {}
    for key in tensors:
        names = key.split(".")
        for start in range(len(names)):
            if ".".join(names[start:]) in wanted:
                prefix = "".join(f"{name}." for name in names[:start])
                counts[prefix] = counts.get(prefix, 0) + 1
    return sorted(counts, key=lambda prefix: -counts[prefix])
