//! The widest registers of the CPU at hand, put to use by the compiler alone.
//!
//! A kernel is compiled several times from the same lines. Nothing is fused or reordered in any of them, so the numbers
//! do not depend on the CPU.

/// Defines functions that are compiled for each width of registers; a call takes the widest that the CPU has.
macro_rules! kernels {
    ($($(#[$doc:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {
        $($(#[$doc])*
        $visibility fn $name($($argument: $type),*) {
            // What is not inlined keeps to narrow registers.
            #[inline(always)]
            fn plain($($argument: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) {
                    plain($($argument),*);
                }
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($argument: $type),*) {
                    plain($($argument),*);
                }
                if $crate::cpu::has_avx512() {
                    #[expect(unsafe_code, reason = "the CPU was asked for these instructions")]
                    unsafe {
                        return avx512($($argument),*);
                    }
                }
                if $crate::cpu::has_avx2() {
                    #[expect(unsafe_code, reason = "the CPU was asked for these instructions")]
                    unsafe {
                        return avx2($($argument),*);
                    }
                }
            }
            plain($($argument),*);
        })*
    };
}
pub(crate) use kernels;

/// Whether the CPU has registers of 256 bits, and multiplies and adds in one instruction where [`f32::mul_add`] says so.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && allowed(256)
}

/// Whether the CPU has registers of 512 bits, for bytes as well as for floats.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && allowed(512)
}

#[cfg(all(not(test), target_arch = "x86_64"))]
fn allowed(_bits: u32) -> bool {
    true
}

#[cfg(test)]
use tests::allowed;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use image::{Rgb, RgbImage};

    use crate::{Distortion, Severity, distort};

    /// The widest registers that may be used.
    static WIDEST: AtomicU32 = AtomicU32::new(u32::MAX);

    pub(super) fn allowed(bits: u32) -> bool {
        bits <= WIDEST.load(Ordering::Relaxed)
    }

    #[test]
    fn the_width_of_registers_changes_nothing() {
        // Ramps, a flat corner and texture; neither side is a multiple of a register.
        let picture = RgbImage::from_fn(211, 93, |x, y| {
            let texture = (x * x * 7 + y * y * 11 + x * y * 13) % 61;
            if x + y < 60 {
                Rgb([200, 40, 130])
            } else {
                Rgb([x + texture / 9, y * 2 + texture, 255 - x].map(|n| n as u8))
            }
        });
        let distorted = || {
            let of_type = |distortion| {
                [Severity::ALL[0], Severity::ALL[4]]
                    .map(|severity| (distortion, distort(&picture, distortion, severity, &[3; 32], None).unwrap()))
            };
            Distortion::ALL.map(of_type)
        };
        let widest = distorted();
        for bits in [256, 128] {
            WIDEST.store(bits, Ordering::Relaxed);
            for (narrow, wide) in distorted().iter().flatten().zip(widest.iter().flatten()) {
                assert!(narrow == wide, "{} with {bits} bits", wide.0);
            }
        }
        WIDEST.store(u32::MAX, Ordering::Relaxed);
    }
}
