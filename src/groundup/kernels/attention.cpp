// Attention of packed documents, causal or in both directions, forward and backward, in tiles of 64 queries by 64 keys
// that stay in the cache: neither scores nor weights are ever held whole (Dao et al. 2022, arXiv 2205.14135), and tiles
// that lie behind the diagonal (causal) or between documents are not computed.
//
// Everything is computed with keys down and queries across, so that a query's maximum, sum and mask are one lane of a
// vector, and a tile of weights is written as pairs of keys, which is what the next product multiplies along:
//     S = K Q'    P = 2^(S c - l)    O' = V' P    dP = V dO'    dS = P (dP - d)    dV = P dO    dK = dS Q    dQ' = K' dS
//
// One task is one row and one key head with all query heads that share it; nothing is summed over tasks, so the result
// does not depend on the number of threads.
#include <omp.h>
#include <cmath>
#include <initializer_list>

#include "bf16.h"

static const i64 TILE = 64, HALF = TILE / 2;
static const float HIDDEN = -1e30f, LOWEST = -1e20f;  // finite: a query that has seen nothing yet gives no NaN

struct Shape {
  i64 rows, time, heads, kv_heads, head_dim;
  bool causal;
  i64 tiles() const { return (time + TILE - 1) / TILE; }
  i64 padded() const { return tiles() * TILE; }
  i64 key_tiles(i64 query_tile) const { return causal ? query_tile + 1 : tiles(); }
  i64 first_query_tile(i64 key_tile) const { return causal ? key_tile : 0; }
};

struct Scratch {
  char* base = nullptr;
  size_t used = 0;
  explicit Scratch(size_t bytes) { base = (char*)aligned_alloc(64, (bytes + 4095) / 4096 * 4096); }
  ~Scratch() { free(base); }
  template <typename T>
  T* take(i64 count) {
    T* found = (T*)(base + used);
    used += ((size_t)count * sizeof(T) + 63) / 64 * 64;
    return found;
  }
};

// Rows lie far apart: those that come SOON rows later are asked for.
static const i64 SOON = 24;
static void ask(const bf16* row, i64 dim) {
  for (i64 d = 0; d < dim; d += 32) _mm_prefetch((const char*)(row + d), _MM_HINT_T0);
}

// Rows [time][dim] at `step` elements apart -> one block, zeros behind the last.
static void copy_rows(const bf16* x, i64 step, i64 time, i64 padded, i64 dim, bf16* out) {
  for (i64 t = 0; t < time; t++) {
    ask(x + (t + SOON) * step, dim);
    memcpy(out + t * dim, x + t * step, dim * sizeof(bf16));
  }
  memset(out + time * dim, 0, (padded - time) * dim * sizeof(bf16));
}

// One tile of rows [64][dim] -> its pairs of columns, queries across: out[d / 2][t] = (x[t][d], x[t][d + 1]).
static void across(const bf16* x, i64 dim, uint32_t* out) {
  const uint32_t* words = (const uint32_t*)x;
  i64 width = dim / 2;
  for (i64 d = 0; d < width; d += 16) {
    __mmask16 m = lanes(width - d);
    for (i64 t = 0; t < TILE; t += 16) {
      __m512i r[16];
      for (int i = 0; i < 16; i++) r[i] = _mm512_maskz_loadu_epi32(m, words + (t + i) * width + d);
      transpose(r);
      for (int i = 0; i < 16 && d + i < width; i++) _mm512_store_si512(out + (d + i) * TILE + t, r[i]);
    }
  }
}

// A tile [dim][64] with queries across, times `factor` of each query -> rows of `valid` queries.
static void write_queries(const float* x, i64 dim, const float* factor, bf16* out, i64 step, i64 valid) {
  for (i64 d = 0; d < dim; d += 16)
    for (i64 t = 0; t < valid; t += 16) {
      __m512i r[16];
      __m512 by = _mm512_loadu_ps(factor + t);
      for (int i = 0; i < 16; i++)
        r[i] = _mm512_castps_si512(_mm512_mul_ps(_mm512_load_ps(x + (d + i) * TILE + t), by));
      transpose(r);
      for (int i = 0; i < 16 && t + i < valid; i++) store(out + (t + i) * step + d, _mm512_castsi512_ps(r[i]));
    }
}

