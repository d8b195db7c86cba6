#!/bin/sh
# The trials that README.md beside this tells of. Each step goes on where it was stopped; several may
# run at a time if you have cores.
#   sh results/nano/study.sh DATA WORK index
#   sh results/nano/study.sh DATA WORK trial NAME       # a row of trials.csv, trained and judged
#   sh results/nano/study.sh DATA WORK long NAME        # usrc-long, distillation-nano,
#                                                       # usrc-quarter, us-quarter, mae-equal
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
    usrc-long) train "$4" "$here/recipe.yaml" index 16 ;;
    distillation-nano) train "$4" "$here/recipe.yaml" index 19 predictor.hidden_weight=0 ;;
    usrc-quarter) train "$4" "$here/recipe.yaml" index 16 predictor.hidden_weight=0.25 ;;
    us-quarter)
        train "$4" "$here/recipe.yaml" index 16 predictor.hidden_weight=0.25 \
            region_conditioning=false
        ;;
    mae-equal)
        train "$4" mae_nano index 40 model.width=256 model.depth=4 model.heads=4 \
            projection.width=512 projection.whitening=0.5 train.warmup_epochs=2
        ;;
    esac
    usjepa export "$work/runs/$4" --out "$work/exports/$4" --int8
    ;;
esac
