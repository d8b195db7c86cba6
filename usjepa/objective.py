"""What is minimised: a frozen teacher (SALT), an averaged one (I-JEPA), or pixels (MAE).

All have one face, `Objective`, so that a training loop need not know which it runs. Images are
float32 [B, 3, S, S] in [0, 1], cropped and augmented, and clips [B, 3, F, S, S]; student and
teacher see the same ones, each with its own normalisation. B is the batch, N the patches of an
image or the tubelets of a clip, D the targets' width, and C, T, K as in `usjepa.masks`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, layer_norm, smooth_l1_loss

import model_zoo
from model_zoo import video_vit
from model_zoo.transforms import InputRule
from model_zoo.vit import EPS, Block, initialise, overlaps, sine_cosine_table
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.hashing import seed_for
from usjepa import student as students
from usjepa import teacher as teachers
from usjepa.config import Config, Decoder
from usjepa.localisation import Localisation
from usjepa.masks import DrawnMasks, Masks
from usjepa.predictor import Predictor, VideoPredictor
from usjepa.student import ImageStudent, VideoStudent
from usjepa.teacher import FrozenTeacher

AnyStudent = ImageStudent | VideoStudent
Logs = dict[str, Tensor]
Distance = Callable[..., Tensor]
"""Between tensors of one shape: their mean, or, with `reduction="none"`, each by itself."""


class Objective(nn.Module):
    """A student and what it is trained for.

    Args:
        student: the encoder that is kept.
        image_size: side of its input in pixels.
    """

    mean: Tensor
    std: Tensor
    steady = True
    """Whether losses of different epochs measure the same thing, so that the least is the best."""

    def __init__(self, student: AnyStudent, image_size: int) -> None:
        super().__init__()
        self.student = student
        # ImageNet's, as in the I-JEPA code and as `model_zoo`'s us-jepa expects it.
        rule = InputRule(image_size)
        for name, values in (("mean", rule.mean), ("std", rule.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def loss(self, images: Tensor, masks: DrawnMasks) -> tuple[Tensor, Logs]:
        """The scalar to minimise, and scalars to look at, all without gradient.

        Args:
            images: [B, 3, S, S] in [0, 1], or clips [B, 3, F, S, S].
            masks: on the same device.
        """
        raise NotImplementedError

    def forward(self, images: Tensor, masks: DrawnMasks) -> tuple[Tensor, Logs]:
        """`loss`, under the name that DistributedDataParallel and torch.compile call."""
        return self.loss(images, masks)

    @property
    def encoder(self) -> AnyStudent:
        """The network that is kept when training ends."""
        return self.student

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters for the optimiser."""
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                yield name, parameter

    def after_step(self, momentum: float) -> None:
        """What follows each optimiser step; `momentum` is of `usjepa.schedules`."""

    def normalised(self, images: Tensor) -> Tensor:
        """The student's input."""
        shape = (3,) + (1,) * (images.ndim - 2)
        return (images - self.mean.view(shape)) / self.std.view(shape)