static void write_rows(const float* x, i64 dim, float factor, bf16* out, i64 step, i64 valid) {
  __m512 by = _mm512_set1_ps(factor);
  for (i64 t = 0; t < valid; t++)
    for (i64 d = 0; d < dim; d += 16) store(out + t * step + d, _mm512_mul_ps(_mm512_load_ps(x + t * dim + d), by));
}

// Which part of a tile is seen: nothing, everything, or what the mask of each key says.
enum Seen { NONE, PART, ALL };

struct Documents {
  const int32_t* segments;  // of this row, or null: one document
  i64 time;
  bool causal;
  int32_t lowest(i64 tile) const { return extreme(tile, false); }
  int32_t highest(i64 tile) const { return extreme(tile, true); }
  int32_t extreme(i64 tile, bool high) const {
    i64 end = (tile + 1) * TILE < time ? (tile + 1) * TILE : time;
    int32_t found = segments[tile * TILE];
    for (i64 t = tile * TILE; t < end; t++)
      if (high ? segments[t] > found : segments[t] < found) found = segments[t];
    return found;
  }
  Seen seen(i64 query_tile, i64 key_tile, const int32_t* low, const int32_t* high) const {
    if (segments && (low[query_tile] > high[key_tile] || high[query_tile] < low[key_tile])) return NONE;
    bool same = !segments || (low[query_tile] == high[query_tile] && low[key_tile] == high[key_tile]);
    bool inside = causal ? query_tile > key_tile : (key_tile + 1) * TILE <= time;
    return inside && same ? ALL : PART;
  }
  // Queries t .. t + 15 that see the key; queries behind the end see what they like, keys behind it are seen by none.
  __mmask16 mask(i64 key, i64 t) const {
    __m512i at = _mm512_add_epi32(_mm512_set1_epi32((int)t), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
                                                                             13, 14, 15));
    __mmask16 found = key < time ? 0xffff : 0;
    if (causal) found &= _mm512_cmple_epi32_mask(_mm512_set1_epi32((int)key), at);
    if (!segments) return found;
    __m512i own = _mm512_maskz_loadu_epi32(lanes(t < time ? time - t : 0), segments + t);
    return found & _mm512_cmpeq_epi32_mask(_mm512_set1_epi32(segments[key < time ? key : time - 1]), own);
  }
};

struct Tensor {
  const bf16* data;
  i64 step;  // elements from one position to the next
  const bf16* at(const Shape& s, i64 row, i64 head) const { return data + row * s.time * step + head * s.head_dim; }
};

static const float LOG2E = 1.44269504f;

// The three products of a pair of tiles. On the causal diagonal the earlier half of the queries sees none of the later
// half of the keys, which is left out: that quarter of scores holds anything, that of weights is not read.
// Scores [64 keys][64 queries] from rows of keys and queries across.
static void by_queries(const uint32_t* keys, const uint32_t* queries, i64 dim, bool diagonal, float* scores) {
  const i64 rows = diagonal ? HALF : TILE;
  product(rows, TILE, keys, dim / 2, 1, queries, TILE, dim / 2, scores, TILE, false);
  if (diagonal)
    product(HALF, HALF, keys + HALF * dim / 2, dim / 2, 1, queries + HALF, TILE, dim / 2, scores + HALF * TILE + HALF,
            TILE, false);
}

// [dim][64 queries] += pairs of keys [32][dim] by weights [32 pairs of keys][64].
static void over_keys(const uint32_t* pairs, const uint32_t* weights, i64 dim, bool diagonal, float* out) {
  const i64 depth = diagonal ? HALF / 2 : HALF;
  product(dim, TILE, pairs, 1, dim, weights, TILE, depth, out, TILE, true);
  if (diagonal)
    product(dim, HALF, pairs + depth * dim, 1, dim, weights + depth * TILE + HALF, TILE, depth, out + HALF, TILE, true);
}

