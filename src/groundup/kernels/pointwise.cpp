// What lies between the matrix products of a training step, each in one pass over memory: norms with the residual sum,
// rotary positions with the norms of queries and keys, SwiGLU, and the loss over a slice of the vocabulary's scores.
//
// Numbers are bfloat16 in memory and float32 in registers. Gains' gradients are summed over PARTS fixed parts of the
// rows, whose sums the caller adds up, so that results do not depend on the number of threads.
#include <omp.h>
#include <cmath>

#include "bf16.h"

static const i64 PARTS = 64;

static inline i64 part_begin(i64 part, i64 count) { return count * part / PARTS; }

// y = x / rms(x) * gain for x (+ delta, the sum stored in `sum`); inverse_rms [rows]. Gain may be null.
extern "C" void rms_norm_forward(const bf16* x, const bf16* delta, const float* gain, bf16* sum, bf16* y,
                                 float* inverse_rms, i64 rows, i64 size, float epsilon) {
#pragma omp parallel for schedule(static)
  for (i64 row = 0; row < rows; row++) {
    const bf16* in = x + row * size;
    __m512 squares = _mm512_setzero_ps();
    if (delta) {
      bf16* to = sum + row * size;
      for (i64 i = 0; i < size; i += 16) {
        __mmask16 m = lanes(size - i);
        store(to + i, m, _mm512_add_ps(load_ahead(in + i, m), load_ahead(delta + row * size + i, m)));
      }
      in = to;
    }
    for (i64 i = 0; i < size; i += 16) {
      __m512 v = load_ahead(in + i, lanes(size - i));
      squares = _mm512_fmadd_ps(v, v, squares);
    }
    float inverse = 1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / size + epsilon);
    inverse_rms[row] = inverse;
    __m512 by = _mm512_set1_ps(inverse);
    for (i64 i = 0; i < size; i += 16) {
      __mmask16 m = lanes(size - i);
      __m512 v = _mm512_mul_ps(load(in + i, m), by);
      if (gain) v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, gain + i));
      store(y + row * size + i, m, v);
    }
  }
}

// grad_x = grad_sum (may be null) + the norm's own gradient; grad_gain [PARTS][size], null where the gain is.
extern "C" void rms_norm_backward(const bf16* grad, const bf16* grad_sum, const bf16* x, const float* gain,
                                  const float* inverse_rms, bf16* grad_x, float* grad_gain, i64 rows, i64 size) {
#pragma omp parallel for schedule(static)
  for (i64 part = 0; part < PARTS; part++) {
    float* total = grad_gain ? grad_gain + part * size : nullptr;
    if (total) memset(total, 0, size * sizeof(float));
    for (i64 row = part_begin(part, rows); row < part_begin(part + 1, rows); row++) {
      const bf16 *g = grad + row * size, *in = x + row * size;
      __m512 inverse = _mm512_set1_ps(inverse_rms[row]), dot = _mm512_setzero_ps();
      for (i64 i = 0; i < size; i += 16) {
        __mmask16 m = lanes(size - i);
        __m512 unit = _mm512_mul_ps(load_ahead(in + i, m), inverse), by = load_ahead(g + i, m);
        if (total)
          _mm512_mask_storeu_ps(total + i, m, _mm512_fmadd_ps(by, unit, _mm512_maskz_loadu_ps(m, total + i)));
        if (gain) by = _mm512_mul_ps(by, _mm512_maskz_loadu_ps(m, gain + i));
        dot = _mm512_fmadd_ps(by, unit, dot);
      }
      __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(dot) / size);
      for (i64 i = 0; i < size; i += 16) {
        __mmask16 m = lanes(size - i);
        __m512 unit = _mm512_mul_ps(load(in + i, m), inverse), by = load(g + i, m);
        if (gain) by = _mm512_mul_ps(by, _mm512_maskz_loadu_ps(m, gain + i));
        __m512 found = _mm512_mul_ps(inverse, _mm512_fnmadd_ps(unit, mean, by));
        if (grad_sum) found = _mm512_add_ps(found, load_ahead(grad_sum + row * size + i, m));
        store(grad_x + row * size + i, m, found);
      }
    }
  }
}

