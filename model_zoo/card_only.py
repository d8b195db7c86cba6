"""Models that are known and cannot be run here: a card, and the reason."""

from __future__ import annotations

from model_zoo.cards import Card
from model_zoo.encoder import Encoder


class CardOnly(Encoder):
    """A model without a network, which `load` refuses; `card.unavailable` says why."""


class OpenUS(CardOnly):
    """OpenUS-S, a VMamba-Small."""

    card = Card(
        title="OpenUS-S",
        paper="Zheng et al., arXiv 2511.11510 (2025)",
        code_licence="CC BY-NC 4.0",
        weights_licence="CC BY-NC 4.0",
        licence_kind="non-commercial",
        weights_from="Google Drive file 1UXXoQKWzB03m_tRlTh9rbdUciX1rAk8E (linked in the README "
        "of github.com/XZheng0427/OpenUS)",
        pretraining="42 public data sets, listed in the README for pre-training and validation "
        "together",
        saw=("aul", "busbra", "busi", "camus", "ddti", "hc18", "mmotu", "open-kidney"),
        unavailable="its VMamba network needs the CUDA kernels of the package mamba_ssm, which "
        "this project does not depend on; run it with its own code",
    )


class MedSAM2(CardOnly):
    """MedSAM2, SAM 2.1 fine-tuned on medical images."""

    card = Card(
        title="MedSAM2",
        paper="Ma et al., arXiv 2504.03600 (2025)",
        code_licence="Apache-2.0",
        weights_licence="see huggingface.co/wanglab/MedSAM2",
        weights_from="huggingface.co/wanglab/MedSAM2",
        pretraining="SAM 2.1's, then volumes and videos of CT, MR, PET, ultrasound and endoscopy; "
        "RVENet (echocardiograms) among them",
        unavailable="its image encoder is SAM 2.1's Hiera-Tiny, for which this project has neither "
        "a wrapper nor reference vectors; run it with its own code",
    )