// [64 keys][dim] += rows of weights [64][64 queries] by pairs of queries [32][dim].
static void over_queries(const bf16* weights, const uint32_t* pairs, i64 dim, bool diagonal, float* out) {
  const uint32_t* words = (const uint32_t*)weights;
  product(diagonal ? HALF : TILE, dim, words, HALF, 1, pairs, dim, HALF, out, dim, true);
  if (diagonal)
    product(HALF, dim, words + HALF * HALF + HALF / 2, HALF, 1, pairs + HALF / 2 * dim, dim, HALF / 2, out + HALF * dim,
            dim, true);
}

// Of the keys of a tile, those that queries t .. t + 15 may see.
static i64 keys_seen(i64 t, bool diagonal) { return diagonal ? t / HALF * HALF + HALF : TILE; }

// One tile of queries of one head against all keys: out [64][dim] rows and log2 of the sums of weights.
static void forward_tile(const Shape& s, const Documents& documents, const int32_t* low, const int32_t* high, i64 tile,
                         const bf16* query, i64 query_step, const bf16* keys, const uint32_t* values, bf16* out,
                         i64 out_step, float* log_sums, uint32_t* q, float* scores, uint32_t* weights, float* mixed,
                         bf16* rows) {
  i64 dim = s.head_dim, first = tile * TILE, valid = s.time - first < TILE ? s.time - first : TILE;
  copy_rows(query + first * query_step, query_step, valid, TILE, dim, rows);
  across(rows, dim, q);
  memset(mixed, 0, dim * TILE * sizeof(float));
  alignas(64) float top[TILE], sum[TILE];
  for (i64 t = 0; t < TILE; t++) top[t] = HIDDEN, sum[t] = 0;
  const float unit = LOG2E / std::sqrt((float)dim);
  __m512 scale = _mm512_set1_ps(unit);
  for (i64 k = 0; k < s.key_tiles(tile); k++) {
    Seen seen = documents.seen(tile, k, low, high);
    if (seen == NONE) continue;
    const bool diagonal = s.causal && k == tile;
    by_queries((const uint32_t*)(keys + k * TILE * dim), q, dim, diagonal, scores);
    for (i64 t = 0; t < TILE; t += 16) {
      const i64 end = keys_seen(t, diagonal);
      __m512 highest = _mm512_load_ps(top + t), before = highest;
      for (i64 key = 0; key < end; key++) {
        __m512 x = _mm512_load_ps(scores + key * TILE + t);
        if (seen == PART) {
          x = _mm512_mask_blend_ps(documents.mask(k * TILE + key, first + t), _mm512_set1_ps(HIDDEN), x);
          _mm512_store_ps(scores + key * TILE + t, x);
        }
        highest = _mm512_max_ps(highest, x);
      }
      __m512 shrink = exp2_roughly(_mm512_mul_ps(_mm512_sub_ps(before, highest), scale));
      __m512 shift = _mm512_mul_ps(_mm512_max_ps(highest, _mm512_set1_ps(LOWEST)), scale);
      __m512 total = _mm512_mul_ps(_mm512_load_ps(sum + t), shrink);
      for (i64 key = 0; key < end; key += 2) {
        __m512 x = exp2_roughly(_mm512_fmsub_ps(_mm512_load_ps(scores + key * TILE + t), scale, shift));
        __m512 y = exp2_roughly(_mm512_fmsub_ps(_mm512_load_ps(scores + (key + 1) * TILE + t), scale, shift));
        total = _mm512_add_ps(total, _mm512_add_ps(x, y));
        _mm512_store_si512(weights + key / 2 * TILE + t, pairs(x, y));
      }
      _mm512_store_ps(sum + t, total);
      _mm512_store_ps(top + t, highest);
      if (_mm512_cmpneq_ps_mask(before, highest))
        for (i64 d = 0; d < dim; d++)
          _mm512_store_ps(mixed + d * TILE + t, _mm512_mul_ps(_mm512_load_ps(mixed + d * TILE + t), shrink));
    }
    over_keys(values + k * TILE / 2 * dim, weights, dim, diagonal, mixed);
  }
  for (i64 t = 0; t < valid; t++) log_sums[first + t] = top[t] * unit + std::log2(sum[t]);
  for (i64 t = 0; t < TILE; t++) sum[t] = 1.0f / sum[t];
  write_queries(mixed, dim, sum, out + first * out_step, out_step, valid);
}