struct Turn {  // the angles of one position
  const float *cosines, *sines;
  __m512 cosine(i64 i, __mmask16 m) const { return _mm512_maskz_loadu_ps(m, cosines + i); }
  __m512 sine(i64 i, __mmask16 m) const { return _mm512_maskz_loadu_ps(m, sines + i); }
};

// First `heads` heads of each position of x: normed (gain not null; inverse_rms [positions][heads]) and turned.
static void rotate_heads(const bf16* x, const float* gain, Turn turn, bf16* y, float* inverse_rms, i64 heads,
                         i64 dim, float epsilon) {
  i64 half = dim / 2;
  for (i64 head = 0; head < heads; head++) {
    const bf16* in = x + head * dim;
    __m512 by = _mm512_set1_ps(1.0f);
    if (gain) {
      __m512 squares = _mm512_setzero_ps();
      for (i64 i = 0; i < dim; i += 16) {
        __m512 v = load(in + i, lanes(dim - i));
        squares = _mm512_fmadd_ps(v, v, squares);
      }
      inverse_rms[head] = 1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / dim + epsilon);
      by = _mm512_set1_ps(inverse_rms[head]);
    }
    for (i64 i = 0; i < half; i += 16) {
      __mmask16 m = lanes(half - i);
      __m512 first = load_ahead(in + i, m), second = load_ahead(in + half + i, m);
      __m512 c = turn.cosine(i, m), s = turn.sine(i, m);
      if (gain) {
        first = _mm512_mul_ps(_mm512_mul_ps(first, by), _mm512_maskz_loadu_ps(m, gain + i));
        second = _mm512_mul_ps(_mm512_mul_ps(second, by), _mm512_maskz_loadu_ps(m, gain + half + i));
      }
      store(y + head * dim + i, m, _mm512_fnmadd_ps(second, s, _mm512_mul_ps(first, c)));
      store(y + head * dim + half + i, m, _mm512_fmadd_ps(first, s, _mm512_mul_ps(second, c)));
    }
  }
}

static void rotate_back(const bf16* grad, const bf16* x, const float* gain, Turn turn, const float* inverse_rms,
                        bf16* grad_x, float* grad_gain, i64 heads, i64 dim) {
  i64 half = dim / 2;
  for (i64 head = 0; head < heads; head++) {
    const bf16 *g = grad + head * dim, *in = x + head * dim;
    bf16* to = grad_x + head * dim;
    __m512 inverse = _mm512_set1_ps(gain ? inverse_rms[head] : 1.0f), dot = _mm512_setzero_ps();
    for (int pass = gain ? 0 : 1; pass < 2; pass++) {
      __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(dot) / dim);
      for (i64 i = 0; i < half; i += 16) {
        __mmask16 m = lanes(half - i);
        __m512 first = load_ahead(g + i, m), second = load_ahead(g + half + i, m);
        __m512 c = turn.cosine(i, m), s = turn.sine(i, m);
        __m512 back[2] = {_mm512_fmadd_ps(second, s, _mm512_mul_ps(first, c)),
                          _mm512_fnmadd_ps(first, s, _mm512_mul_ps(second, c))};
        for (int part = 0; part < 2; part++) {
          i64 at = part * half + i;
          __m512 by = back[part];
          if (gain) {
            __m512 unit = _mm512_mul_ps(load_ahead(in + at, m), inverse);
            if (pass == 0) {
              float* total = grad_gain + at;
              _mm512_mask_storeu_ps(total, m, _mm512_fmadd_ps(by, unit, _mm512_maskz_loadu_ps(m, total)));
            }
            by = _mm512_mul_ps(by, _mm512_maskz_loadu_ps(m, gain + at));
            if (pass == 0) dot = _mm512_fmadd_ps(by, unit, dot);
            by = _mm512_mul_ps(inverse, _mm512_fnmadd_ps(unit, mean, by));
          }
          if (pass == 1) store(to + at, m, by);
        }
      }
    }
  }
}

