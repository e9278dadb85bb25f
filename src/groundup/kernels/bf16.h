// Vectors of bfloat16 and float32 numbers, 16 at a time, and a small matrix product out of registers.
#pragma once
#include <immintrin.h>
#include <cstdint>
#include <cstdlib>
#include <cstring>

typedef uint16_t bf16;
typedef int64_t i64;

static inline __m512 widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
static inline __m256i narrow(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }
static inline __m512 load(const bf16* p) { return widen(_mm256_loadu_si256((const __m256i*)p)); }
static inline void store(bf16* p, __m512 x) { _mm256_storeu_si256((__m256i*)p, narrow(x)); }

// The first `left` of 16 lanes; all of them when more are left.
static inline __mmask16 lanes(i64 left) { return left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1); }
static inline __m512 load(const bf16* p, __mmask16 m) { return widen(_mm256_maskz_loadu_epi16(m, p)); }
// The same from memory that is walked through once: what comes AHEAD numbers later is asked for. A processor foresees
// several walks at a time badly: with it SwiGLU takes less than half the time.
static const i64 AHEAD = 2048;
static inline __m512 load_ahead(const bf16* p, __mmask16 m) {
  _mm_prefetch((const char*)(p + AHEAD), _MM_HINT_T0);
  return load(p, m);
}
static inline void store(bf16* p, __mmask16 m, __m512 x) { _mm256_mask_storeu_epi16(p, m, narrow(x)); }

// Two vectors as one of pairs (x of lane i low, y of lane i high): what a bfloat16 product multiplies along.
static inline __m512i pairs(__m512 x, __m512 y) {
  __m512i low = _mm512_cvtepu16_epi32(narrow(x)), high = _mm512_cvtepu16_epi32(narrow(y));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

// 2^x for x <= 127, relative error about 2e-7 (Taylor's polynomial of 2^f on [-0.5, 0.5]); 0 far below.
static inline __m512 exp2_of(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-200.0f));
  __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 f = _mm512_sub_ps(x, whole);
  __m512 y = _mm512_set1_ps(1.5403530e-4f);
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.3333558e-3f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(9.6181291e-3f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.5504109e-2f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.4022651e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.9314718e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(y, whole);
}
// The same, relative error 3e-6 (a polynomial of least error), for what is narrowed to bfloat16 next: two thirds of the
// work.
static inline __m512 exp2_roughly(__m512 x) {
  __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 f = _mm512_sub_ps(x, whole);
  __m512 y = _mm512_set1_ps(9.5700965e-3f);
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.5917860e-2f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.4024745e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.9312182e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(9.9999926e-1f));
  return _mm512_scalef_ps(y, whole);
}
static inline __m512 exp_of(__m512 x) { return exp2_of(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f))); }

// 1 / x to about 1e-7: the processor's estimate and one step of Newton's.
static inline __m512 inverse(__m512 x) {
  __m512 y = _mm512_rcp14_ps(x);
  return _mm512_mul_ps(y, _mm512_fnmadd_ps(x, y, _mm512_set1_ps(2.0f)));
}

// 16 x 16 words, rows to columns, in registers.
static inline void transpose(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// Pairs of neighbouring rows: out[k][column] = (x[2 k][column], x[2 k + 1][column]).
static inline void pair_rows(const bf16* x, i64 rows, i64 columns, uint32_t* out) {
  for (i64 row = 0; row < rows; row += 2)
    for (i64 i = 0; i < columns; i += 16) {
      __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(x + row * columns + i)));
      __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(x + (row + 1) * columns + i)));
      _mm512_storeu_si512(out + row / 2 * columns + i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
}

// C[ROWS][16 * VECTORS] (+)= A B over `depth` pairs. A's pair (row, k) lies at a[row * row_step + k * depth_step], B's
// pair (k, column) at b[k * b_step + column].
template <int ROWS, int VECTORS>
static inline void product_tile(const uint32_t* a, i64 row_step, i64 depth_step, const uint32_t* b, i64 b_step,
                                i64 depth, float* c, i64 c_step, bool add) {
  __m512 sum[ROWS][VECTORS];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) sum[r][v] = add ? _mm512_loadu_ps(c + r * c_step + 16 * v) : _mm512_setzero_ps();
  for (i64 k = 0; k < depth; k++) {
    __m512bh column[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) column[v] = (__m512bh)_mm512_loadu_si512(b + k * b_step + 16 * v);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
      __m512bh pair = (__m512bh)_mm512_set1_epi32((int)a[r * row_step + k * depth_step]);
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], pair, column[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) _mm512_storeu_ps(c + r * c_step + 16 * v, sum[r][v]);
}

template <int VECTORS>
static void product_columns(i64 rows, const uint32_t* a, i64 row_step, i64 depth_step, const uint32_t* b, i64 b_step,
                            i64 depth, float* c, i64 c_step, bool add) {
  i64 r = 0;
  for (; r + 6 <= rows && r + 8 != rows; r += 6)
    product_tile<6, VECTORS>(a + r * row_step, row_step, depth_step, b, b_step, depth, c + r * c_step, c_step, add);
  for (; r + 4 <= rows; r += 4)
    product_tile<4, VECTORS>(a + r * row_step, row_step, depth_step, b, b_step, depth, c + r * c_step, c_step, add);
  for (; r < rows; r++)
    product_tile<1, VECTORS>(a + r * row_step, row_step, depth_step, b, b_step, depth, c + r * c_step, c_step, add);
}

// C[rows][columns] (+)= A B, columns a multiple of 16; see `product_tile` for how A and B lie.
static void product(i64 rows, i64 columns, const uint32_t* a, i64 row_step, i64 depth_step, const uint32_t* b,
                    i64 b_step, i64 depth, float* c, i64 c_step, bool add) {
  i64 n = 0;
  for (; n + 64 <= columns; n += 64)
    product_columns<4>(rows, a, row_step, depth_step, b + n, b_step, depth, c + n, c_step, add);
  switch ((columns - n) / 16) {
    case 3: product_columns<3>(rows, a, row_step, depth_step, b + n, b_step, depth, c + n, c_step, add); break;
    case 2: product_columns<2>(rows, a, row_step, depth_step, b + n, b_step, depth, c + n, c_step, add); break;
    case 1: product_columns<1>(rows, a, row_step, depth_step, b + n, b_step, depth, c + n, c_step, add); break;
  }
}
