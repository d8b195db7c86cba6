"""What the tests of the documents put in place of each command and Python block; see test_docs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

EVERY = "dinov3,ijepa,ultrasam,samus,echocare,usf-mae,usfm,urfm,us-jepa,usrc-jepa"


@dataclass(frozen=True)
class Run:
    """Run it here, with some words changed.

    Args:
        swaps: of an option the value that it gets instead; of another word what stands for it.
        more: words that are added.
    """

    swaps: dict[str, str] = field(default_factory=dict)
    more: tuple[str, ...] = ()

    def words(self, words: Sequence[str]) -> list[str]:
        """The words that are run in place of a command's."""
        changed, before = [], ""
        for word in words:
            value = self.swaps.get(before) if before.startswith("--") else None
            changed.append(value or (word if word in self.options else self.swaps.get(word, word)))
            before = word
        assert changed != [*words] or not self.swaps, f"nothing to swap in {words}"
        return [*changed, *self.more]

    @property
    def options(self) -> set[str]:
        return {word for word in self.swaps if word.startswith("--")}


@dataclass(frozen=True)
class Parse:
    """Do not run it: see that it exists with all its options."""

    reason: str


def small(**swaps: str) -> Run:
    """Two controls on one task, by default; `swaps` by name of option."""
    words = {"model": "pixels,image-stats", "task": "aul", **swaps}
    return Run({f"--{name}": value for name, value in words.items()})


INSTALLS = Parse("installs packages from a network")
CLUSTER = Parse("wants a cluster; test_executors_slurm and test_executors_ray run the like")
TRANSFER = Parse("wants two sets of different images; test_transfer_run runs the like")
SIMULATED = Parse("simulates videos; tests/tasks/test_phantom_cines.py does the like")
CINES = Parse("wants videos; tests/usjepa/test_clip_training.py runs the like")
TRAINED_HERE = ("--workers", "0", "--device", "cpu")

