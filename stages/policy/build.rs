//! Compiles the kernels of the device engine for CUDA, where the `cuda` feature is on; else there is nothing to do.

use std::env;
use std::path::Path;
use std::process::Command;

/// The kernels' source, and the file of `OUT_DIR` that it becomes.
const SOURCE: &str = "src/device/noise.cu";
const KERNELS: &str = "noise.ptx";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    for name in ["CUDA_COMPUTE_CAP", "CUDA_HOME"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_some()
        && let Err(problem) = compile()
    {
        println!("cargo::error={problem}");
    }
}

fn compile() -> Result<(), String> {
    let compiler = env::var_os("CUDA_HOME").map_or_else(|| "nvcc".into(), |home| Path::new(&home).join("bin/nvcc"));
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "90".to_owned());
    let folder = env::var_os("OUT_DIR").ok_or("cargo set no OUT_DIR")?;
    let mut command = Command::new(&compiler);
    // No contraction: the noise has the bits that the CPU's has.
    command.args(["--ptx", "-O3", "--fmad=false", &format!("-arch=compute_{capability}"), SOURCE, "-o"]);
    let status = command.arg(Path::new(&folder).join(KERNELS)).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} could not compile {SOURCE} ({status})", compiler.display())),
        Err(error) => Err(format!("{}: {error}; build with stages/policy/cuda/build.sh", compiler.display())),
    }
}