extern "C" void attention_forward(const bf16* query, i64 query_step, const bf16* key, i64 key_step, const bf16* value,
                                  i64 value_step, const int32_t* segments, bf16* out, float* log_sums, i64 rows,
                                  i64 time, i64 heads, i64 kv_heads, i64 head_dim, i64 causal) {
  Shape s{rows, time, heads, kv_heads, head_dim, causal != 0};
  i64 dim = head_dim, padded = s.padded(), group = heads / kv_heads;
#pragma omp parallel
  {
    Scratch scratch((size_t)(padded * dim * 6 + TILE * dim * 10 + TILE * TILE * 8 + s.tiles() * 8 + 4096));
    bf16* k = scratch.take<bf16>(padded * dim);
    bf16* v = scratch.take<bf16>(padded * dim);
    uint32_t* values = scratch.take<uint32_t>(padded / 2 * dim);
    uint32_t* q = scratch.take<uint32_t>(TILE * dim / 2);
    bf16* own = scratch.take<bf16>(TILE * dim);
    float* scores = scratch.take<float>(TILE * TILE);
    uint32_t* weights = scratch.take<uint32_t>(TILE / 2 * TILE);
    float* mixed = scratch.take<float>(dim * TILE);
    int32_t* low = scratch.take<int32_t>(s.tiles());
    int32_t* high = scratch.take<int32_t>(s.tiles());
#pragma omp for schedule(dynamic, 1)
    for (i64 task = 0; task < rows * kv_heads; task++) {
      i64 row = task / kv_heads, kv_head = task % kv_heads;
      Documents documents{segments ? segments + row * time : nullptr, time, s.causal};
      for (i64 t = 0; segments && t < s.tiles(); t++) low[t] = documents.lowest(t), high[t] = documents.highest(t);
      copy_rows(Tensor{key, key_step}.at(s, row, kv_head), key_step, time, padded, dim, k);
      copy_rows(Tensor{value, value_step}.at(s, row, kv_head), value_step, time, padded, dim, v);
      pair_rows(v, padded, dim, values);
      for (i64 head = kv_head * group; head < (kv_head + 1) * group; head++)
        for (i64 tile = 0; tile < s.tiles(); tile++)
          forward_tile(s, documents, low, high, tile, Tensor{query, query_step}.at(s, row, head), query_step, k, values,
                       out + row * time * heads * dim + head * dim, heads * dim,
                       log_sums + (row * heads + head) * time, q, scores, weights, mixed, own);
    }
  }
}

// Scores and their gradients of one tile -> weights as rows of keys, and gradients of scores both as rows of keys and
// as pairs of keys.
static void backward_tile(const Documents& documents, Seen seen, bool diagonal, i64 first_key, i64 first_query,
                          float scale, const float* scores, const float* grad_weights, const float* log_sums,
                          const float* dots, bf16* weights, bf16* grad_scores, uint32_t* grad_pairs) {
  __m512 by = _mm512_set1_ps(scale * LOG2E);
  for (i64 t = 0; t < TILE; t += 16) {
    __m512 log_sum = _mm512_loadu_ps(log_sums + t), dot = _mm512_loadu_ps(dots + t);
    const i64 end = keys_seen(t, diagonal);
    for (i64 key = 0; key < end; key += 2) {
      __m512 p[2], g[2];
      for (int i = 0; i < 2; i++) {
        p[i] = exp2_roughly(_mm512_fmsub_ps(_mm512_load_ps(scores + (key + i) * TILE + t), by, log_sum));
        if (seen == PART) p[i] = _mm512_maskz_mov_ps(documents.mask(first_key + key + i, first_query + t), p[i]);
        g[i] = _mm512_mul_ps(p[i], _mm512_sub_ps(_mm512_load_ps(grad_weights + (key + i) * TILE + t), dot));
        store(weights + (key + i) * TILE + t, p[i]);
        store(grad_scores + (key + i) * TILE + t, g[i]);
      }
      _mm512_store_si512(grad_pairs + key / 2 * TILE + t, pairs(g[0], g[1]));
    }
  }
}