COMMANDS: dict[str, Run | Parse] = {
    "git clone <this repository>": Parse("wants a network"),
    "cd ultrabench_eval": Parse("follows it"),
    "source .venv/bin/activate": Parse("is the shell's"),
    "make demo": INSTALLS,
    "make test": INSTALLS,
    "make docs": INSTALLS,
    "pip install submitit": INSTALLS,
    "pip install pydicom openpyxl pyarrow": INSTALLS,
    "pip install ray": INSTALLS,
    "pip install pyarrow": INSTALLS,
    "pip wheel --no-deps --wheel-dir . .": INSTALLS,
    "pip install './ultrabench_eval-0.1.0-py3-none-any.whl[imagenet]'": INSTALLS,
    "uv tool install './ultrabench_eval-0.1.0-py3-none-any.whl[imagenet]'": INSTALLS,
    "pipx install './ultrabench_eval-0.1.0-py3-none-any.whl[imagenet]'": INSTALLS,
    "pip download --dest wheels "
    "'./ultrabench_eval-0.1.0-py3-none-any.whl[imagenet,slurm]'": INSTALLS,
    "pip install --no-index --find-links wheels "
    "'./ultrabench_eval-0.1.0-py3-none-any.whl[imagenet,slurm]'": INSTALLS,
    "export UBENCH_DATA=DATA": Run(),
    "export UBENCH_WEIGHTS=WEIGHTS": Run(),
    "export UBENCH_CACHE=CACHE": Run(),
    "export HF_HUB_OFFLINE=1": Run(),
    "ubench demo --out demo": Parse("takes minutes; .ci/wheel runs it"),
    "ubench plan --model usrc-jepa-nano,pixels --task aul": Run(more=("--no-timing",)),
    "ubench compare old.csv new.csv other.csv --effect 5 --out runs/compared": Run(),
    "ubench compare one.csv two.csv --truth my_scans.csv": Run(
        {"one.csv": "a=as_one.csv", "two.csv": "b=as_one.csv"}
    ),
    # ---- measuring
    "ubench run --model efficientnet-lite0,image-stats,pixels,constant --task hc18-hc --data DATA "
    "--fractions 10,100 --seeds 5 --out runs/circumference": Run({"--model": "pixels,constant"}),
    "ubench run --model efficientnet-lite0,random-vit-tiny,pixels --task aul,mmotu,busbra,pocus "
    "--data DATA --seeds 5 --out runs/real": small(),
    "ubench run --model efficientnet-lite0,random-vit-tiny,pixels --task aul,mmotu,busbra,pocus "
    "--data DATA --fractions 1,5,10,50,100 --corruptions paper --probe linear,knn "
    "--protocol paper,tuned --out runs/real": small(
        fractions="50,100", corruptions="blur", probe="ridge"
    ),
    "ubench run --plugin their_model.py --model theirs --task their.csv": Run(),
    "ubench run --model efficientnet-lite0 --task my_scans.csv": small(task="my_scans.csv"),
    "ubench doctor": Run(),
    "ubench run --model efficientnet-lite0,random-vit-tiny,pixels --task my_scans.csv --seeds 5 "
    "--out runs/mine": small(task="my_scans.csv", seeds="2"),
    "ubench run --model efficientnet-lite0,usrc-jepa-nano,mean-mask,pixel-grid,position-pixels,"
    "random-vit-tiny --task busbra-seg,psfhs --data DATA --seeds 5 --fractions 10,100 "
    "--out runs/dense": Run(
        {"--model": "mean-mask", "--task": "aul-liver", "--fractions": "100", "--seeds": "1"}
    ),
    "ubench run --model efficientnet-lite0 --task camus --data DATA --protocol camus-vjepa,dense "
    "--seeds 1": Run({"--model": "mean-mask", "--task": "aul-liver", "--protocol": "dense"}),
    "ubench run --model efficientnet-lite0 --task busbra-seg --data DATA --protocol wide.yaml": Run(
        {"--model": "mean-mask", "--task": "aul-liver", "--protocol": "dense"}, ("--seeds", "1")
    ),
    "ubench plan --model efficientnet-lite0,usrc-jepa-nano --task aul --protocol paper,finetune "
    "--data DATA": Run({"--model": "pixels,mae-nano"}),
    "ubench run --model efficientnet-lite0,usrc-jepa-nano --task aul --protocol paper,finetune "
    "--data DATA --out runs/both": Parse("trains networks; test_finetune runs the like"),
    "ubench run --model efficientnet-lite0 --task my_masks.csv": Run(
        {"--model": "pixel-grid"}, ("--seeds", "1")
    ),
    "ubench run --model efficientnet-lite0,random-vit-tiny,pixels,image-stats,fan-mask,border "
    "--task my_scans.csv --protocol paper,tuned --keep-probes --out runs/my_scans": Run(
        {"--model": "mae-nano,pixels,border", "--protocol": "paper"}
    ),
    "ubench report runs/my_scans --choose": Run(),
    "ubench run --model efficientnet-lite0,pixels,random-vit-tiny --task my_scans.csv "
    "--out runs/my_scans": Run({"--model": "pixels,image-stats"}, ("--seeds", "1")),
    "ubench report runs/my_scans --model-card efficientnet-lite0": Run(
        {"--model-card": "image-stats"}
    ),
    "ubench report runs/my_scans --parquet": Run(),
    "ubench predict runs/my_scans --model efficientnet-lite0 --protocol paper --frames middle "
    "new_dicom --out new.csv": Run({"efficientnet-lite0": "mae-nano"}),
    "ubench run --model efficientnet-lite0,pixels,random-vit-tiny --task mmotu --data DATA "
    "--protocol paper,tuned --out runs/protocols": small(),
    "ubench run --plugin my_task.py --model pixels --task shades --data DATA --out runs/shades": (
        Run()
    ),
    "ubench run --plugin salt.py --corruptions salt --model pixels --task aul --data DATA "
    "--out runs/salt": Run(more=("--probe", "ridge")),
    "ubench run --model usrc-jepa --task all --seeds 5": Run(
        {"--seeds": "1"}, ("--data", "DATA", "--probe", "ridge")
    ),
    "ubench run --model efficientnet-lite0,usrc-jepa-nano,random-vit-tiny,pixels,image-stats "
    "--data DATA --transfer busbra:busi,busi:busbra --out runs/transfer": TRANSFER,
    "ubench run --model efficientnet-lite0,pixels --transfer my_scans.csv:their_scans.csv --labels "
    "labels.yaml --subgroups device,sex --out runs/elsewhere": TRANSFER,
    # ---- videos
    "ubench run --model efficientnet-lite0,usrc-jepa-nano,pixels,frame-differences --task "
    "pocus-clips --data DATA --out runs/clips": Parse(
        "wants videos of POCUS; test_clip_runs runs the like"
    ),
    "ubench run --model pixels,frame-differences --task phantom-lv,phantom-sliding "
    "--out runs/simulated": SIMULATED,
    "ubench run --model vjepa-nano,vjepa-loc-nano --task phantom-lv --out runs/ventricles": Parse(
        "simulates videos; tests/tasks/test_phantom_cines.py runs the like"
    ),
    "ubench data phantom --out PHANTOM --task phantom-lv,phantom-sliding --size study": Run(
        {"--size": "tiny", "--task": "phantom-sliding"}
    ),
    "ubench run --model pixels,frame-differences --task phantom-sliding --data PHANTOM "
    "--out runs/study": SIMULATED,
    "ubench data phantom --out OTHERS --task phantom-lv,phantom-sliding --size study "
    "--seed 1": SIMULATED,
    "usjepa index OTHERS --out CLIPS --data PHANTOM --clips --size 96 "
    "--splits train,validation": CINES,
    "ubench run --model pixels,frame-differences --task my_videos.csv --out runs/videos": Run(
        more=("--seeds", "1", "--probe", "ridge")
    ),
    "ubench run --model pixels --task my_videos.csv --corruptions temporal,blur "
    "--out runs/videos": (
        Run({"--corruptions": "speed,blur"}, ("--seeds", "1", "--probe", "ridge"))
    ),
    # ---- models
    "ubench run --plugin my_model.py --model mine,efficientnet-lite0,random-vit-tiny,pixels,"
    "fan-mask --weights mine=checkpoint.pt --task aul,busbra --data DATA --out runs/mine": small(
        model="mine,pixels"
    ),
    "ubench speed runs/mine --plugin my_model.py --weights mine=checkpoint.pt": Run(
        more=("--rounds", "1")
    ),
    "ubench models mine --plugin my_model.py --weights mine=checkpoint.pt --check": Parse(
        "the checkpoint there was never trained, which is an alarm; see test_forensics"
    ),
    "ubench models mine-tokens --plugin my_model.py": Run(),
    "ubench run --plugin my_model.py --model mine-tokens,mine-tokens/mean --weights "
    "mine-tokens=checkpoint.pt --probe linear,attentive --task aul --data DATA --out runs/tokens": (
        Run({"--model": "mine-tokens/mean", "--probe": "attentive"}, ("--seeds", "1"))
    ),
    "ubench run --model timm/vit_small_patch16_224 --weights "
    "timm/vit_small_patch16_224=checkpoint.pt --task aul --data DATA --out runs/timm": Run(
        {"--model": "timm/test_vit", "--weights": "timm/test_vit=checkpoint.pt"}
    ),
    "ubench models last.ckpt --out from_last.py": Run(),
    "ubench run --plugin from_last.py --model mine --weights mine=last.ckpt --task all --data DATA "
    "--out runs/mine": Run({"--task": "aul"}),
    "ubench run --model mine,efficientnet-lite0,pixels --plugin from_last.py --weights "
    "mine=last.ckpt --task all --data DATA --fractions 1,10,100 --out runs/mine": small(
        model="mine,pixels", fractions="50,100"
    ),
    "ubench report runs/mine --table us-jepa --add mine --names names.yaml --size 3.4x1.6 "
    "--font 8": Run(),
    # ---- what a run leaves
    "ubench run --model efficientnet-lite0,pixels --task my_scans.csv --keep-probes "
    "--out runs/kept": Run({"--model": "pixels"}),
    "ubench predict runs/kept --model efficientnet-lite0 new_scans --out predictions.csv": Run(
        {"--model": "pixels"}
    ),
    "ubench embed efficientnet-lite0 my_scans.csv --out features.parquet": Run(
        {"efficientnet-lite0": "pixels"}
    ),
    # ---- made elsewhere
    "ubench import features.parquet --model efficientnet-lite0 --task my_scans.csv "
    "--out runs/imported": Run({"--model": "pixels"}),
    "ubench import features.npz --model mine --task my_scans.csv --fractions 50,100 "
    "--out runs/imported": Run({"--fractions": "100"}),
    "ubench import predictions.csv --model closed --task my_scans.csv --out runs/imported": Run(),
    "ubench run --plugin their_model.py --model theirs --task my_scans.csv "
    "--seen theirs=PRETRAINING_IMAGES --out runs/seen": Run(
        {"--model": "pixels", "--seen": "pixels=PRETRAINING_IMAGES", "--plugin": "my_model.py"}
    ),
    "ubench data hashes PRETRAINING_IMAGES --out hashes.csv": Run(),
    "ubench import features.npz --model mine --task my_scans.csv --seen mine=hashes.csv "
    "--out runs/seen": Run(),
    # ---- for programs
    "ubench run --model random-vit-tiny,pixels --task my_scans.csv --out runs/json --json": Run(),
    "ubench report runs/json --json": Run(),
    "ubench speed runs/json --json": Run(more=("--rounds", "1")),
    "ubench audit --task my_scans.csv --out runs/audit --json": Run(),
    "ubench data check my_scans.csv --json": Parse("exits with 1: brightness tells these classes"),
    # ---- data
    "ubench tasks": Run(),
    "ubench tasks aul": Run(),
    "ubench tasks my_scans.csv": Run(),
    "ubench data list --data DATA": Run(),
    "ubench data download aul,ultrabench_splits --data DATA": Parse(
        "wants a network; tests/tasks/test_download.py has one of its own"
    ),
    "ubench data download aul --data DATA": Parse("the same"),
    "ubench data check aul --data DATA": Parse("the small copy here is not the whole release"),
    "ubench data prepare aul --data DATA": Run(),
    "ubench data check all --data DATA": Run({"all": "aul"}),
    "ubench data split list.xlsx --images dicom --columns "
    '"image=File,label=Diagnosis,group=Patient ID" --frames middle --out my_scans.csv': Run(
        {"--out": "my_list.csv"}
    ),
    "ubench data check my_scans.csv": Run({"my_scans.csv": "my_list.csv"}),
    'ubench data split ./scans --groups "(P\\d+)_" --out drawn.csv': Run(),
    "ubench data masks my_scans.csv --out masks.png": Run(),
    "ubench data splits pocus --data DATA": Run({"pocus": "aul"}),
    "ubench data splits aul --data DATA --out my_splits.csv": Run(),
    "ubench run --model pixels --task aul@my_splits.csv --data DATA --out runs/own_splits": Run(),
    "ubench data phantom --out PHANTOM --size small": Run(
        {"--size": "tiny"}, ("--task", "fatty_liver")
    ),
    "ubench run --model pixels --task all --data PHANTOM --out runs/phantom": Run(
        {"--task": "fatty_liver"}
    ),
    "ubench audit --task my_scans.csv --out runs/audit": Run(),
    "ubench audit --task all --data DATA --out runs/audit": Run({"--task": "aul"}),
    "ubench audit --task aul --data DATA --against PRETRAINING_IMAGES --run runs/real": Run(
        {"--run": "runs/own_splits"}
    ),
    # ---- the paper
    "ubench verify all": Parse("writes checkpoints of full size; test_cli runs it for one model"),
    f"ubench plan --model {EVERY} --task all --data DATA": small(),
    f"ubench run --model {EVERY} --task all --data DATA --seeds 5 --out runs/paper --keep-going": (
        small()
    ),
    "ubench run --model urfm,usfm,us-jepa,usrc-jepa,random-vit-tiny,pixels,image-stats,fan-mask,"
    "border --task all --data DATA --fractions 1,5,10,50,100 --corruptions paper --protocol "
    "paper,tuned --out runs/paper --keep-going": small(
        fractions="100", corruptions="contrast", protocol="paper"
    ),
    "ubench report runs/paper --against us-jepa --claims": Run(),
    "ubench report --published --claims --out runs/published": Run(),
    # ---- long runs
    "ubench doctor --data DATA": Run(),
    "ubench plan --model all --task all --data DATA --corruptions paper "
    "--fractions 1,5,10,50,100": small(),
    "ubench run --model all --task all --data DATA --workers 4 --out runs/whole": Run(
        {"--model": "pixels", "--task": "aul", "--workers": "1"}
    ),
    "ubench run --model all --task all --data DATA --out runs/whole --executor slurm --workers 16 "
    "--executor-option slurm_partition=gpu --executor-option gpus_per_worker=1 "
    "--executor-option timeout_min=600": CLUSTER,
    "ubench run --model all --task all --data DATA --out runs/whole --executor ray --workers 8 "
    "--executor-option address=auto --executor-option cpus_per_worker=8": CLUSTER,
    "ubench run --model all --task all --data DATA --shard 2/4 --out runs/part2": small(),
    "ubench merge runs/whole runs/part1 runs/part2 runs/part3 runs/part4": Run(
        {"runs/whole": "runs/merged"} | {f"runs/part{n}": "runs/part2" for n in (1, 3, 4)}
    ),
    # ---- training
    "usjepa configs": Run(),
    "usjepa index FRAMES --out INDEX --data DATA": Run(),
    "usjepa train --config usrc_jepa_vitb16 --frames INDEX --out runs/usrc "
    "--set train.epochs=50": Run(
        {"--config": "small.yaml", "--set": "train.epochs=1"}, TRAINED_HERE
    ),
    "torchrun --nproc-per-node 8 -m usjepa train --config usrc_jepa_vitb16 --frames INDEX "
    "--out runs/usrc": Parse("wants eight GPUs; tests/usjepa/test_train.py starts two processes"),
    "usjepa export runs/usrc --out my_encoder": Run(),
    "usjepa index VIDEOS --out CLIPS --data DATA --clips --size 96": CINES,
    "usjepa train --config vjepa_loc_nano --frames CLIPS --out runs/loc": CINES,
    "ubench run --model usjepa-clip --weights usjepa-clip=runs/loc --task pocus-clips "
    "--data DATA": CINES,
    "ubench run --model usjepa --weights usjepa=runs/usrc --task all --data DATA": Run(
        {"--task": "aul"}
    ),
    "usjepa train --config us_jepa_nano --frames FRAMES --out runs/mine --probe "
    "ultrabench_eval.live:ridge --probe-every 2": Run({"--config": "small.yaml"}, TRAINED_HERE),
    "usjepa export runs/mine --out runs/mine/export": Run(),
    "ubench run --model usjepa,pixels,random-vit-tiny --weights usjepa=runs/mine/export --task "
    "aul,mmotu --data DATA --probe ridge --seeds 1 --out runs/quick": small(model="usjepa,pixels"),
    "ubench run --model usjepa --weights usjepa=runs/mine --task all --data DATA "
    "--out runs/final": Run({"--task": "aul"}),
}


