// Sampling keys of a batch of lanes: logit / temperature + standard Gumbel noise, bit for bit the noise that
// `sample/choose.rs` makes on the CPU. Word `id` of a lane's ChaCha8 stream, keyed by the lane and numbered by its
// step, is token `id`'s. One thread makes one block of 16 words.

typedef unsigned int u32;

__device__ __forceinline__ u32 rotate(u32 x, int by) { return (x << by) | (x >> (32 - by)); }

__device__ __forceinline__ void quarter(u32 *s, int a, int b, int c, int d) {
  s[a] += s[b]; s[d] = rotate(s[d] ^ s[a], 16);
  s[c] += s[d]; s[b] = rotate(s[b] ^ s[c], 12);
  s[a] += s[b]; s[d] = rotate(s[d] ^ s[a], 8);
  s[c] += s[d]; s[b] = rotate(s[b] ^ s[c], 7);
}

// Block `counter` of stream `stream` of `key`, as rand_chacha numbers them: both in 64 bits.
__device__ __forceinline__ void chacha8(const u32 *key, u32 counter, u32 stream, u32 *out) {
  u32 start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, key[0], key[1], key[2], key[3],
                   key[4],     key[5],     key[6],     key[7],     counter, 0,      stream, 0};
  for (int i = 0; i < 16; i++) out[i] = start[i];
  for (int round = 0; round < 4; round++) {
    quarter(out, 0, 4, 8, 12); quarter(out, 1, 5, 9, 13); quarter(out, 2, 6, 10, 14); quarter(out, 3, 7, 11, 15);
    quarter(out, 0, 5, 10, 15); quarter(out, 1, 6, 11, 12); quarter(out, 2, 7, 8, 13); quarter(out, 3, 4, 9, 14);
  }
  for (int i = 0; i < 16; i++) out[i] += start[i];
}

// `ops/exp.rs`'s logarithm, operation by operation.
__device__ __forceinline__ float logarithm(float x) {
  u32 shifted = __float_as_uint(x) - 0x3f3504f3u;
  float e = (float)((int)shifted >> 23);
  float m = __uint_as_float((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  float p = 7.0376836e-2f;
  p = p * m + -1.151461e-1f;
  p = p * m + 1.1676999e-1f;
  p = p * m + -1.2420141e-1f;
  p = p * m + 1.4249323e-1f;
  p = p * m + -1.6668058e-1f;
  p = p * m + 2.0000715e-1f;
  p = p * m + -2.4999994e-1f;
  p = p * m + 3.333333e-1f;
  float square = m * m;
  return m + ((p * m * square + e * -2.1219444e-4f) - 0.5f * square) + e * 0.6933594f;
}

__device__ __forceinline__ float gumbel(u32 word) {
  float v = ((float)(int)(word >> 1) + 0.5f) * 4.656612873077392578125e-10f;
  v = fminf(v, 0.99999994f);
  float series = v * (1.0f + v * (0.5f + v * (0.33333334f + v * (0.25f + v * 0.2f))));
  float exponential = v < 0.03125f ? series : -logarithm(1.0f - v);
  return -logarithm(exponential);
}

// `lanes` holds ten words a lane: its key, its step, and 1 where it is drawn by chance. A lane that is not keeps its
// logits. The grid is (blocks of words / threads, lanes).
extern "C" __global__ void sampling_keys(const float *logits, const u32 *lanes, float temperature, u32 vocabulary,
                                         float *out) {
  u32 block = blockIdx.x * blockDim.x + threadIdx.x;
  u32 first = block * 16;
  if (first >= vocabulary) return;
  const u32 *lane = lanes + 10 * blockIdx.y;
  unsigned long long row = (unsigned long long)blockIdx.y * vocabulary;
  u32 words[16];
  if (lane[9]) chacha8(lane, block, lane[8], words);
  for (u32 i = 0; i < 16 && first + i < vocabulary; i++) {
    float logit = logits[row + first + i];
    out[row + first + i] = lane[9] ? logit / temperature + gumbel(words[i]) : logit;
  }
}