class JEPA(Objective):
    """Predict a teacher's vectors for hidden blocks from the visible ones (eq. 5).

    Args:
        student: sees the context.
        image_size: side of the input in pixels.
        predictor: maps what it saw to the teacher's width; None where `hidden_weight` is 0.
        normalise_targets: layer norm, without scale and shift, over the channels of each of the
            teacher's layers.
        context_weight: of the same loss at the visible patches, beside that at the hidden ones.
        hidden_weight: of the loss at the hidden ones.
        context_map: from the student's tokens to the visible patches' targets; None: the predictor
            gives those.
        distance: of predictions and targets; L1 for clips, as V-JEPA and SALT have it.
        localisation: the head of the auxiliary loss; None for none.
    """

    def __init__(
        self,
        student: AnyStudent,
        image_size: int,
        predictor: Predictor | VideoPredictor | None,
        normalise_targets: bool,
        context_weight: float = 0.0,
        hidden_weight: float = 1.0,
        context_map: nn.Module | None = None,
        distance: Distance = smooth_l1_loss,
        localisation: Localisation | None = None,
    ) -> None:
        super().__init__(student, image_size)
        self.predictor = predictor
        self.normalise_targets = normalise_targets
        self.context_weight = context_weight
        self.hidden_weight = hidden_weight
        self.context_map = context_map
        self.distance = distance
        self.localisation = localisation

    def teach(self, images: Tensor) -> Tensor:
        """The teacher's tokens of whole images, [B, N, D]; see `loss` for `images`."""
        raise NotImplementedError

    def layer_widths(self, tokens: Tensor) -> list[int]:
        """Channels of each of the teacher's layers that its tokens [B, N, D] are joined from."""
        return [tokens.shape[-1]]

    def loss(self, images: Tensor, masks: DrawnMasks) -> tuple[Tensor, Logs]:
        """The mean over kinds of masks of `jepa_loss`, with the parts that have a weight.

        Logs: `loss`; its parts, if the visible patches have a weight or there is a head; of
        clips, the loss of each kind; and the deviation of targets and predictions over patches,
        averaged over channels, which goes to zero when a representation collapses.
        """
        with torch.no_grad():
            tokens = self.targets(images)
        x = self.normalised(images)
        found = [self._of_kind(x, tokens, one, kind) for kind, one in enumerate(masks.kinds)]
        if len(found) == 1:
            return found[0]
        loss = torch.stack([loss for loss, _ in found]).mean()
        means = {
            name: torch.stack([logs[name] for _, logs in found]).mean() for name in found[0][1]
        }
        each = {f"loss_of_kind_{kind}": logs["loss"] for kind, (_, logs) in enumerate(found)}
        return loss, {**means, **each}

    def _of_kind(self, x: Tensor, tokens: Tensor, masks: Masks, kind: int) -> tuple[Tensor, Logs]:
        """The loss of one kind of masks, from the student's input and the teacher's tokens."""
        with torch.no_grad():
            wanted = _taken(tokens, masks.targets)
        context = self.student.visible(x, masks.context, masks.context_real)
        if self.predictor is None:
            return self._of_visible(context, tokens, masks)
        asked = (context, masks.context, masks.targets, masks.context_real, masks.targets_real)
        parts = {}
        if self.context_weight:
            if self.context_map is None:
                predicted, seen = self.predictor.everywhere(*asked, kind=kind)
            else:
                predicted = self.predictor(*asked, kind=kind)
                seen = self.context_map(context)[:, None]
            hidden = jepa_loss(predicted.float(), wanted, masks.targets_real, self.distance)
            visible = self._at_context(seen.float(), tokens, masks)
            loss = self.hidden_weight * hidden + self.context_weight * visible
            parts = {"hidden_loss": hidden.detach(), "visible_loss": visible.detach()}
        else:
            predicted = self.predictor(*asked, kind=kind)
            hidden = jepa_loss(predicted.float(), wanted, masks.targets_real, self.distance)
            loss = self.hidden_weight * hidden
        if self.localisation is not None:
            assert masks.pairs is not None
            if self.localisation.settings.tokens == "predicted":
                compared = predicted.flatten(1, 2), masks.targets.flatten(1)
            else:
                compared = context, masks.context
            found, share = self.localisation(*compared, masks.pairs), self.localisation.settings
            parts |= {
                "jepa_loss": loss.detach(),
                "localisation_loss": found.loss.detach(),
                "localisation_of_zeros": found.constant.detach(),
            }
            loss = share.weight * loss + (1 - share.weight) * found.loss  # eq. 4
        return loss, {
            "loss": loss.detach(),
            **parts,
            "target_spread": _spread(wanted, masks.targets_real),
            "prediction_spread": _spread(predicted.detach().float(), masks.targets_real),
        }

    def targets(self, images: Tensor) -> Tensor:
        """What is to be predicted of whole images, float32 [B, N, D]."""
        tokens = self.teach(images).float()
        if self.normalise_targets:
            layers = torch.split(tokens, self.layer_widths(tokens), dim=-1)
            tokens = torch.cat([layer_norm(one, one.shape[-1:]) for one in layers], dim=-1)
        return tokens

    def _of_visible(self, context: Tensor, tokens: Tensor, masks: Masks) -> tuple[Tensor, Logs]:
        """The loss of plain distillation, at the visible patches alone."""
        assert self.context_map is not None
        seen = self.context_map(context)[:, None].float()
        loss, real = self._at_context(seen, tokens, masks), masks.context_real
        with torch.no_grad():
            spreads = {
                "target_spread": _spread(_taken(tokens, masks.context[:, None]), _one(real)),
                "prediction_spread": _spread(seen, _one(real)),
            }
        return loss, {"loss": loss.detach(), **spreads}

    def _at_context(self, predicted: Tensor, tokens: Tensor, masks: Masks) -> Tensor:
        """The loss at the visible patches, which [B, T, C, D] predicts T times."""
        count = predicted.shape[1]
        index = masks.context[:, None].expand(-1, count, -1)
        real = masks.context_real
        if real is not None:
            real = real[:, None].expand(-1, count, -1)
        return jepa_loss(predicted, _taken(tokens, index), real, self.distance)


