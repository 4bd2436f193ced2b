#!/usr/bin/env bash
# Builds with the `cuda` feature on a machine that needs neither a GPU nor a driver nor an installed CUDA toolkit.
#
#   stages/policy/cuda/build.sh FOLDER [CARGO ARGUMENTS]
#   stages/policy/cuda/build.sh ~/cuda build --release -p evoq-vote -p evoq-score --features evoq-vote/cuda,evoq-score/cuda
#
# FOLDER receives the CUDA compiler (from PyPI, once) and two folders of libraries:
#   link/    what the linker asks for: the CUDA runtime, and stand-ins for the driver's and the maths libraries
#   nogpu/   the stand-ins under the names that a program looks for when it starts. With LD_LIBRARY_PATH=FOLDER/nogpu a
#            program built here runs on its CPU paths, and asked for a CUDA device it says that there is none.
# FOLDER/env has the variables of the build, for cargo commands by hand. The compiled kernels are for compute
# capability 9.0 (Hopper); CUDA_COMPUTE_CAP chooses another.
set -euo pipefail

# 13.0 throughout: a driver of the 580 series refuses kernels that a newer compiler wrote.
COMPILER=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85)
REPOSITORY=$(cd "$(dirname "$0")/../../.." && pwd)

bring_compiler() {
  local toolkit=$1 wheels=$1/wheels
  [ -x "$toolkit/bin/nvcc" ] && return
  echo "bringing the CUDA compiler into $toolkit" >&2
  "${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary=:all: \
    --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_12_x86_64 \
    --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --dest "$wheels" "${COMPILER[@]}"
  local wheel
  for wheel in "$wheels"/*.whl; do
    "${PYTHON:-python3}" -m zipfile --extract "$wheel" "$wheels/open"
  done
  cp -r "$wheels"/open/nvidia/cu13/. "$toolkit/"
  rm -r "$wheels"
  chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/*
}

# A library with the names that cudarc links against, every one of which answers 100: CUDA_ERROR_NO_DEVICE.
stand_in() {
  local library=$1 number=$2 module=$3 bindings
  bindings=$CUDARC/src/$module/sys/mod.rs
  {
    echo "#define NO_DEVICE(name) int name(void) { return 100; }"
    sed -nE 's/.*\bfn ((cu|cublas|curand|nvrtc)[A-Za-z0-9_]+).*/NO_DEVICE(\1)/p' "$bindings" | sort --unique
  } > "$FOLDER/$library.c"
  gcc -shared -fPIC -w "-Wl,-soname,lib$library.so.$number" -o "$FOLDER/nogpu/lib$library.so.$number" "$FOLDER/$library.c"
  ln -sf "../nogpu/lib$library.so.$number" "$FOLDER/link/lib$library.so"
  rm "$FOLDER/$library.c"
}

[ $# -gt 0 ] || { sed -n '2,/^set/{/^#/s/^# \?//p}' "$0" >&2; exit 2; }
mkdir -p "$1"
FOLDER=$(cd "$1" && pwd)
shift
mkdir -p "$FOLDER/toolkit" "$FOLDER/link" "$FOLDER/nogpu"
bring_compiler "$FOLDER/toolkit"

cargo fetch --quiet --manifest-path "$REPOSITORY/Cargo.toml"
CUDARC=$(cargo metadata --format-version 1 --all-features --manifest-path "$REPOSITORY/Cargo.toml" |
  "${PYTHON:-python3}" -c 'import json, os, sys
print(*[os.path.dirname(p["manifest_path"]) for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"])')
stand_in cuda 1 driver
stand_in cublas 13 cublas
stand_in cublasLt 13 cublaslt
stand_in curand 10 curand
stand_in nvrtc 13 nvrtc
ln -sf "$FOLDER/toolkit/lib/libcudart.so.13" "$FOLDER/nogpu/libcudart.so.13"
ln -sf "../nogpu/libcudart.so.13" "$FOLDER/link/libcudart.so"
ln -sfn lib "$FOLDER/toolkit/lib64"
ln -sf "$FOLDER/toolkit"/lib/*.a "$FOLDER/link/"

cat > "$FOLDER/env" <<END
export CUDA_HOME='$FOLDER/toolkit' CUDA_PATH='$FOLDER/toolkit' CUDA_COMPUTE_CAP='${CUDA_COMPUTE_CAP:-90}'
export PATH='$FOLDER/toolkit/bin':\$PATH LIBRARY_PATH='$FOLDER/link'
END
[ $# -gt 0 ] || exit 0
# shellcheck source=/dev/null
. "$FOLDER/env"
cd "$REPOSITORY"
exec cargo "$@"
