// Products of bfloat16 numbers with sums in float32, for layers of a network:
//
//   product            rows x [tokens][inputs] by a matrix                              -> y [tokens][outputs], bfloat16
//   weight_gradient    gradients [tokens][outputs] and inputs [tokens][inputs] of a layer
//                      -> grad' x, the gradient of its matrix [outputs][inputs], float32; put there or added
//
// What all rows are multiplied by lies as panels [32 columns][pairs of what is summed over], DEPTH numbers at a time. A
// panel stays in the first cache while the rows of a block, which the second cache holds, pass by 8 at a time: 8 x 32
// sums in registers.
// Invariant: each sum runs in order, so the number of threads changes no bit.
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

// finish(r, half, sums) for the halves [r][16] of 8 x 32 sums over `depth` pairs: word(r, k) by a panel.
template <class Word, class Finish>
static inline __attribute__((always_inline)) void tile_by_panel(Word word, const uint32_t* panel, i64 depth,
                                                                Finish finish) {
  __m512 sum[TILE][2];
#pragma GCC unroll 8
  for (int r = 0; r < TILE; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
  for (i64 k = 0; k < depth; k++) {
    const __m512bh left = (__m512bh)_mm512_loadu_si512(panel + k * PANEL);
    const __m512bh right = (__m512bh)_mm512_loadu_si512(panel + k * PANEL + 16);
#pragma GCC unroll 8
    for (int r = 0; r < TILE; r++) {
      const __m512bh pair = (__m512bh)_mm512_set1_epi32(word(r, k));
      sum[r][0] = _mm512_dpbf16_ps(sum[r][0], left, pair);
      sum[r][1] = _mm512_dpbf16_ps(sum[r][1], right, pair);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < TILE; r++) {
    finish(r, 0, sum[r][0]);
    finish(r, 1, sum[r][1]);
  }
}

static i64 groups(i64 count, i64 width) { return (count + width - 1) / width; }

// A packed tile by a panel, added to the first `rows` and `columns` of c or (begin) put there.
static void add_tile(const uint32_t* tile, const uint32_t* panel, i64 depth, float* c, i64 c_step, i64 rows,
                     i64 columns, bool begin) {
  for (i64 r = 0; r < rows; r++) {
    __builtin_prefetch(c + r * c_step, 1);
    __builtin_prefetch(c + r * c_step + 16, 1);
  }
  const __mmask16 mask[2] = {lanes(columns), columns > 16 ? lanes(columns - 16) : __mmask16(0)};
  tile_by_panel([=](i64 r, i64 k) { return (int)tile[k * TILE + r]; }, panel, depth, [&](i64 r, i64 half, __m512 sum) {
    if (r >= rows) return;
    float* to = c + r * c_step + 16 * half;
    if (!begin) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask[half], to));
    _mm512_mask_storeu_ps(to, mask[half], sum);
  });
}

