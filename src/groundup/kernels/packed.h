// Rows of x by a packed matrix, in bfloat16 or float32, for one row as well as for hundreds.
//
//   [outputs / 32][inputs][32]          float32: 32 outputs side by side, one input behind the other
//   [outputs / 32][inputs / 2][32][2]   bfloat16: the inputs in pairs, as the processor multiplies them
//
// Invariant: the sum of each output runs over the inputs in order, whatever rows stand beside it.
#pragma once
#include <algorithm>
#include <type_traits>

#include "bf16.h"

namespace {

using Index = i64;

constexpr Index WIDTH = 32;  // outputs side by side in a packed matrix: two registers
constexpr int TILE = 8;      // rows at a time: 16 of the 32 registers hold sums
constexpr Index AHEAD_BYTES = 4096;

Index round_up(Index n, Index to) { return (n + to - 1) / to * to; }
// A stride that is no power of two, so that the rows of a tile do not fight for the same lines of the first cache.
Index stride_of(Index n) { return round_up(n, WIDTH) + WIDTH; }

template <class T>
constexpr Index GRAIN = std::is_same_v<T, bf16> ? 2 : 1;  // inputs that lie together: bfloat16 is multiplied in pairs

// Where (output, input) of a packed matrix with `inputs` (a multiple of the grain) lies.
template <class T>
Index place(Index output, Index input, Index inputs) {
  constexpr Index grain = GRAIN<T>;
  return output / WIDTH * inputs * WIDTH + input / grain * WIDTH * grain + output % WIDTH * grain + input % grain;
}

void store16(float* to, __m512 x, __mmask16 mask) { _mm512_mask_storeu_ps(to, mask, x); }
void store16(bf16* to, __m512 x, __mmask16 mask) {
  _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(x));
}

template <class X>
void narrow(const float* x, Index size, X* to) {
  for (Index i = 0; i < size; i += 16) {
    const __mmask16 mask = lanes(size - i);
    store16(to + i, _mm512_maskz_loadu_ps(mask, x + i), mask);
  }
}

