// What lies between the matrix products of a block with biases and norms behind (BERT's), each in one pass over memory:
// the norm of x + branch + bias, GELU of x + bias, and the gradients of biases, which are sums over rows.
//
// Numbers are bfloat16 in memory and float32 in registers. Gradients of gains and biases are summed over PARTS fixed
// parts of the rows, whose sums the caller adds up, so that results do not depend on the number of threads.
#include <omp.h>
#include <cmath>

#include "bf16.h"

static const i64 PARTS = 64;

static inline i64 part_begin(i64 part, i64 count) { return count * part / PARTS; }

static inline __m512 floats(const float* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
static inline void add_to(float* p, __mmask16 m, __m512 x) {
  _mm512_mask_storeu_ps(p, m, _mm512_add_ps(floats(p, m), x));
}

// total = x + branch + bias (bias may be null); y = (total - mean) / deviation * gain + shift. mean, inverse [rows].
extern "C" void layer_norm_forward(const bf16* x, const bf16* branch, const float* bias, const float* gain,
                                   const float* shift, bf16* total, bf16* y, float* mean, float* inverse, i64 rows,
                                   i64 size, float epsilon) {
#pragma omp parallel for schedule(static)
  for (i64 row = 0; row < rows; row++) {
    const bf16 *in = x + row * size, *more = branch + row * size;
    bf16* sums = total + row * size;
    __m512 all = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (i64 i = 0; i < size; i += 16) {
      __mmask16 m = lanes(size - i);
      __m512 v = _mm512_add_ps(load_ahead(in + i, m), load_ahead(more + i, m));
      if (bias) v = _mm512_add_ps(v, floats(bias + i, m));
      store(sums + i, m, v);
      all = _mm512_add_ps(all, load(sums + i, m));
    }
    mean[row] = _mm512_reduce_add_ps(all) / size;
    __m512 middle = _mm512_set1_ps(mean[row]);
    for (i64 i = 0; i < size; i += 16) {
      __mmask16 m = lanes(size - i);
      __m512 v = _mm512_maskz_sub_ps(m, load(sums + i, m), middle);
      squares = _mm512_fmadd_ps(v, v, squares);
    }
    inverse[row] = 1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / size + epsilon);
    __m512 by = _mm512_set1_ps(inverse[row]);
    for (i64 i = 0; i < size; i += 16) {
      __mmask16 m = lanes(size - i);
      __m512 unit = _mm512_mul_ps(_mm512_sub_ps(load(sums + i, m), middle), by);
      store(y + row * size + i, m, _mm512_fmadd_ps(unit, floats(gain + i, m), floats(shift + i, m)));
    }
  }
}

// The gradient by total, which is that by x and by branch; parts [PARTS][3][size]: by gain, shift and bias.
extern "C" void layer_norm_backward(const bf16* grad, const bf16* total, const float* gain, const float* mean,
                                    const float* inverse, bf16* grad_total, float* parts, i64 rows, i64 size) {
#pragma omp parallel for schedule(static)
  for (i64 part = 0; part < PARTS; part++) {
    float *by_gain = parts + part * 3 * size, *by_shift = by_gain + size, *by_bias = by_shift + size;
    memset(by_gain, 0, 3 * size * sizeof(float));
    for (i64 row = part_begin(part, rows); row < part_begin(part + 1, rows); row++) {
      const bf16 *g = grad + row * size, *in = total + row * size;
      __m512 middle = _mm512_set1_ps(mean[row]), scale = _mm512_set1_ps(inverse[row]);
      __m512 dot = _mm512_setzero_ps(), all = _mm512_setzero_ps();
      for (i64 i = 0; i < size; i += 16) {
        __mmask16 m = lanes(size - i);
        __m512 unit = _mm512_mul_ps(_mm512_sub_ps(load_ahead(in + i, m), middle), scale), by = load_ahead(g + i, m);
        add_to(by_gain + i, m, _mm512_mul_ps(by, unit));
        add_to(by_shift + i, m, by);
        by = _mm512_mul_ps(by, floats(gain + i, m));
        dot = _mm512_fmadd_ps(by, unit, dot);
        all = _mm512_add_ps(all, by);
      }
      __m512 along = _mm512_set1_ps(_mm512_reduce_add_ps(dot) / size);
      __m512 even = _mm512_set1_ps(_mm512_reduce_add_ps(all) / size);
      for (i64 i = 0; i < size; i += 16) {
        __mmask16 m = lanes(size - i);
        __m512 unit = _mm512_mul_ps(_mm512_sub_ps(load(in + i, m), middle), scale);
        __m512 by = _mm512_fmsub_ps(load(g + i, m), floats(gain + i, m), even);
        __m512 found = _mm512_mul_ps(scale, _mm512_fnmadd_ps(unit, along, by));
        store(grad_total + row * size + i, m, found);
        add_to(by_bias + i, m, found);
      }
    }
  }
}

