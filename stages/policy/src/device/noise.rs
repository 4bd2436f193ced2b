//! Sampling keys: the noise of a batch of lanes, made where the logits are. On the CPU by the first engine's function;
//! on CUDA by a kernel (`noise.cu`) that makes the same bits.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::sample::{Draw, add_noise};

/// Makes sampling keys of logits `[N, V]`: of each lane its draw, and the step that it is at. Greedy lanes keep their
/// logits.
pub(super) fn sampling_keys(logits: &Tensor, lanes: Vec<(Draw, usize)>, temperature: f32) -> Result<Tensor> {
    logits.apply_op1_no_bwd(&SamplingKeys { lanes, temperature })
}

struct SamplingKeys {
    lanes: Vec<(Draw, usize)>,
    temperature: f32,
}

impl CustomOp1 for SamplingKeys {
    fn name(&self) -> &'static str {
        "sampling-keys"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, vocabulary) = layout.shape().dims2()?;
        let (Some((start, end)), CpuStorage::F32(logits)) = (layout.contiguous_offsets(), storage) else {
            bail!("sampling keys are made of contiguous f32 logits")
        };
        let mut keys = logits[start..end].to_vec();
        for (row, (draw, step)) in keys.chunks_exact_mut(vocabulary).zip(&self.lanes) {
            if let Draw::Key(key) = draw {
                add_noise(row, self.temperature, *key, *step);
            }
        }
        Ok((CpuStorage::F32(keys), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        use candle_core::cuda_backend::WrapErr;
        use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};

        /// `noise.cu`, compiled by `build.rs`.
        const KERNELS: &str = include_str!(concat!(env!("OUT_DIR"), "/noise.ptx"));
        /// Threads of a block, and words that each makes.
        const THREADS: u32 = 128;
        const WORDS: u32 = 16;

        let (lanes, vocabulary) = layout.shape().dims2()?;
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("sampling keys are made of contiguous logits")
        };
        let device = storage.device();
        let logits = storage.as_cuda_slice::<f32>()?.slice(start..end);
        let described = device.clone_htod(&self.described())?;
        let function = device.get_or_load_custom_func("sampling_keys", "evoq_noise", KERNELS)?;
        let width = vocabulary as u32;
        let grid_dim = (width.div_ceil(THREADS * WORDS), lanes as u32, 1);
        #[expect(unsafe_code, reason = "every kernel launch is")]
        // SAFETY: all of `keys` is written by the kernel, whose grid covers every lane and word, and which neither reads
        // nor writes outside the lanes' rows of `vocabulary` numbers and their ten words.
        let keys = unsafe {
            let keys = device.alloc::<f32>(lanes * vocabulary)?;
            let mut builder = function.builder();
            builder.arg(&logits).arg(&described).arg(&self.temperature).arg(&width).arg(&keys);
            builder.launch(LaunchConfig { grid_dim, block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }).w()?;
            keys
        };
        Ok((candle_core::CudaStorage::wrap_cuda_slice(keys, device.clone()), layout.shape().clone()))
    }
}

#[cfg(any(feature = "cuda", test))]
impl SamplingKeys {
    /// The lanes as the kernel takes them: eight words of key, the step, and 1 where the lane is drawn by chance.
    fn described(&self) -> Vec<u32> {
        let mut words = Vec::with_capacity(10 * self.lanes.len());
        for (draw, step) in &self.lanes {
            let (key, chance) = match draw {
                Draw::Greedy => (&[0; 32], 0),
                Draw::Key(key) => (key, 1),
            };
            words.extend(key.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)));
            words.extend([*step as u32, chance]);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use candle_core::Device;

    use super::*;

    /// The kernel's source as a program of the host: what CUDA brings is said in C++, the grid is a loop, lanes are read
    /// from the input and keys of logits 0, 1, 2 … written to the output.
    const HOST: &str = r#"
        #include <cmath>
        #include <cstdio>
        #include <cstring>
        #include <vector>
        #define __device__
        #define __global__
        #define __forceinline__ static inline
        struct { unsigned x, y; } blockIdx, threadIdx, blockDim = {7, 1};
        static unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
        static float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
        #include "noise.cu"
        int main() {
            unsigned lane[10];
            std::vector<float> logits(1000), keys(1000);
            for (int i = 0; i < 1000; i++) logits[i] = i;
            while (fread(lane, 4, 10, stdin) == 10) {
                for (blockIdx.x = 0; blockIdx.x < 10; blockIdx.x++)
                    for (threadIdx.x = 0; threadIdx.x < 7; threadIdx.x++)
                        sampling_keys(logits.data(), lane, 0.7f, 1000, keys.data());
                fwrite(keys.data(), 4, 1000, stdout);
            }
        }
    "#;

    #[test]
    fn the_kernel_makes_the_cpus_keys_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let (source, program) = (folder.path().join("host.cpp"), folder.path().join("host"));
        std::fs::write(&source, HOST).unwrap();
        let kernels = concat!(env!("CARGO_MANIFEST_DIR"), "/src/device");
        let mut compiled = Command::new("c++");
        compiled.args(["-O1", "-ffp-contract=off", "-I", kernels]).arg(&source);
        let Ok(status) = compiled.arg("-o").arg(&program).status() else {
            println!("SKIPPED: there is no c++ to compile the kernel with");
            return;
        };
        assert!(status.success());
        let lane = |n: usize| match n % 8 {
            0 => (Draw::Greedy, n),
            _ => (Draw::Key(std::array::from_fn(|i| (n * 31 + i * 7) as u8)), n * n * 1000),
        };
        let keys = SamplingKeys { lanes: (0..200).map(lane).collect(), temperature: 0.7 };
        let words: Vec<u8> = keys.described().into_iter().flat_map(u32::to_le_bytes).collect();
        std::fs::write(folder.path().join("lanes"), words).unwrap();
        let lanes = std::fs::File::open(folder.path().join("lanes")).unwrap();
        let made = Command::new(&program).stdin(lanes).output().unwrap().stdout;
        let row: Vec<f32> = (0..1000).map(|id| id as f32).collect();
        let logits = Tensor::from_vec(row, (1, 1000), &Device::Cpu).unwrap().repeat((200, 1)).unwrap();
        let ours = sampling_keys(&logits, keys.lanes, 0.7).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let theirs: Vec<f32> = made.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        assert_eq!(ours.len(), theirs.len());
        let differing = ours.iter().zip(&theirs).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(differing, None);
    }

    #[test]
    fn a_lane_is_ten_words() {
        let mut key = [0; 32];
        key[..5].copy_from_slice(&[1, 2, 0, 0, 3]);
        let keys = SamplingKeys { lanes: vec![(Draw::Greedy, 4), (Draw::Key(key), 7)], temperature: 1.0 };
        assert_eq!(keys.described(), [0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0x201, 3, 0, 0, 0, 0, 0, 0, 7, 1]);
    }
}