__m512 silu16(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  return _mm512_div_ps(x, _mm512_add_ps(one, exp_of(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

__m512 broadcast_pair(const bf16* pair) {
  int bits;
  std::memcpy(&bits, pair, 4);
  return _mm512_castsi512_ps(_mm512_set1_epi32(bits));
}

// The micro-kernel: sums of `ROWS` rows by `STREAMS` packed groups of 32 outputs -> out [ROWS][STREAMS][32]. Weights
// are asked for `ahead` bytes before their use.
template <class W, class X, int ROWS, int STREAMS>
__attribute__((noinline)) void multiply(const W* w, Index group, const X* x, Index stride, Index inputs, Index ahead,
                                        float* out) {
  __m512 sum[ROWS][STREAMS][2];
  for (auto& row : sum)
    for (auto& pair : row) pair[0] = pair[1] = _mm512_setzero_ps();
  constexpr Index grain = GRAIN<W>, line = WIDTH * grain;
  for (Index step = 0; step < inputs / grain; ++step) {
#pragma GCC unroll 8
    for (int s = 0; s < STREAMS; ++s) {
      const W* at = w + s * group + step * line;
      _mm_prefetch((const char*)at + ahead, _MM_HINT_T0);
      _mm_prefetch((const char*)at + ahead + 64, _MM_HINT_T0);
      const __m512 left = _mm512_loadu_ps(at), right = _mm512_loadu_ps(at + line / 2);
      if constexpr (std::is_same_v<X, bf16>) {
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
          const __m512bh pair = (__m512bh)broadcast_pair(x + r * stride + step * 2);
          sum[r][s][0] = _mm512_dpbf16_ps(sum[r][s][0], (__m512bh)left, pair);
          sum[r][s][1] = _mm512_dpbf16_ps(sum[r][s][1], (__m512bh)right, pair);
        }
      } else if constexpr (std::is_same_v<W, bf16>) {
        const __m512i high = _mm512_set1_epi32(int(0xffff0000));
        const __m512i l = _mm512_castps_si512(left), t = _mm512_castps_si512(right);
        const __m512 left0 = _mm512_castsi512_ps(_mm512_slli_epi32(l, 16));
        const __m512 left1 = _mm512_castsi512_ps(_mm512_and_si512(l, high));
        const __m512 right0 = _mm512_castsi512_ps(_mm512_slli_epi32(t, 16));
        const __m512 right1 = _mm512_castsi512_ps(_mm512_and_si512(t, high));
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
          const __m512 x0 = _mm512_set1_ps(x[r * stride + step * 2]), x1 = _mm512_set1_ps(x[r * stride + step * 2 + 1]);
          sum[r][s][0] = _mm512_fmadd_ps(left1, x1, _mm512_fmadd_ps(left0, x0, sum[r][s][0]));
          sum[r][s][1] = _mm512_fmadd_ps(right1, x1, _mm512_fmadd_ps(right0, x0, sum[r][s][1]));
        }
      } else {
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
          const __m512 x0 = _mm512_set1_ps(x[r * stride + step]);
          sum[r][s][0] = _mm512_fmadd_ps(left, x0, sum[r][s][0]);
          sum[r][s][1] = _mm512_fmadd_ps(right, x0, sum[r][s][1]);
        }
      }
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int s = 0; s < STREAMS; ++s) {
      _mm512_storeu_ps(out + (r * STREAMS + s) * WIDTH, sum[r][s][0]);
      _mm512_storeu_ps(out + (r * STREAMS + s) * WIDTH + 16, sum[r][s][1]);
    }
}

template <class W, class X>
using Kernel = void (*)(const W*, Index, const X*, Index, Index, Index, float*);

template <class W, class X>
constexpr Kernel<W, X> SINGLE[TILE] = {multiply<W, X, 1, 1>, multiply<W, X, 2, 1>, multiply<W, X, 3, 1>,
                                       multiply<W, X, 4, 1>, multiply<W, X, 5, 1>, multiply<W, X, 6, 1>,
                                       multiply<W, X, 7, 1>, multiply<W, X, 8, 1>};
// Few rows leave most registers free: several groups of outputs at once hide the latency of the sums.
constexpr int FEW = 3, MANY_STREAMS = 4, TWO_STREAMS = 2;
template <class W, class X, int STREAMS>
constexpr Kernel<W, X> STREAMED[FEW] = {multiply<W, X, 1, STREAMS>, multiply<W, X, 2, STREAMS>,
                                        multiply<W, X, 3, STREAMS>};

// Few rows by STREAMS stretches of groups at once, each walked in sequence; returns the first group that is left.
template <int STREAMS, class W, class X, class Done>
Index stream(const W* w, Index group, Index inputs, Index first, Index last, const X* x, Index stride, Index rows,
             Index ahead, Done done) {
  alignas(64) float sums[FEW * STREAMS * WIDTH];
  const Index length = (last - first) / STREAMS;
  for (Index g = first; g < first + length; ++g) {
    STREAMED<W, X, STREAMS>[rows - 1](w + g * group, length * group, x, stride, inputs, ahead, sums);
    for (Index r = 0; r < rows; ++r)
      for (Index s = 0; s < STREAMS; ++s) done(r, g + s * length, sums + (r * STREAMS + s) * WIDTH);
  }
  return first + STREAMS * length;
}

// x [rows, inputs] by the groups first .. last of 32 outputs, `group` numbers apart: done(row, group, sums[32]) for each.
// `near`: how many bytes ahead of their use few rows ask for weights.
template <class W, class X, class Done>
void product(const W* w, Index group, Index inputs, Index first, Index last, const X* x, Index stride, Index rows,
             Index near, Done done) {
  if (rows <= FEW) {
    first = stream<MANY_STREAMS>(w, group, inputs, first, last, x, stride, rows, near, done);
    first = stream<TWO_STREAMS>(w, group, inputs, first, last, x, stride, rows, near, done);
  }
  alignas(64) float sums[TILE * WIDTH];
  for (Index g = first; g < last; ++g)
    for (Index row = 0; row < rows; row += TILE) {
      const Index count = std::min<Index>(TILE, rows - row);
      // The first tile asks for the next group, which then has the time of all tiles to come.
      const Index ahead = rows <= TILE ? near : row == 0 ? group * Index(sizeof(W)) : 0;
      SINGLE<W, X>[count - 1](w + g * group, 0, x + row * stride, stride, inputs, ahead, sums);
      for (Index r = 0; r < count; ++r) done(row + r, g, sums + r * WIDTH);
    }
}

}  // namespace
