"""A letter to a model's authors: what we do with their weights, and how they can confirm it."""

from __future__ import annotations

from typing import Any

import model_zoo
from model_zoo import verify
from model_zoo.checkpoints.files import matches
from ultrabench_eval.core.errors import UserError

_SHOWN = 4  # numbers of each feature

_LETTER = """\
Subject: {title} in ultrabench-eval: is our wrapper right?

Dear authors of {title}
({paper}),

ultrabench-eval measures frozen encoders on ultrasound tasks, and your model is among them as
`{name}`. We would like you to confirm what we do with it before its numbers appear in a table.
At present it is confirmed by: {verified}{verified_with}.

What we load: {weights_from}.
  The encoder is made of {tensors} tensors of the file, {parameters:,} parameters. All of them must
  be there. Of other tensors we accept, and do not use: {leftovers}.
How we prepare {one}: {prepared}.
What we give out: pooling `{pooling}`, {dim} numbers for {one}.{note}
What we inferred, because we found no statement of yours that settles it:
{inferred}

Our fixed input is
numpy.random.Generator(numpy.random.PCG64({seed})).random(({drawn})) as float32{turned}.
With weights by our fill rule (model_zoo/conformance/README.md) the features of the first one
begin with:
{numbers}

Five lines that compare our wrapper with your own code, on your own weights:

    import torch, model_zoo
    encoder = model_zoo.load("{name}", "YOUR_WEIGHTS", "cpu", "float32")
    x = torch.rand({shape})
    yours = YOUR_MODEL(x)  # with your normalisation: your feature, [{batch}, {dim}]
    print((encoder.encode(x) - yours).abs().max() / yours.abs().max())  # we hope for < 1e-4

If they agree, please tell us whether we may write "confirmed by its authors" on the card. If they
do not, or if you would prepare images, pool or describe the training data in another way, please
tell us what to change.
"""


def letter(name: str) -> str:
    """The letter, as plain text.

    Args:
        name: a model with reference vectors.

    Raises:
        UserError: it has none, so that there are no numbers to confirm.
    """
    known = model_zoo.describe(name)
    if name not in verify.names():
        listed = ", ".join(verify.names())
        raise UserError(
            f"model '{name}' has no reference numbers that its authors could confirm; these have: "
            f"{listed}"
        )
    model = model_zoo.registry.get(name)
    vectors = verify.read(name)
    layout = model.layouts[0]
    given = vectors.described["input"]
    keys = [key for key, _ in vectors.described["keys"]]
    used = [key for key in keys if not matches(key, layout.leftovers)]
    leftovers = (*layout.leftovers, *("a classifier",) * bool(model.heads))
    inferred = known["inferred"] or ["nothing"]
    return _LETTER.format(
        **{
            key: known[key] for key in ("name", "title", "paper", "verified", "weights_from", "dim")
        },
        verified_with=f" ({known['verified_with']})" if known["verified_with"] else "",
        parameters=known["parameters"],
        tensors=len(used),
        leftovers=", ".join(leftovers),
        prepared=_prepared(model),
        pooling=known["poolings"][0],
        note=f" Note: {known['note']}." if known["note"] else "",
        inferred="\n".join(f"  - {one}" for one in inferred),
        numbers="\n".join(_numbers(vectors)),
        **{key: given[key] for key in ("seed", "batch")},
        **_shapes(given),
    )


def _prepared(model: Any) -> str:
    told = str(model.input_rule.told("our card"))
    return told if model.clip_rule is None else f"{model.clip_rule}; each frame: {told}"


def _shapes(given: dict[str, Any]) -> dict[str, str]:
    """How the fixed input is drawn, and what the wrapper takes."""
    batch, size = given["batch"], given["size"]
    frames = given.get("frames")
    shape = drawn = f"{batch}, 3, {size}, {size}"
    if frames:
        shape = drawn = f"{batch}, {frames}, 3, {size}, {size}"
    turned = ""
    if given.get("channels_first"):
        drawn = f"{batch}, 3, {frames}, {size}, {size}"
        turned = ",\nwhose second and third axis are then exchanged"
    return {
        "one": "a clip" if frames else "an image",
        "shape": shape,
        "drawn": drawn,
        "turned": turned,
    }


def _numbers(vectors: verify.Vectors) -> list[str]:
    lines = []
    for output in vectors.described["outputs"]:
        if output["of"] == "features":
            first: Any = vectors.expected[output["array"]][0, :_SHOWN].tolist()
            shown = ", ".join(f"{value:.6f}" for value in first)
            lines.append(f"  {output['pooling']}: {shown}")
    return lines