class SALT(JEPA):
    """US-JEPA: the teacher is frozen (sections 3.2 and 4.1).

    Args:
        student: as for `JEPA`.
        image_size: as for `JEPA`.
        predictor: as for `JEPA`.
        teacher: an encoder of the zoo. Not among this module's parameters, nor in its state.
        normalise_targets: as for `JEPA`.
        context_weight: as for `JEPA`.
        more: as for `JEPA`.
    """

    def __init__(
        self,
        student: AnyStudent,
        image_size: int,
        predictor: Predictor | VideoPredictor | None,
        teacher: FrozenTeacher,
        normalise_targets: bool = True,
        context_weight: float = 0.0,
        **more: Any,
    ) -> None:
        super().__init__(student, image_size, predictor, normalise_targets, context_weight, **more)
        self.teacher = teacher

    # The compiler would start again at each block of a teacher whose layers are read by hooks, and
    # give up after some: minutes before the first step.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def teach(self, images: Tensor) -> Tensor:
        """The frozen teacher's tokens, [B, N, D]."""
        return self.teacher(images)

    def layer_widths(self, tokens: Tensor) -> list[int]:
        """Channels of each layer."""
        return list(self.teacher.widths)


class EMAJEPA(JEPA):
    """The teacher is a running average of the student: I-JEPA (arXiv 2301.08243), and V-JEPA
    (arXiv 2404.08471), which is the same of clips.

    Args: as for `JEPA`. The teacher starts as a copy of the student.
    """

    steady = False

    def __init__(
        self,
        student: AnyStudent,
        image_size: int,
        predictor: Predictor | VideoPredictor | None,
        normalise_targets: bool = True,
        context_weight: float = 0.0,
        **more: Any,
    ) -> None:
        super().__init__(student, image_size, predictor, normalise_targets, context_weight, **more)
        self.teacher = copy.deepcopy(student).requires_grad_(False)

    @property
    def encoder(self) -> AnyStudent:
        """The average, which the official code evaluates."""
        return self.teacher

    def teach(self, images: Tensor) -> Tensor:
        """The average's tokens, [B, N, D]."""
        tokens: Tensor = self.teacher(self.normalised(images))
        return tokens[:, self.teacher.prefix :]

    @torch.no_grad()
    def after_step(self, momentum: float) -> None:
        """Teacher = momentum x teacher + (1 - momentum) x student, every parameter."""
        pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
        for average, current in pairs:
            average.mul_(momentum).add_(current, alpha=1 - momentum)