// What one thread does of a gradient: outputs first .. last by inputs begin .. end.
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
          add_tile(tiles + (row - block) / TILE * tile_step, b + (column - begin) / PANEL * panel_step, depth,
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

// Rows first .. last (at most 32) of [..][step], columns begin .. end -> a panel [pairs of columns][32].
static void pack_rows(const bf16* x, i64 step, i64 first, i64 last, i64 begin, i64 end, uint32_t* out) {
  for (i64 row = first; row < first + PANEL; row += 16)
    for (i64 column = begin; column < end; column += 32) {
      const i64 words = std::min<i64>(16, (end - column) / 2);
      __m512i r[16];
      for (i64 i = 0; i < 16; i++)
        r[i] = _mm512_maskz_loadu_epi32(row + i < last ? lanes(words) : 0, x + (row + i) * step + column);
      transpose(r);
      for (i64 i = 0; i < words; i++)
        _mm512_storeu_si512(out + ((column - begin) / 2 + i) * PANEL + row - first, r[i]);
    }
}

static const i64 BLOCK_BYTES = 256 << 10;  // of x, so that the second cache has room for panels and what comes next

// y [tokens][outputs] = x [tokens][inputs] by `matrix` + bias (may be null), the number of inputs even. The matrix is
// [outputs][inputs], or (transposed) [inputs][outputs].
extern "C" void product(const bf16* x, const bf16* matrix, const float* bias, bf16* y, i64 tokens, i64 inputs,
                        i64 outputs, i64 transposed) {
  const i64 panels = groups(outputs, PANEL), chunks = groups(inputs, DEPTH), room = DEPTH / 2 * PANEL + SKEW;
  uint32_t* packed = (uint32_t*)aligned_alloc(64, groups(panels * chunks * room * 4, 64) * 64);
  // As many blocks for each thread.
  const i64 threads = omp_get_max_threads(), most = std::max(TILE, BLOCK_BYTES / (2 * inputs));
  const i64 block = groups(groups(tokens, threads * groups(groups(tokens, threads), most)), TILE) * TILE;
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (i64 i = 0; i < panels * chunks; i++) {
      const i64 first = i / chunks * PANEL, last = std::min(outputs, first + PANEL);
      const i64 begin = i % chunks * DEPTH, end = std::min(inputs, begin + DEPTH);
      if (transposed)
        pack<PANEL>(matrix + begin * outputs, outputs, end - begin, first, last, (end - begin) / 2, packed + i * room);
      else
        pack_rows(matrix, inputs, first, last, begin, end, packed + i * room);
    }
    float* sums = (float*)aligned_alloc(64, block * PANEL * 4);
#pragma omp for schedule(static)
    for (i64 at = 0; at < tokens; at += block) {
      const i64 stop = std::min(tokens, at + block), tiles = groups(stop - at, TILE), calls = panels * chunks * tiles;
      // Lines of the next block's rows and of the next panel are asked for bit by bit.
      const char* next_rows = (const char*)(x + stop * inputs);
      const i64 row_lines = std::min(block, tokens - stop) * inputs / 32, rows_each = groups(row_lines, calls);
      const i64 panel_each = groups(room, 16 * tiles);
      for (i64 i = 0; i < panels * chunks; i++) {
        const uint32_t* panel = packed + i * room;
        const char* next_panel = (const char*)(packed + (i + 1) % (panels * chunks) * room);
        const i64 column = i / chunks * PANEL, begin = i % chunks * DEPTH, depth = std::min(DEPTH, inputs - begin) / 2;
        const i64 left = outputs - column;
        const __mmask16 mask[2] = {lanes(left), left > 16 ? lanes(left - 16) : __mmask16(0)};
        __m512 shift[2];
        for (i64 half = 0; half < 2; half++)
          shift[half] = bias ? _mm512_maskz_loadu_ps(mask[half], bias + column + 16 * half) : _mm512_setzero_ps();
        for (i64 t = 0; t < tiles; t++) {
          for (i64 line = 0; line < rows_each; line++, next_rows += 64) _mm_prefetch(next_rows, _MM_HINT_T1);
          for (i64 line = 0; line < panel_each; line++, next_panel += 64) _mm_prefetch(next_panel, _MM_HINT_T1);
          const i64 first = at + t * TILE, rows = std::min(TILE, stop - first);
          const bf16* row[TILE];
#pragma GCC unroll 8
          for (int r = 0; r < TILE; r++) row[r] = x + (first + std::min<i64>(r, rows - 1)) * inputs + begin;
          float* own = sums + t * TILE * PANEL;
          const auto word = [&](int r, i64 k) {
            int pair;
            memcpy(&pair, row[r] + 2 * k, 4);
            return pair;
          };
          bf16* to = y + first * outputs + column;
          if (begin + DEPTH >= inputs)  // lines far apart, written when the tile is done; not asked for, they cost a quarter
            for (i64 r = 0; r < rows; r++) __builtin_prefetch(to + r * outputs, 1);
          const auto put = [&](i64 r, i64 half, __m512 sum) {
            if (r < rows) store(to + r * outputs + 16 * half, mask[half], _mm512_add_ps(sum, shift[half]));
          };
          if (chunks == 1) {
            tile_by_panel(word, panel, depth, put);
          } else if (begin == 0) {
            tile_by_panel(word, panel, depth,
                          [&](i64 r, i64 half, __m512 sum) { _mm512_storeu_ps(own + r * PANEL + 16 * half, sum); });
          } else {
            tile_by_panel(word, panel, depth, [&](i64 r, i64 half, __m512 sum) {
              float* before = own + r * PANEL + 16 * half;
              sum = _mm512_add_ps(sum, _mm512_loadu_ps(before));
              if (begin + DEPTH < inputs) _mm512_storeu_ps(before, sum);
              else put(r, half, sum);
            });
          }
        }
      }
    }
    free(sums);
  }
  free(packed);
}
