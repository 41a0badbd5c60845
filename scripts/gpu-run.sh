#!/usr/bin/env bash
# Finds NVIDIA's libraries on a machine and runs a command with them:
#
#   scripts/gpu-run.sh                                  # only says what is there; 3 without a GPU's
#   scripts/gpu-run.sh .gpu/bin/cuda-test --nocapture
#
# Looked for in this order: folders in $CUDA_LIB_DIRS; NVIDIA's Python wheels; a toolkit; the driver
# folder of container runtimes. What is found goes before LD_LIBRARY_PATH, which is kept: it may be how
# the driver is found. Nothing about the GPU is changed.
set -euo pipefail

wheels() { # every lib folder of the `nvidia` packages of a Python
    "$1" -c '
import glob, nvidia
for root in nvidia.__path__:
    print("\n".join(sorted(glob.glob(root + "/*/lib"))))
' 2>/dev/null || true
}

candidates=()
IFS=: read -ra named <<<"${CUDA_LIB_DIRS:-}"
candidates+=("${named[@]}")
for python in ${PYTHON:-} python3 python; do
    while read -r folder; do candidates+=("$folder"); done < <(wheels "$python")
done
for toolkit in "${CUDA_PATH:-}" "${CUDA_HOME:-}" /usr/local/cuda; do
    [[ -z $toolkit ]] || candidates+=("$toolkit/lib64")
done
candidates+=(/usr/local/nvidia/lib64 /usr/local/nvidia/lib /usr/lib/x86_64-linux-gnu)

folders=()
for folder in "${candidates[@]}"; do
    [[ -n $folder && -d $folder && $folder != *stubs* ]] || continue
    compgen -G "$folder/lib*.so*" >/dev/null || continue
    [[ " ${folders[*]-} " == *" $folder "* ]] || folders+=("$folder")
done
LD_LIBRARY_PATH=$(IFS=:; echo "${folders[*]-}")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
ALCYON_CUDA_LIBRARIES=$(IFS=:; echo "${folders[*]-}")
export ALCYON_CUDA_LIBRARIES

found() { # the file that a library's name would be answered with
    local stem=$1 folder file
    IFS=: read -ra all <<<"$LD_LIBRARY_PATH"
    for folder in "${all[@]}"; do
        for file in "$folder/$stem".so*; do
            [[ -e $file ]] && { echo "$file"; return; }
        done
    done
    ldconfig -p 2>/dev/null | awk -v stem="$stem.so" 'index($1, stem) == 1 { print $NF; exit }'
}

missing=0
for stem in libcuda libnvrtc libnvrtc-builtins libcublas libcublasLt libcudnn libcusolver; do
    file=$(found "$stem")
    printf '%-18s %s\n' "$stem" "${file:-NOT FOUND}" >&2
    case $stem in libcuda | libcublas) [[ -n $file ]] || missing=1 ;; esac
done
ldd --version 2>/dev/null | head -1 >&2 || true
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >&2 2>/dev/null ||
    echo "no nvidia-smi, or it sees no GPU" >&2

if (($# == 0)); then exit $((missing ? 3 : 0)); fi
exec "$@"