class MAE(Objective):
    """Masked autoencoder: reconstruct the pixels of hidden patches (arXiv 2111.06377).

    `Masks.context` are the visible patches, `Masks.targets` the hidden ones. Parameters of the
    decoder have the names of facebookresearch/mae.

    Args:
        student: the encoder, best with a class token, as MAE has it.
        image_size: side of the input in pixels.
        patch_size: side of a patch in pixels, P.
        decoder: its sizes, and whether pixels are normalised per patch.
        table: the decoder's positions, [N, width].
        pixels: of a patch, in all colours.
    """

    def __init__(
        self,
        student: AnyStudent,
        image_size: int,
        patch_size: int,
        decoder: Decoder,
        table: Tensor | None = None,
        pixels: int | None = None,
    ) -> None:
        super().__init__(student, image_size)
        self.patch_size = patch_size
        self.normalize_pixels = decoder.normalize_pixels
        width = decoder.width
        if table is None:
            table = sine_cosine_table(image_size // patch_size, width)
        self.decoder_embed = nn.Linear(student.norm.normalized_shape[0], width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_pos_embed = nn.Parameter(table[None], requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            Block(width, decoder.heads) for _ in range(decoder.depth)
        )
        self.decoder_norm = nn.LayerNorm(width, eps=EPS)
        self.decoder_pred = nn.Linear(width, pixels or 3 * patch_size**2)
        self.apply(_xavier)
        nn.init.normal_(self.mask_token, std=0.02)
        if isinstance(student, ImageStudent) and student.prefix:
            nn.init.normal_(student.cls_token, std=0.02)

    def loss(self, images: Tensor, masks: DrawnMasks) -> tuple[Tensor, Logs]:
        """Mean squared error over the hidden patches' pixels."""
        (one,) = masks.kinds
        x = self.normalised(images)
        hidden = one.targets.flatten(1)  # [B, N - C]
        wanted = self.wanted(images, x, hidden)
        tokens = self.student(x, one.context)
        loss = (self._decoded(tokens, one.context, hidden).float() - wanted).square().mean()
        return loss, {"loss": loss.detach()}

    def wanted(self, images: Tensor, x: Tensor, hidden: Tensor) -> Tensor:
        """Pixels to be reconstructed, float32 [B, N - C, pixels].

        Args:
            images: in [0, 1].
            x: the student's input.
            hidden: the patches, int64 [B, N - C].
        """
        wanted = _taken(patches(x, self.patch_size).float(), hidden[:, None])[:, 0]
        if self.normalize_pixels:
            variance, mean = torch.var_mean(wanted, dim=-1, keepdim=True)
            wanted = (wanted - mean) / (variance + 1e-6).sqrt()
        return wanted

    def _decoded(self, tokens: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Pixels of the hidden patches, [B, N - C, 3 P P], from the encoder's tokens."""
        prefix, table = self.student.prefix, self.decoder_pos_embed[0]
        embedded = self.decoder_embed(tokens)
        # Attention knows no order, so places need not be put back: the table tells them. MAE's
        # class token has a position of zeros.
        seen = embedded[:, prefix:] + table[visible]
        asked = (self.mask_token + table[hidden]).to(seen.dtype)
        x = torch.cat([embedded[:, :prefix], seen, asked], dim=1)
        for block in self.decoder_blocks:
            x = block(x)
        pixels: Tensor = self.decoder_pred(self.decoder_norm(x[:, -hidden.shape[1] :]))
        return pixels


class MAEOfClips(MAE):
    """VideoMAE: reconstruct the pixels of hidden tubelets (arXiv 2203.12602).

    Positions of student and decoder are V-JEPA's table; VideoMAE's is over the flat number.

    Args:
        student: the encoder.
        config: of the run.
    """

    def __init__(self, student: VideoStudent, config: Config) -> None:
        model, decoder = config.model, config.decoder
        table = video_vit.sine_cosine_table(config.grid, decoder.width)
        pixels = 3 * student.tubelet * model.patch_size**2
        super().__init__(student, model.image_size, model.patch_size, decoder, table, pixels)
        self.tubelet = student.tubelet

    def wanted(self, images: Tensor, x: Tensor, hidden: Tensor) -> Tensor:
        """Pixels of hidden tubelets, each colour of each tubelet normalised by itself."""
        pixels = tubelets(images, self.tubelet, self.patch_size).float()
        pixels = _taken(pixels.flatten(2), hidden[:, None])[:, 0]
        pixels = pixels.reshape(*hidden.shape, -1, 3)
        if self.normalize_pixels:
            variance, mean = torch.var_mean(pixels, dim=2, keepdim=True)
            pixels = (pixels - mean) / (variance.sqrt() + 1e-6)
        return pixels.flatten(2)


def jepa_loss(
    predicted: Tensor,
    wanted: Tensor,
    real: Tensor | None = None,
    distance: Distance = smooth_l1_loss,
) -> Tensor:
    """A distance's mean over each target block's patches, then over blocks (eq. 5).

    With lists of equal length this is the mean over everything, as in the official code.

    Args:
        predicted: [B, T, K, D].
        wanted: [B, T, K, D].
        real: False where there is only padding, which has no weight, bool [B, T, K]; None if
            there is none.
        distance: smooth L1 with beta 1, or L1.
    """
    if real is None:
        return distance(predicted, wanted)
    apart = distance(predicted, wanted, reduction="none").mean(-1)  # [B, T, K]
    apart = apart.masked_fill(~real, 0)
    return (apart.sum(-1) / real.sum(-1)).mean()


def _taken(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens at places: [B, N, D], int64 [B, T, K] -> [B, T, K, D]."""
    flat = index.flatten(1)[..., None].expand(-1, -1, tokens.shape[-1])
    return tokens.gather(1, flat).reshape(*index.shape, -1)


def patches(images: Tensor, size: int) -> Tensor:
    """Pixels of each patch, [B, 3, S, S] -> [B, N, 3 P P]: rows, columns, then colours, as MAE.

    Args:
        images: S a multiple of `size`.
        size: side of a patch, P.
    """
    batch, colours, side, _ = images.shape
    grid = side // size
    apart = images.reshape(batch, colours, grid, size, grid, size)
    return apart.permute(0, 2, 4, 3, 5, 1).reshape(batch, grid * grid, -1)


def tubelets(clips: Tensor, tubelet: int, size: int) -> Tensor:
    """Pixels of each tubelet, [B, 3, F, S, S] -> [B, N, tubelet P P, 3]: frames, rows, columns.

    Args:
        clips: F a multiple of `tubelet`, S of `size`.
        tubelet: frames of one.
        size: its side in pixels, P.
    """
    batch, colours, frames, side, _ = clips.shape
    times, grid = frames // tubelet, side // size
    apart = clips.reshape(batch, colours, times, tubelet, grid, size, grid, size)
    apart = apart.permute(0, 2, 4, 6, 3, 5, 7, 1)
    return apart.reshape(batch, times * grid * grid, -1, colours)


def optimiser_groups(objective: Objective, weight_decay: float) -> list[dict[str, object]]:
    """AdamW's groups: weights, and then biases and vectors, which never decay.

    The official code's rule: a name with "bias", or one dimension. A mask token does decay.

    Args:
        objective: whose trainable parameters.
        weight_decay: of the first group.
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in objective.trainable():
        (kept if "bias" in name or parameter.ndim == 1 else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]


def build(config: Config, teacher: FrozenTeacher | None = None, device: str = "auto") -> Objective:
    """The objective of a run, on the CPU; its first weights follow from `config.seed` alone.

    Args:
        config: the run's.
        teacher: for `objective: salt`, in place of the one that the configuration names.
        device: where a teacher is loaded to.

    Raises:
        UserError: the teacher is not available, or does not fit the student.
    """
    model, sizes, video = config.model, config.predictor, config.video
    target_width = model.width
    if config.objective == "salt":
        teacher = teacher or teachers.load(config.teacher, device, model.grid)
        frames = None if video is None else video.frames
        target_width = teacher.check(
            model.image_size, model.grid, sizes.target_width, frames, config.grid[0]
        )
    elif sizes.target_width not in (None, model.width):
        raise UserError(
            f"predictor.target_width is {sizes.target_width}, but without a frozen teacher targets "
            f"are {model.width} wide; leave it out"
        )
    with _own_generator(config.seed):
        student = students.make(config)
        if not config.predicts:
            made = _reconstructing(student, config)
            _begin(student, config)
            return made
        predictor = _predictor(config, target_width)
        if model.first_weights == "xavier":
            student.apply(_xavier)
            predictor.apply(_xavier)
        # Last, so that nothing else starts differently with them.
        localisation = _localisation(config, target_width)
        linear = sizes.context_weight and sizes.context_by == "linear"
        context_map = nn.Linear(model.width, target_width) if linear else None
    _begin(student, config)
    how: dict[str, Any] = {
        "normalise_targets": config.teacher.layer_norm,
        "context_weight": sizes.context_weight,
        "hidden_weight": sizes.hidden_weight,
        "context_map": context_map,
        "distance": smooth_l1_loss if video is None else l1_loss,
        "localisation": localisation,
    }
    kept = predictor if sizes.hidden_weight else None
    if teacher is None or config.objective != "salt":
        return EMAJEPA(student, model.image_size, kept, **how)
    return SALT(student, model.image_size, kept, teacher, **how)


def _reconstructing(student: AnyStudent, config: Config) -> MAE:
    if isinstance(student, VideoStudent):
        return MAEOfClips(student, config)
    return MAE(student, config.model.image_size, config.model.patch_size, config.decoder)


def _predictor(config: Config, target_width: int) -> Predictor | VideoPredictor:
    model, sizes, video = config.model, config.predictor, config.video
    widths = (model.width, target_width, sizes.depth, sizes.width, sizes.heads)
    if video is None:
        return Predictor(model.grid, *widths)
    one = video.masks == "tubes" or video.mask_tokens == "one"
    return VideoPredictor(config.grid, *widths, 1 if one else len(video.kinds), video.rotary)


def _localisation(config: Config, target_width: int) -> Localisation | None:
    settings = config.localises
    if settings is None:
        return None
    width = target_width if settings.tokens == "predicted" else config.model.width
    return Localisation(settings, width, config.grid if config.video else config.grid[1:])


def _begin(student: AnyStudent, config: Config) -> None:
    """Give a student the weights that it begins with, if any, and freeze its first blocks.

    Raises:
        UserError: the model that it should begin as has another network.
    """
    if config.model.start is not None:
        name, _, weights = config.model.start.partition("=")
        start = model_zoo.load(name, weights or None, "cpu", "float32")
        try:
            state = start.network.state_dict()
            student.load_state_dict(
                {key: state[key] for key in state if not key.startswith("projection.")}
            )
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"model.start: the network of '{name}' is not the one that section `model` "
                f"describes ({reason}); set width, depth, patch_size and image_size to its own"
            ) from error
    if frozen := config.train.freeze_blocks:
        student.requires_grad_(False)
        for part in (*student.blocks[frozen:], student.norm):
            part.requires_grad_(True)


@contextmanager
def _own_generator(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside, and put its state back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(seed, "first weights"))
        yield


def _one(real: Tensor | None) -> Tensor | None:
    """[B, C] -> [B, 1, C]."""
    return None if real is None else real[:, None]


def _spread(x: Tensor, real: Tensor | None) -> Tensor:
    """Deviation over all patches, averaged over channels: [B, T, K, D] -> scalar."""
    rows = x.flatten(0, 2) if real is None else x[real]
    return rows.std(0).mean()


def _xavier(module: nn.Module) -> None:
    """As MAE starts: uniform by Xavier, the patch projection as the linear layer that it is."""
    initialise(module)
    if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d) and not overlaps(module):
        nn.init.xavier_uniform_(module.weight.flatten(1))