struct Queries {  // what one head's backward needs of its queries, prepared once
  uint32_t *q_across, *q_pairs, *g_across, *g_pairs;
  float *log_sums, *dots, *grad;
};

static void prepare_queries(const Shape& s, const bf16* query, i64 query_step, const bf16* grad, const bf16* out,
                            i64 out_step, const float* log_sums, bf16* rows, Queries& to) {
  i64 dim = s.head_dim, padded = s.padded();
  copy_rows(query, query_step, s.time, padded, dim, rows);
  for (i64 t = 0; t < s.tiles(); t++) across(rows + t * TILE * dim, dim, to.q_across + t * TILE * dim / 2);
  pair_rows(rows, padded, dim, to.q_pairs);
  copy_rows(grad, out_step, s.time, padded, dim, rows);
  for (i64 t = 0; t < s.tiles(); t++) across(rows + t * TILE * dim, dim, to.g_across + t * TILE * dim / 2);
  pair_rows(rows, padded, dim, to.g_pairs);
  for (i64 t = 0; t < padded; t++) {
    __m512 sum = _mm512_setzero_ps();
    ask(out + (t + SOON) * out_step, dim);
    for (i64 d = 0; t < s.time && d < dim; d += 16)
      sum = _mm512_fmadd_ps(load(rows + t * dim + d), load(out + t * out_step + d), sum);
    to.dots[t] = _mm512_reduce_add_ps(sum);
    to.log_sums[t] = t < s.time ? log_sums[t] : 1e30f;  // queries behind the end get no weight
  }
  memset(to.grad, 0, padded * dim * sizeof(float));
}

