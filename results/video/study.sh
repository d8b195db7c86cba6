#!/bin/sh
# Videos and trainings of the study that README.md beside this is about. Each step goes on where it
# was stopped.
#   sh results/video/study.sh DATA WORK videos|train
# DATA holds POCUS; WORK is a folder for all that is made. One processor is enough.
set -eu
data=$1 work=$2 step=$3
export OMP_NUM_THREADS=1
train() {  # NAME CONFIG SEED [SETTINGS...]
    name=$1 config=$2 seed=$3
    shift 3
    usjepa train --config "$config" --frames "$work/index" --unguarded --workers 0 \
        --out "$work/runs/$name" --set "name=$name" --set "train.seed=$seed" \
        --set train.epochs=28 --set train.warmup_epochs=2 "$@" || exit
    usjepa export "$work/runs/$name" --out "$work/exports/$name" --half
}
case $step in
videos)
    # Seed 0 is measured, seed 1 trains; of POCUS only training videos, and none with a test image.
    for task in phantom-lv phantom-sliding; do
        ubench data phantom --out "$work/measured" --task $task --size study --seed 0
        ubench data phantom --out "$work/trained" --task $task --size study --seed 1
    done
    usjepa index "$data/pocus" --out "$work/index" --clips --size 96
    usjepa index "$work/trained/phantom-lv" "$work/trained/phantom-sliding" --unguarded \
        --out "$work/index" --clips --size 96
    ;;
train)
    for seed in 0 1 2 3 4; do
        train vjepa-study-$seed vjepa_nano $seed
        train vjepa-loc-study-$seed vjepa_loc_nano $seed
        train videomae-study-$seed videomae_nano $seed
    done
    train vjepa-loc-study-half vjepa_loc_nano 0 --set localisation.weight=0.5
    train vjepa-loc-study-three-quarters vjepa_loc_nano 0 --set localisation.weight=0.75
    ;;
esac
