#!/bin/sh
# The trials that README.md beside this tells of. Each step goes on where it was stopped; several may
# run at a time if you have cores.
#   sh results/nano/study.sh DATA WORK index
#   sh results/nano/study.sh DATA WORK trial NAME       # a row of trials.csv, trained and judged
#   sh results/nano/study.sh DATA WORK long NAME        # usrc-jepa-nano, us-jepa-nano,
#                                                       # distillation-nano, mae-equal, untrained-nano
#   sh results/nano/study.sh DATA WORK seed N           # usrc-study-N and us-study-N, 2 epochs each
#   sh results/nano/study.sh DATA WORK curve POINT      # base (seed 0, 2 epochs), frames-0.1, frames-0.333,
#                                                       # epochs-1, epochs-4 ..., width-128, depth-8;
#                                                       # judged on validation
# DATA holds the original releases, WORK is for all that is made. One processor is enough.
set -eu
data=$1 work=$2 step=$3
here=$(dirname "$0")
export OMP_NUM_THREADS=1
train() {  # NAME CONFIG FRAMES EPOCHS [SETTINGS...]
    name=$1 config=$2 frames=$3 epochs=$4
    shift 4
    for setting in "$@"; do set -- "$@" --set "$setting" && shift; done
    usjepa train --config "$config" --frames "$work/$frames" --unguarded --workers 0 \
        --out "$work/runs/$name" --set "name=$name" --set "train.epochs=$epochs" "$@"
}
case $step in
index)
    # Training images of nine releases, and none that shows a test image of any task.
    set --
    for name in aul busbra busi camus ddti hc18 mmotu pocus psfhs; do
        set -- "$@" "$data/$name"
    done
    usjepa index "$@" --out "$work/index"
    for share in 0.1 0.333; do
        python "$here/thin.py" "$work/index" "$work/index-$share" $share
    done
    python "$here/project_teacher.py" "$work/index" "$work/lite0.safetensors"
    ;;
trial)
    row=$(python - "$here/trials.csv" "$4" << 'END'
import csv, sys
rows = {row["trial"]: row for row in csv.DictReader(open(sys.argv[1], newline=""))}
print(*(rows[sys.argv[2]][name] for name in ("frames", "epochs", "settings")))
END
    )
    train "$4" "$here/base.yaml" $row
    python "$here/validation.py" --data "$data" --log "$work/judged.csv" \
        "usjepa/all+std=$work/runs/$4"
    ;;
long)
    # Epochs of equal cost, by CPU seconds of an image.
    case $4 in
    usrc-jepa-nano) train "$4" usrc_jepa_nano index 16 ;;
    us-jepa-nano) train "$4" us_jepa_nano index 16 ;;
    distillation-nano) train "$4" usrc_jepa_nano index 19 predictor.hidden_weight=0 ;;
    mae-equal)
        train "$4" mae_nano index 40 model.width=256 model.depth=4 model.heads=4 \
            projection.width=512 projection.whitening=0.5 train.warmup_epochs=2
        ;;
    untrained-nano)  # the projection alone: no step is taken
        train "$4" usrc_jepa_nano index 1 train.learning_rate=1e-30 \
            train.start_learning_rate=0 train.final_learning_rate=0 train.warmup_epochs=0
        ;;
    esac
    usjepa export "$work/runs/$4" --out "$work/exports/$4" --int8
    ;;
seed)
    for kind in usrc us; do
        train "$kind-study-$4" "${kind}_jepa_nano" index 2 "seed=$4" train.warmup_epochs=0.25
    done
    ;;
curve)
    # Frames at as many steps as two epochs of all have; steps; sizes at two epochs.
    case $4 in
    base) test -d "$work/runs/base" || cp -r "$work/runs/usrc-study-0" "$work/runs/base" ;;
    frames-0.1) train "$4" usrc_jepa_nano index-0.1 20 train.warmup_epochs=2.5 ;;
    frames-0.333) train "$4" usrc_jepa_nano index-0.333 6 train.warmup_epochs=0.75 ;;
    epochs-*) train "$4" usrc_jepa_nano index "${4#epochs-}" train.warmup_epochs=0.25 ;;
    width-128) train "$4" usrc_jepa_nano index 2 train.warmup_epochs=0.25 model.width=128 model.heads=2 ;;
    depth-8) train "$4" usrc_jepa_nano index 2 train.warmup_epochs=0.25 model.depth=8 ;;
    esac
    python "$here/validation.py" --data "$data" --log "$work/curve.csv" \
        "usjepa/all+std=$work/runs/$4"
    ;;
esac