// joined [positions][(heads + 2 kv_heads) dim]: queries, keys, values -> turned [positions][(heads + kv_heads) dim].
// Angles [angle_rows][half]; position p has the angles of p % angle_rows.
extern "C" void rotate_forward(const bf16* joined, const float* query_gain, const float* key_gain, const float* cosines,
                               const float* sines, bf16* turned, float* inverse_rms, i64 positions, i64 angle_rows,
                               i64 heads, i64 kv_heads, i64 dim, float epsilon) {
  i64 in_step = (heads + 2 * kv_heads) * dim, out_step = (heads + kv_heads) * dim, all = heads + kv_heads;
#pragma omp parallel for schedule(static)
  for (i64 p = 0; p < positions; p++) {
    i64 angle = p % angle_rows * (dim / 2);
    Turn turn{cosines + angle, sines + angle};
    rotate_heads(joined + p * in_step, query_gain, turn, turned + p * out_step, inverse_rms + p * all, heads,
                 dim, epsilon);
    rotate_heads(joined + p * in_step + heads * dim, key_gain, turn, turned + p * out_step + heads * dim,
                 inverse_rms + p * all + heads, kv_heads, dim, epsilon);
  }
}

// Fills the queries' and keys' part of grad_joined; grad_gains [PARTS][2 dim] (queries', keys'), null without gains.
extern "C" void rotate_backward(const bf16* grad_turned, const bf16* joined, const float* query_gain,
                                const float* key_gain, const float* cosines, const float* sines,
                                const float* inverse_rms, bf16* grad_joined, float* grad_gains, i64 positions,
                                i64 angle_rows, i64 heads, i64 kv_heads, i64 dim) {
  i64 in_step = (heads + 2 * kv_heads) * dim, out_step = (heads + kv_heads) * dim, all = heads + kv_heads;
#pragma omp parallel for schedule(static)
  for (i64 part = 0; part < PARTS; part++) {
    float* total = grad_gains ? grad_gains + part * 2 * dim : nullptr;
    if (total) memset(total, 0, 2 * dim * sizeof(float));
    for (i64 p = part_begin(part, positions); p < part_begin(part + 1, positions); p++) {
      i64 angle = p % angle_rows * (dim / 2);
      Turn turn{cosines + angle, sines + angle};
      rotate_back(grad_turned + p * out_step, joined + p * in_step, query_gain, turn, inverse_rms + p * all,
                  grad_joined + p * in_step, total, heads, dim);
      rotate_back(grad_turned + p * out_step + heads * dim, joined + p * in_step + heads * dim, key_gain, turn,
                  inverse_rms + p * all + heads, grad_joined + p * in_step + heads * dim, total ? total + dim : nullptr,
                  kv_heads, dim);
    }
  }
}

// joined [rows][2 size]: gates, then what they let through -> [rows][size].
extern "C" void swiglu_forward(const bf16* joined, bf16* y, i64 rows, i64 size) {
#pragma omp parallel for schedule(static)
  for (i64 row = 0; row < rows; row++) {
    const bf16 *gate = joined + row * 2 * size, *up = gate + size;
    for (i64 i = 0; i < size; i += 16) {
      __mmask16 m = lanes(size - i);
      __m512 g = load_ahead(gate + i, m);
      __m512 open = inverse(_mm512_add_ps(_mm512_set1_ps(1.0f), exp_of(_mm512_sub_ps(_mm512_setzero_ps(), g))));
      store(y + row * size + i, m, _mm512_mul_ps(_mm512_mul_ps(g, open), load_ahead(up + i, m)));
    }
  }
}

extern "C" void swiglu_backward(const bf16* grad, const bf16* joined, bf16* grad_joined, i64 rows, i64 size) {
#pragma omp parallel for schedule(static)
  for (i64 row = 0; row < rows; row++) {
    const bf16 *gate = joined + row * 2 * size, *up = gate + size;
    bf16* to = grad_joined + row * 2 * size;
    for (i64 i = 0; i < size; i += 16) {
      __mmask16 m = lanes(size - i);
      __m512 one = _mm512_set1_ps(1.0f), g = load_ahead(gate + i, m), by = load_ahead(grad + row * size + i, m);
      __m512 open = inverse(_mm512_add_ps(one, exp_of(_mm512_sub_ps(_mm512_setzero_ps(), g))));
      __m512 slope = _mm512_mul_ps(open, _mm512_fmadd_ps(g, _mm512_sub_ps(one, open), one));
      store(to + i, m, _mm512_mul_ps(_mm512_mul_ps(by, load_ahead(up + i, m)), slope));
      store(to + size + i, m, _mm512_mul_ps(by, _mm512_mul_ps(g, open)));
    }
  }
}

