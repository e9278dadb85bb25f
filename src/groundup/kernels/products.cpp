// Gradients [tokens][outputs] and inputs [tokens][inputs] of a layer in bfloat16 -> the gradient of its matrix in
// float32, [outputs][inputs] (+)= the sum over all tokens of gradient' x input.
//
//   for each DEPTH tokens: inputs -> panels [32 columns][pairs of tokens]; for each BLOCK outputs: gradients -> tiles
//   [8 columns][pairs of tokens]; tile x panel -> 8 x 32 sums in registers, added to what they belong to
//
// A panel stays in the first cache while all tiles pass by, and the tiles in the second while all panels do.
// Invariant: each sum runs over its tokens in order, so the number of threads changes no bit.
#include <omp.h>

#include <algorithm>

#include "bf16.h"

static const i64 TILE = 8, PANEL = 32, DEPTH = 512, BLOCK = 384;
static const i64 SOON = 16;   // rows ahead that are asked for
static const i64 SKEW = 16;  // words between two tiles or panels, so that they do not fight for the same lines

// Columns first .. last of `tokens` rows -> groups [WIDE columns][depth][WIDE] of pairs of rows, zeros behind the end.
template <int WIDE>
static void pack(const bf16* x, i64 step, i64 tokens, i64 first, i64 last, i64 depth, uint32_t* out) {
  const i64 stride = depth * WIDE + SKEW;
  for (i64 k = 0; k < depth; k++) {
    const bf16 *low = x + 2 * k * step, *high = low + step;
    const bool both = 2 * k + 1 < tokens;
    for (i64 column = first; column < last; column += 32) {  // rows lie far apart, so the processor cannot foresee them
      _mm_prefetch((const char*)(low + SOON * step + column), _MM_HINT_T0);
      _mm_prefetch((const char*)(high + SOON * step + column), _MM_HINT_T0);
    }
    for (i64 column = first; column < last; column += 16) {
      const __mmask16 mask = lanes(last - column);
      const __m512i even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, low + column));
      const __m512i odd = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(both ? mask : 0, high + column));
      const __m512i pair = _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
      const i64 at = column - first;
      uint32_t* to = out + at / WIDE * stride + k * WIDE + at % WIDE;
      if (WIDE >= 16) {
        _mm512_storeu_si512(to, pair);
      } else {
        _mm256_storeu_si256((__m256i*)to, _mm512_castsi512_si256(pair));
        _mm256_storeu_si256((__m256i*)(to + stride), _mm512_extracti64x4_epi64(pair, 1));
      }
    }
    if (WIDE > 16 && (last - first - 1) % WIDE < 16)  // the panel's second half
      _mm512_storeu_si512(out + (last - first) / WIDE * stride + k * WIDE + 16, _mm512_setzero_si512());
  }
}

// [8][32] sums over `depth` pairs, added to the first `rows` and `columns` of them at c or (begin) put there.
static void tile_by_panel(const uint32_t* a, const uint32_t* b, i64 depth, float* c, i64 c_step, i64 rows, i64 columns,
                          bool begin) {
  if (!begin)
    for (i64 r = 0; r < rows; r++) {
      _mm_prefetch((const char*)(c + r * c_step), _MM_HINT_T0);
      _mm_prefetch((const char*)(c + r * c_step + 16), _MM_HINT_T0);
    }
  __m512 sum[TILE][2];
#pragma GCC unroll 8
  for (int r = 0; r < TILE; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
  for (i64 k = 0; k < depth; k++) {
    const __m512bh left = (__m512bh)_mm512_loadu_si512(b + k * PANEL);
    const __m512bh right = (__m512bh)_mm512_loadu_si512(b + k * PANEL + 16);
#pragma GCC unroll 8
    for (int r = 0; r < TILE; r++) {
      const __m512bh pair = (__m512bh)_mm512_set1_epi32((int)a[k * TILE + r]);
      sum[r][0] = _mm512_dpbf16_ps(sum[r][0], left, pair);
      sum[r][1] = _mm512_dpbf16_ps(sum[r][1], right, pair);
    }
  }
  const __mmask16 low = lanes(columns), high = columns > 16 ? lanes(columns - 16) : 0;
#pragma GCC unroll 8
  for (int r = 0; r < TILE; r++) {
    if (r >= rows) break;
    float* to = c + r * c_step;
    if (!begin) {
      sum[r][0] = _mm512_add_ps(sum[r][0], _mm512_maskz_loadu_ps(low, to));
      sum[r][1] = _mm512_add_ps(sum[r][1], _mm512_maskz_loadu_ps(high, to + 16));
    }
    _mm512_mask_storeu_ps(to, low, sum[r][0]);
    _mm512_mask_storeu_ps(to + 16, high, sum[r][1]);
  }
}

static i64 groups(i64 count, i64 width) { return (count + width - 1) / width; }

// What one thread does: outputs first .. last by inputs begin .. end.
static void part(const bf16* grad, const bf16* x, float* out, i64 tokens, i64 outputs, i64 inputs, i64 first, i64 last,
                 i64 begin, i64 end, bool add) {
  const i64 tile = DEPTH / 2 * TILE + SKEW, panel = DEPTH / 2 * PANEL + SKEW;
  const i64 blocks = groups(std::min(last - first, BLOCK), 16) * 2, panels = groups(end - begin, PANEL);
  uint32_t* room = (uint32_t*)aligned_alloc(64, groups((blocks * tile + panels * panel) * 4, 64) * 64);
  uint32_t *tiles = room, *b = room + blocks * tile;
  for (i64 start = 0; start < tokens; start += DEPTH) {
    const i64 here = std::min(DEPTH, tokens - start), depth = groups(here, 2);
    const i64 tile_step = depth * TILE + SKEW, panel_step = depth * PANEL + SKEW;
    pack<PANEL>(x + start * inputs, inputs, here, begin, end, depth, b);
    for (i64 block = first; block < last; block += BLOCK) {
      const i64 stop = std::min(last, block + BLOCK);
      pack<TILE>(grad + start * outputs, outputs, here, block, stop, depth, tiles);
      for (i64 column = begin; column < end; column += PANEL)
        for (i64 row = block; row < stop; row += TILE)
          tile_by_panel(tiles + (row - block) / TILE * tile_step, b + (column - begin) / PANEL * panel_step, depth,
                        out + row * inputs + column, inputs, std::min(TILE, stop - row), std::min(PANEL, end - column),
                        start == 0 && !add);
    }
  }
  free(room);
}

// Threads across and down, so that as little as possible is packed twice.
extern "C" void weight_gradient(const bf16* grad, const bf16* x, float* out, i64 tokens, i64 outputs, i64 inputs,
                                i64 add) {
  const i64 threads = omp_get_max_threads();
  i64 down = 1;
  for (i64 d = 1; d <= threads; d++)
    if (threads % d == 0 && d * inputs + threads / d * outputs < down * inputs + threads / down * outputs) down = d;
  const i64 across = threads / down, rows = groups(outputs, TILE), columns = groups(inputs, PANEL);
#pragma omp parallel for schedule(static, 1)
  for (i64 i = 0; i < threads; i++) {
    const i64 r = i / across, c = i % across;
    const i64 first = rows * r / down * TILE, last = std::min(outputs, rows * (r + 1) / down * TILE);
    const i64 begin = columns * c / across * PANEL, end = std::min(inputs, columns * (c + 1) / across * PANEL);
    if (first < last && begin < end) part(grad, x, out, tokens, outputs, inputs, first, last, begin, end, add);
  }
}
