//! Levels looked up in tables of 256.

/// Replaces each sample by the table's entry for it.
pub(crate) fn look_up(samples: &mut [u8], table: &[u8; 256]) {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::has_avx512() && is_x86_feature_detected!("avx512vbmi") {
        #[expect(unsafe_code, reason = "the CPU was asked for these instructions")]
        unsafe {
            return wide::look_up(samples, table);
        }
    }
    one_by_one(samples, table);
}

fn one_by_one(samples: &mut [u8], table: &[u8; 256]) {
    for sample in samples {
        *sample = table[usize::from(*sample)];
    }
}

/// The table held in registers, which the compiler does not think of: a twentieth of the time.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{
        __m512i, _mm512_loadu_si512, _mm512_mask_blend_epi8, _mm512_movepi8_mask, _mm512_permutex2var_epi8,
        _mm512_storeu_si512,
    };

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn look_up(samples: &mut [u8], table: &[u8; 256]) {
        let (quarters, _) = table.as_chunks();
        let [a, b, c, d] = [0, 1, 2, 3].map(|quarter| load(&quarters[quarter]));
        let (registers, rest) = samples.as_chunks_mut();
        for register in registers {
            let levels = load(register);
            // The lower seven bits choose among 128 entries, the eighth between the halves.
            let dark = _mm512_permutex2var_epi8(a, levels, b);
            let bright = _mm512_permutex2var_epi8(c, levels, d);
            let found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(levels), dark, bright);
            #[expect(unsafe_code, reason = "the array is as long as the register")]
            unsafe {
                _mm512_storeu_si512(register.as_mut_ptr().cast(), found);
            }
        }
        super::one_by_one(rest, table);
    }

    #[target_feature(enable = "avx512f")]
    fn load(samples: &[u8; 64]) -> __m512i {
        #[expect(unsafe_code, reason = "the array is as long as the register")]
        unsafe {
            _mm512_loadu_si512(samples.as_ptr().cast())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_looked_up_in_its_own_entry() {
        let table = std::array::from_fn(|level| (level as u8).wrapping_mul(167).wrapping_add(9));
        let mut samples: Vec<u8> = (0..1000_u32).map(|i| (i * 7 + i / 256) as u8).collect();
        let expected: Vec<u8> = samples.iter().map(|&level| table[usize::from(level)]).collect();
        look_up(&mut samples, &table);
        assert_eq!(samples, expected);
    }
}
