#!/bin/sh
# Videos and trainings of the study that README.md beside this is about. Each step goes on where it
# was stopped.
#   sh results/video/study.sh DATA WORK videos
#   sh results/video/study.sh DATA WORK train SEED     # 0 to 4; several at a time if you have cores
#   sh results/video/study.sh DATA WORK long           # the two networks of the package
#   sh results/video/study.sh DATA WORK measure NAMES  # of models.py or the zoo, commas between
# DATA holds POCUS and CAMUS, and gets the simulated videos that are measured; WORK is a folder for
# all else that is made. One processor is enough.
set -eu
data=$1 work=$2 step=$3
export OMP_NUM_THREADS=1
train() {  # NAME CONFIG EPOCHS SEED [SETTINGS...]
    name=$1 config=$2 epochs=$3 seed=$4
    shift 4
    usjepa train --config "$config" --frames "$work/index" --unguarded --workers 0 \
        --out "$work/runs/$name" --set "name=$name" --set "seed=$seed" \
        --set "train.epochs=$epochs" --set train.warmup_epochs=2 "$@" || exit
    usjepa export "$work/runs/$name" --out "$work/exports/$name" --half
}
case $step in
videos)
    # Seed 0 is measured, seed 1 trains; of POCUS only training videos, and none with a test image.
    for task in phantom-lv phantom-sliding; do
        ubench data phantom --out "$data" --task $task --size study --seed 0
        ubench data phantom --out "$work/trained" --task $task --size study --seed 1
    done
    usjepa index "$data/pocus" --out "$work/index" --clips --size 96
    usjepa index "$work/trained/phantom-lv" "$work/trained/phantom-sliding" --unguarded \
        --out "$work/index" --clips --size 96
    ;;
train)
    seed=$4
    train videomae-study-$seed videomae_nano 30 $seed
    # V-JEPA goes on from VideoMAE; both begin at the same weights and see the same clips.
    start=model.start=usjepa-clip=$work/runs/videomae-study-$seed
    train vjepa-study-$seed vjepa_nano 28 $seed --set $start
    train vjepa-loc-study-$seed vjepa_loc_nano 28 $seed --set $start
    if [ $seed = 0 ]; then
        train vjepa-loc-study-half vjepa_loc_nano 28 0 --set $start --set localisation.weight=0.5
        train vjepa-loc-study-three-quarters vjepa_loc_nano 28 0 --set $start \
            --set localisation.weight=0.75
    fi
    ;;
long)
    cd "$work"
    work=.
    train videomae-nano videomae_nano 100 0 --set train.warmup_epochs=5
    start=model.start=usjepa-clip=runs/videomae-nano
    train vjepa-nano vjepa_nano 150 0 --set train.warmup_epochs=8 --set $start
    train vjepa-loc-nano vjepa_loc_nano 150 0 --set train.warmup_epochs=8 --set $start
    ;;
measure)
    weights=
    for name in $(echo "$4" | tr , ' '); do
        case $name in
        *-study-*) weights="$weights --weights $name=$work/exports/$name" ;;
        random-clip) weights="$weights --weights random-clip=random" ;;
        esac
    done
    run() {
        ubench run --plugin results/video/models.py --model "$names" $weights --data "$data" \
            --seeds 2 --dtype float32 --out "$work/out" --cache "$work/cache" "$@"
    }
    names=$4
    run --task phantom-sliding --probe linear,attentive --fractions 10,100
    run --task phantom-sliding --probe linear,logistic --protocol tuned --fractions 10,100
    run --task pocus-clips --probe linear,attentive  # five folds, too small for a tenth
    run --task pocus-clips --probe linear,logistic --protocol tuned
    run --task phantom-lv-ef --fractions 10,100
    run --task phantom-lv,camus --protocol dense --fractions 10,100
    case $names in
    *-nano*) run --task camus --protocol camus-vjepa --seeds 1 ;;
    esac
    ;;
esac