extern "C" void attention_backward(const bf16* grad, const bf16* query, i64 query_step, const bf16* key, i64 key_step,
                                   const bf16* value, i64 value_step, const int32_t* segments, const bf16* out,
                                   const float* log_sums, bf16* grad_query, i64 grad_query_step, bf16* grad_key,
                                   i64 grad_key_step, bf16* grad_value, i64 grad_value_step, i64 rows, i64 time,
                                   i64 heads, i64 kv_heads, i64 head_dim, i64 causal) {
  Shape s{rows, time, heads, kv_heads, head_dim, causal != 0};
  i64 dim = head_dim, padded = s.padded(), group = heads / kv_heads, tiles = s.tiles(), all = padded * dim;
  float scale = 1.0f / std::sqrt((float)dim);
#pragma omp parallel
  {
    size_t per_head = (size_t)group * (all * 2 * 4 + all * 4 + padded * 8 + 512);
    Scratch scratch((size_t)all * 8 + per_head + TILE * TILE * 16 + TILE * dim * 8 + tiles * 8 + 65536);
    bf16* k = scratch.take<bf16>(all);
    bf16* v = scratch.take<bf16>(all);
    uint32_t* k_pairs = scratch.take<uint32_t>(all / 2);
    bf16* own = scratch.take<bf16>(all);
    float* scores = scratch.take<float>(TILE * TILE);
    float* grad_weights = scratch.take<float>(TILE * TILE);
    bf16* weights = scratch.take<bf16>(TILE * TILE);
    bf16* grad_scores = scratch.take<bf16>(TILE * TILE);
    uint32_t* grad_pairs = scratch.take<uint32_t>(TILE / 2 * TILE);
    float* dk = scratch.take<float>(TILE * dim);
    float* dv = scratch.take<float>(TILE * dim);
    int32_t* low = scratch.take<int32_t>(tiles);
    int32_t* high = scratch.take<int32_t>(tiles);
    alignas(64) float scales[TILE];
    for (i64 t = 0; t < TILE; t++) scales[t] = scale;
    Queries* q = (Queries*)malloc(sizeof(Queries) * group);
    for (i64 h = 0; h < group; h++) {
      for (uint32_t** part : {&q[h].q_across, &q[h].q_pairs, &q[h].g_across, &q[h].g_pairs})
        *part = scratch.take<uint32_t>(all / 2);
      q[h].log_sums = scratch.take<float>(padded);
      q[h].dots = scratch.take<float>(padded);
      q[h].grad = scratch.take<float>(all);
    }
#pragma omp for schedule(dynamic, 1)
    for (i64 task = 0; task < rows * kv_heads; task++) {
      i64 row = task / kv_heads, kv_head = task % kv_heads, first_head = kv_head * group;
      Documents documents{segments ? segments + row * time : nullptr, time, s.causal};
      for (i64 t = 0; segments && t < tiles; t++) low[t] = documents.lowest(t), high[t] = documents.highest(t);
      copy_rows(Tensor{key, key_step}.at(s, row, kv_head), key_step, time, padded, dim, k);
      copy_rows(Tensor{value, value_step}.at(s, row, kv_head), value_step, time, padded, dim, v);
      pair_rows(k, padded, dim, k_pairs);
      for (i64 h = 0; h < group; h++)
        prepare_queries(s, Tensor{query, query_step}.at(s, row, first_head + h), query_step,
                        Tensor{grad, heads * dim}.at(s, row, first_head + h),
                        Tensor{out, heads * dim}.at(s, row, first_head + h), heads * dim,
                        log_sums + (row * heads + first_head + h) * time, own, q[h]);
      for (i64 kt = 0; kt < tiles; kt++) {
        memset(dk, 0, TILE * dim * sizeof(float));
        memset(dv, 0, TILE * dim * sizeof(float));
        const uint32_t* k_rows = (const uint32_t*)(k + kt * TILE * dim);
        const uint32_t* v_rows = (const uint32_t*)(v + kt * TILE * dim);
        for (i64 h = 0; h < group; h++)
          for (i64 qt = s.first_query_tile(kt); qt < tiles; qt++) {
            Seen seen = documents.seen(qt, kt, low, high);
            if (seen == NONE) continue;
            i64 at = qt * TILE * dim / 2;
            const bool diagonal = s.causal && qt == kt;
            by_queries(k_rows, q[h].q_across + at, dim, diagonal, scores);
            by_queries(v_rows, q[h].g_across + at, dim, diagonal, grad_weights);
            backward_tile(documents, seen, diagonal, kt * TILE, qt * TILE, scale, scores, grad_weights,
                          q[h].log_sums + qt * TILE, q[h].dots + qt * TILE, weights, grad_scores, grad_pairs);
            over_queries(weights, q[h].g_pairs + at, dim, diagonal, dv);
            over_queries(grad_scores, q[h].q_pairs + at, dim, diagonal, dk);
            over_keys(k_pairs + kt * TILE / 2 * dim, grad_pairs, dim, diagonal, q[h].grad + qt * TILE * dim);
          }
        i64 first = kt * TILE, valid = time - first < TILE ? time - first : TILE;
        write_rows(dk, dim, scale, grad_key + (row * time + first) * grad_key_step + kv_head * dim, grad_key_step,
                   valid);
        write_rows(dv, dim, 1.0f, grad_value + (row * time + first) * grad_value_step + kv_head * dim, grad_value_step,
                   valid);
      }
      for (i64 h = 0; h < group; h++)
        for (i64 qt = 0; qt < tiles; qt++) {
          i64 first = qt * TILE, valid = time - first < TILE ? time - first : TILE;
          write_queries(q[h].grad + qt * TILE * dim, dim, scales,
                        grad_query + (row * time + first) * grad_query_step + (first_head + h) * dim, grad_query_step,
                        valid);
        }
    }
    free(q);
  }
}