// x *= scale, where numbers that are not finite become 0; nothing is touched when the scale is 1 (then all are finite).
extern "C" void scale_finite(float* x, const float* scale, i64 count) {
  if (*scale == 1.0f) return;
  const i64 block = 4096;
  __m512 by = _mm512_set1_ps(*scale);
#pragma omp parallel for schedule(static)
  for (i64 start = 0; start < count; start += block) {
    i64 end = start + block < count ? start + block : count;
    for (i64 i = start; i < end; i += 16) {
      __mmask16 m = lanes(end - i);
      __m512 v = _mm512_maskz_loadu_ps(m, x + i);
      // Quiet and signalling NaN, both infinities.
      __mmask16 bad = _mm512_fpclass_ps_mask(v, 0x99);
      _mm512_mask_storeu_ps(x + i, m, _mm512_mask_blend_ps(bad, _mm512_mul_ps(v, by), _mm512_setzero_ps()));
    }
  }
}

// scores [rows][vocab], targets [rows] (`ignore`: none) -> losses [rows] in nats; with `weights` [rows] the scores are
// replaced by the gradient of sum(weights * losses). `smoothing`: of the labels; `z`: weight of (log sum exp)^2.
extern "C" void token_losses(bf16* scores, const i64* targets, const float* weights, float* losses, i64 rows, i64 vocab,
                             i64 ignore, float smoothing, float z) {
  const __m512 log2e = _mm512_set1_ps(1.44269504f);
#pragma omp parallel for schedule(static)
  for (i64 row = 0; row < rows; row++) {
    bf16* s = scores + row * vocab;
    __m512 top = _mm512_set1_ps(-INFINITY);
    for (i64 i = 0; i < vocab; i += 16) {
      __mmask16 m = lanes(vocab - i);
      top = _mm512_mask_max_ps(top, m, top, load_ahead(s + i, m));
    }
    float highest = _mm512_reduce_max_ps(top);
    __m512 shift = _mm512_set1_ps(highest * 1.44269504f), sum = _mm512_setzero_ps(), plain = _mm512_setzero_ps();
    for (i64 i = 0; i < vocab; i += 16) {
      __mmask16 m = lanes(vocab - i);
      __m512 v = load(s + i, m);
      sum = _mm512_mask_add_ps(sum, m, sum, exp2_of(_mm512_fmsub_ps(v, log2e, shift)));
      plain = _mm512_mask_add_ps(plain, m, plain, v);
    }
    float total = _mm512_reduce_add_ps(sum);
    bool valid = targets[row] != ignore;
    uint32_t bits = (uint32_t)s[valid ? targets[row] : 0] << 16;
    float own;
    memcpy(&own, &bits, 4);
    float log_total = highest + std::log(total);
    float loss = log_total - own;
    if (smoothing != 0.0f) loss += smoothing * (own - _mm512_reduce_add_ps(plain) / vocab);
    losses[row] = valid ? loss + z * log_total * log_total : 0.0f;
    if (!weights) continue;
    float weight = valid ? weights[row] : 0.0f, steeper = 1.0f + 2.0f * z * log_total, even = smoothing / vocab;
    __m512 by = _mm512_set1_ps(weight * steeper / total), less = _mm512_set1_ps(weight * even);
    for (i64 i = 0; i < vocab; i += 16) {
      __mmask16 m = lanes(vocab - i);
      store(s + i, m, _mm512_fmsub_ps(by, exp2_of(_mm512_fmsub_ps(load(s + i, m), log2e, shift)), less));
    }
    if (valid) {
      // The target's own gradient afresh: rounded once, like the others.
      float share = std::exp(own - highest) / total;
      __m512 hit = _mm512_set1_ps((share * steeper - even - (1.0f - smoothing)) * weight);
      store(s + targets[row], 1, hit);
    }
  }
}
