#!/bin/sh
# Makes the sample or the training frames again.
#   make.sh clip WORK     samples/street.mp4 with its masks and labels (WORK keeps the raw renders and the unpacked frames)
#   make.sh train WORK    WORK/train/{images,labels}: random streets without any unknown thing
#   make.sh val WORK      WORK/val/{images,labels}: the same of other streets
# Needs blender 3.4, ffmpeg and a Python with requirements.txt; BLENDER and PYTHON name other programs.
# An interrupted run goes on where it stopped.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
what=${1:-} work=${2:-}
[ -n "$work" ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$work"
render() { script=$1; shift; nice -n 10 "${BLENDER:-blender}" -b --python-exit-code 1 -P "$here/$script" -- "$@"; }
case $what in
clip)
    render render_clip.py "$work/clip_raw"
    "${PYTHON:-python3}" "$here/finish.py" clip "$work/clip_raw" "$here/.." "$work/clip"
    ;;
train)
    render render_streets.py "$work/train_raw" --streets 75 --per-street 2
    "${PYTHON:-python3}" "$here/finish.py" train "$work/train_raw" "$work/train"
    ;;
val)
    render render_streets.py "$work/val_raw" --streets 8 --per-street 2 --first-seed 2000
    "${PYTHON:-python3}" "$here/finish.py" train "$work/val_raw" "$work/val"
    ;;
*)
    echo "make.sh: '$what' is not clip, train or val" >&2
    exit 2
    ;;
esac