// With z = |x| / sqrt(2): 1 - erf z = (a1 t + ... + a5 t^5) e^(-z^2), t = 1 / (1 + 0.3275911 z), to 1.5e-7 (Abramowitz
// and Stegun 7.1.26). Answers the share below x of the normal distribution, and its density at x.
static inline __m512 normal_share(__m512 x, __m512* density) {
  __m512 one = _mm512_set1_ps(1.0f), z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678f));
  __m512 t = inverse(_mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), one));
  __m512 falling = exp_of(_mm512_mul_ps(_mm512_sub_ps(_mm512_setzero_ps(), z), z));
  __m512 y = _mm512_set1_ps(1.061405429f);
  y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-1.453152027f));
  y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(1.421413741f));
  y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-0.284496736f));
  y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.254829592f));
  __m512 beyond = _mm512_mul_ps(_mm512_mul_ps(y, t), _mm512_mul_ps(falling, _mm512_set1_ps(0.5f)));
  *density = _mm512_mul_ps(falling, _mm512_set1_ps(0.39894228f));
  return _mm512_mask_sub_ps(beyond, _mm512_cmple_ps_mask(_mm512_setzero_ps(), x), one, beyond);
}

// y = GELU(x + bias), the exact one, and its slope there.
extern "C" void gelu_forward(const bf16* x, const float* bias, bf16* y, bf16* slope, i64 rows, i64 size) {
#pragma omp parallel for schedule(static)
  for (i64 row = 0; row < rows; row++)
    for (i64 i = 0; i < size; i += 16) {
      __mmask16 m = lanes(size - i);
      __m512 v = _mm512_add_ps(load_ahead(x + row * size + i, m), floats(bias + i, m)), density;
      __m512 share = normal_share(v, &density);
      store(y + row * size + i, m, _mm512_mul_ps(v, share));
      store(slope + row * size + i, m, _mm512_fmadd_ps(v, density, share));
    }
}

// parts [PARTS][size]: the gradient by bias.
extern "C" void gelu_backward(const bf16* grad, const bf16* slope, bf16* grad_x, float* parts, i64 rows, i64 size) {
#pragma omp parallel for schedule(static)
  for (i64 part = 0; part < PARTS; part++) {
    float* total = parts + part * size;
    memset(total, 0, size * sizeof(float));
    for (i64 row = part_begin(part, rows); row < part_begin(part + 1, rows); row++)
      for (i64 i = 0; i < size; i += 16) {
        __mmask16 m = lanes(size - i);
        __m512 found = _mm512_mul_ps(load_ahead(grad + row * size + i, m), load_ahead(slope + row * size + i, m));
        store(grad_x + row * size + i, m, found);
        add_to(total + i, m, found);
      }
  }
}

// x [rows][size] -> parts [PARTS][size] of its sums over the rows.
extern "C" void column_sums(const bf16* x, float* parts, i64 rows, i64 size) {
#pragma omp parallel for schedule(static)
  for (i64 part = 0; part < PARTS; part++) {
    float* total = parts + part * size;
    memset(total, 0, size * sizeof(float));
    for (i64 row = part_begin(part, rows); row < part_begin(part + 1, rows); row++)
      for (i64 i = 0; i < size; i += 16) {
        __mmask16 m = lanes(size - i);
        add_to(total + i, m, load_ahead(x + row * size + i, m));
      }
  }
}
