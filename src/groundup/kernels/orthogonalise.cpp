// Many matrices of one shape -> each one's nearest orthogonal matrix, roughly: the Newton-Schulz iterations of Muon,
//     G = X X'    B = b G + c G G    X <- a X + B X
// A matrix stays in one core's cache for all its iterations, and of the symmetric products only one half is computed.
#include <omp.h>
#include <cmath>
#include <initializer_list>

#include "bf16.h"

static const i64 PANEL = 64;

// Pairs of neighbouring columns of [rows][columns], rows across: out[k][row] = (x[row][2 k], x[row][2 k + 1]).
static void across(const bf16* x, i64 rows, i64 columns, uint32_t* out) {
  const uint32_t* words = (const uint32_t*)x;
  i64 width = columns / 2;
  for (i64 row = 0; row < rows; row += 16)
    for (i64 k = 0; k < width; k += 16) {
      __m512i r[16];
      for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(words + (row + i) * width + k);
      transpose(r);
      for (int i = 0; i < 16; i++) _mm512_storeu_si512(out + (k + i) * rows + row, r[i]);
    }
}

// The symmetric product of a [size][2 depth] and b, where b[k][column] are the pairs of column: whole panels from the
// diagonal down, then mirrored.
static void symmetric(const bf16* a, const uint32_t* b, i64 size, i64 depth, float* out) {
  for (i64 column = 0; column < size; column += PANEL) {
    i64 width = size - column < PANEL ? size - column : PANEL;
    product(size - column, width, (const uint32_t*)a + column * depth, depth, 1, b + column, size, depth,
            out + column * size + column, size, false);
  }
  for (i64 row = 0; row < size; row += 16)
    for (i64 column = (row / PANEL + 1) * PANEL; column < size; column += 16) {
      __m512i r[16];
      for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(out + (column + i) * size + row);
      transpose(r);
      for (int i = 0; i < 16; i++) _mm512_storeu_si512(out + (row + i) * size + column, r[i]);
    }
}

static void combine(const float* x, float by_x, const float* y, float by_y, bf16* out, i64 count) {
  __m512 p = _mm512_set1_ps(by_x), q = _mm512_set1_ps(by_y);
  for (i64 i = 0; i < count; i += 16)
    store(out + i, _mm512_fmadd_ps(p, _mm512_loadu_ps(x + i), _mm512_mul_ps(q, _mm512_loadu_ps(y + i))));
}

// x, out [count][rows][columns], rows <= columns, rows a multiple of 16 and columns of 32; coefficients [steps][3].
extern "C" void orthogonalise(const float* x, bf16* out, const float* coefficients, i64 steps, i64 count, i64 rows,
                              i64 columns) {
  i64 all = rows * columns, square = rows * rows;
#pragma omp parallel
  {
    bf16* gram = (bf16*)aligned_alloc(64, square * 2);
    bf16* mix = (bf16*)aligned_alloc(64, square * 2);
    uint32_t* gram_pairs = (uint32_t*)aligned_alloc(64, square * 2);
    uint32_t* turned = (uint32_t*)aligned_alloc(64, all * 2);
    float* first = (float*)aligned_alloc(64, square * 4);
    float* second = (float*)aligned_alloc(64, square * 4);
    float* panel = (float*)aligned_alloc(64, rows * PANEL * 4);
#pragma omp for schedule(dynamic, 1)
    for (i64 matrix = 0; matrix < count; matrix++) {
      const float* in = x + matrix * all;
      bf16* now = out + matrix * all;
      __m512 squares = _mm512_setzero_ps();
      for (i64 i = 0; i < all; i += 16) {
        __m512 v = _mm512_loadu_ps(in + i);
        squares = _mm512_fmadd_ps(v, v, squares);
      }
      __m512 by = _mm512_set1_ps(1.0f / (std::sqrt(_mm512_reduce_add_ps(squares)) + 1e-7f));
      for (i64 i = 0; i < all; i += 16) store(now + i, _mm512_mul_ps(_mm512_loadu_ps(in + i), by));
      for (i64 step = 0; step < steps; step++) {
        const float* c = coefficients + 3 * step;
        across(now, rows, columns, turned);
        symmetric(now, turned, rows, columns / 2, first);
        for (i64 i = 0; i < square; i += 16) store(gram + i, _mm512_loadu_ps(first + i));
        pair_rows(gram, rows, rows, gram_pairs);
        symmetric(gram, gram_pairs, rows, rows / 2, second);
        combine(first, c[1], second, c[2], mix, square);
        pair_rows(now, rows, columns, turned);
        __m512 stay = _mm512_set1_ps(c[0]);
        for (i64 column = 0; column < columns; column += PANEL) {
          i64 width = columns - column < PANEL ? columns - column : PANEL;
          product(rows, width, (const uint32_t*)mix, rows / 2, 1, turned + column, columns, rows / 2, panel, PANEL,
                  false);
          for (i64 row = 0; row < rows; row++)
            for (i64 i = 0; i < width; i += 16) {
              bf16* at = now + row * columns + column + i;
              store(at, _mm512_fmadd_ps(stay, load(at), _mm512_loadu_ps(panel + row * PANEL + i)));
            }
        }
      }
    }
    for (void* part : {(void*)gram, (void*)mix, (void*)gram_pairs, (void*)turned, (void*)first, (void*)second,
                       (void*)panel})
      free(part);
  }
}