class Code(NamedTuple):
    """What is done with a Python block.

    Args:
        swaps: texts that are put in place of others.
        file: that it is added to; "": it is run.
    """

    swaps: dict[str, str]
    file: str = ""


TINY_VIT = {"vit_small_patch16_224": "test_vit", "224": "160"}
# By page, in the order of its blocks.
CODE: dict[str, tuple[Code, ...]] = {
    "README.md": (Code({}, "their_model.py"),),
    "docs/first_steps.md": (Code({'"efficientnet-lite0"': '"image-stats"'}),),
    "docs/add_your_model.md": (
        Code(TINY_VIT, "my_model.py"),
        Code({}, "my_model.py"),
        Code({}, "my_model.py"),
        Code({}),
        Code({}, "my_model.py"),
        Code({}),
        Code({}),
    ),
    "docs/add_your_data.md": (Code({}, "my_task.py"),),
    "docs/compare.md": (Code({}), Code({})),
    "docs/from_a_checkpoint.md": (Code(TINY_VIT, "as_shown.py"),),
    "docs/how_a_score_is_made.md": (Code({}, "my_metric.py"), Code({}, "salt.py")),
    "docs/import.md": (Code({}), Code({})),
    "docs/score_a_checkpoint_during_training.md": (
        Code({}),
        # Both need packages that are not installed here; test_callbacks trains with them.
        Code({}, "with_transformers.py"),
        Code({}, "with_lightning.py"),
    ),
    "docs/share_results.md": (Code({"efficientnet-lite0": "image-stats"}),),
    "docs/use_a_trained_probe.md": (Code({"seeds=5": "seeds=1"}),),
}

TRAINING = {
    "name": "small",
    "objective": "ijepa",
    "model": {"image_size": 32, "patch_size": 8, "width": 24, "depth": 2, "heads": 2},
    "predictor": {"depth": 1, "width": 12, "heads": 1},
    "masks": {"min_keep": 1, "cover_edges": True, "context": "pad"},
    "data": {"held_out": 0.2},
    "train": {"epochs": 2, "warmup_epochs": 1, "batch_size": 8, "precision": "float32"},
}
MY_TRAINING = """
import timm
epochs, network = 1, timm.create_model("test_vit", num_classes=0)
def train_one_epoch(network):
    pass
"""
