// One call advances many sequences by one or more tokens through a whole decoder: tokens and cache -> logits.
//
//   spans (slot, start, count) + tokens -> rows -> [ norm, qkv, rotate, cache, attend, output, norm, gate/up, down ] -> head
//
// Every matrix, the cache of keys and the cache of values included, lies in one packed form: 32 outputs side by side,
// walked along the inputs, so that one micro-kernel streams each of them once, at the speed of the memory for one row
// and at that of the arithmetic units for many. One parallel region serves the whole call; its threads
// take what is left to do of each phase, so that none waits for another that the system has put aside.
// Invariant: the sum of each output runs over its inputs in order, whatever rows stand beside it and however many
// threads there are, so a row's logits depend on its own sequence only.

#include <omp.h>
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "packed.h"

namespace {

constexpr Index MAX_HEAD_DIM = 256;
constexpr Index FORESEEN = 256;  // keys whose stretches the processor finds by itself
constexpr Index FEW_TASKS = 8;  // that one thread takes at a time where there are many: their keys fit the first cache
constexpr Index PHASES_OF_LAYER = 8, PHASES_OF_ENDS = 4;  // embedding, ends, norm and head

struct Layer {
  const void *qkv, *output, *gate_up, *down;
  const float *attention_norm, *ffn_norm, *query_norm, *key_norm;  // the last two may be null
};

struct Model {
  Index num_layers, hidden_size, num_heads, num_kv_heads, head_dim, ffn_size, vocab_size;
  Index weight_bits, compute_bits;
  double epsilon;
  const float *embedding, *norm;
  const void* head;
  const Layer* layers;
};

struct Cache {
  void *keys, *values;
  const float *cosines, *sines;  // [max_time, head_dim / 2]
  Index slots, max_time;         // max_time is a multiple of WIDTH
  Index threads;                 // that its scratch memory is for
};

struct Span {
  Index slot, start, count;
};

// What is taken of one phase of a call, and what is done.
struct alignas(64) Phase {
  std::atomic<Index> taken{0}, done{0};
};

// One thread of a call. All threads go through the same phases; none begins one before the last is done.
struct Worker {
  std::vector<Phase>& phases;
  Index threads, phase = 0;

  // Call work(first, last) for stretches that make up `count` things, `most` stretches at most (0: two a thread).
  template <class Work>
  void share(Index count, Index most, Work work) {
    Phase& now = phases[phase++];
    const Index parts = std::min(count, most ? most : 2 * threads);
    for (Index part; (part = now.taken.fetch_add(1, std::memory_order_relaxed)) < parts;) {
      work(count * part / parts, count * (part + 1) / parts);
      now.done.fetch_add(1, std::memory_order_release);
    }
    for (Index turns = 0; now.done.load(std::memory_order_acquire) < parts; ++turns)
      turns < 4000 ? _mm_pause() : void(sched_yield());
  }
};

float mean_square(const float* x, Index size) {
  __m512 sum = _mm512_setzero_ps();
  for (Index i = 0; i < size; i += 16) {
    const __m512 v = _mm512_maskz_loadu_ps(lanes(size - i), x + i);
    sum = _mm512_fmadd_ps(v, v, sum);
  }
  return _mm512_reduce_add_ps(sum) / float(size);
}

// x / sqrt(mean(x^2) + epsilon) * gain
template <class X>
void norm(const float* x, const float* gain, Index size, float epsilon, X* to) {
  const __m512 scale = _mm512_set1_ps(1.0f / std::sqrt(mean_square(x, size) + epsilon));
  for (Index i = 0; i < size; i += 16) {
    const __mmask16 mask = lanes(size - i);
    const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), scale);
    store16(to + i, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, gain + i)), mask);
  }
}

// Queries of one sequence that share a key head, at most TILE of them: pair p is row p / group and head p % group.
// `writes`: they are all that is new of this head, so its key and value are written by whoever reads them next.
struct Task {
  Index slot, start, row, to_row, first, count, kv_head;
  bool writes;
};

// Memory that a call works in. `carve` with a null base only adds up the bytes.
template <class X>
struct Scratch {
  float *residual, *projected, *scores;
  X *normed, *queries, *mixed, *inner, *weights;
  Index hidden_stride, projected_stride, heads_stride, inner_stride, time_stride;

  size_t carve(char* base, const Model& m, Index rows, Index max_time, Index threads) {
    hidden_stride = stride_of(m.hidden_size);
    heads_stride = stride_of(m.num_heads * m.head_dim);
    projected_stride = stride_of((m.num_heads + 2 * m.num_kv_heads) * m.head_dim);
    inner_stride = stride_of(m.ffn_size);
    time_stride = stride_of(max_time);
    size_t used = 0;
    auto take = [&](auto*& pointer, Index count) {
      using T = std::remove_reference_t<decltype(*pointer)>;
      pointer = reinterpret_cast<T*>(base + used);
      used += round_up(count * sizeof(T), 64);
    };
    take(residual, rows * hidden_stride);
    take(normed, rows * hidden_stride);
    take(projected, rows * projected_stride);
    take(queries, rows * heads_stride);
    take(mixed, rows * heads_stride);
    take(inner, rows * inner_stride);
    take(scores, threads * TILE * time_stride);
    take(weights, threads * TILE * time_stride);
    return used;
  }
};

template <class W, class X>
struct Pass {
  const Model& m;
  const Cache& cache;
  const Span* spans;
  Index num_spans;
  const Index* tokens;
  float* logits;
  Index logits_stride;
  Scratch<X> s{};
  Index rows = 0;
  std::vector<Index> slots, positions, ends;  // of each row; last row of each span
  std::vector<Index> written_before;           // rows whose keys and values are not written by a task
  std::vector<Task> tasks, last_tasks;

  Index group() const { return m.num_heads / m.num_kv_heads; }
  Index key_size() const { return cache.max_time * m.head_dim; }
  Index value_size() const { return cache.max_time * round_up(m.head_dim, WIDTH); }
  X* keys(Index layer, Index slot, Index head) const {
    return static_cast<X*>(cache.keys) + ((layer * cache.slots + slot) * m.num_kv_heads + head) * key_size();
  }
  X* values(Index layer, Index slot, Index head) const {
    return static_cast<X*>(cache.values) + ((layer * cache.slots + slot) * m.num_kv_heads + head) * value_size();
  }

  void lay_out() {
    for (Index i = 0; i < num_spans; ++i) {
      const Span& span = spans[i];
      const bool writes = span.count == 1 && group() <= TILE;
      add_tasks(tasks, span.slot, span.start, span.count, rows, rows, writes);
      for (Index t = 0; t < span.count; ++t) {
        if (!writes) written_before.push_back(rows + t);
        slots.push_back(span.slot);
        positions.push_back(span.start + t);
      }
      rows += span.count;
      ends.push_back(rows - 1);
      add_tasks(last_tasks, span.slot, span.start + span.count - 1, 1, rows - 1, i, writes);
    }
  }

  void add_tasks(std::vector<Task>& to, Index slot, Index start, Index count, Index row, Index to_row, bool writes) {
    for (Index head = 0; head < m.num_kv_heads; ++head)
      for (Index first = 0; first < count * group(); first += TILE)
        to.push_back({slot, start, row, to_row, first, std::min<Index>(TILE, count * group() - first), head, writes});
  }

  void run(char* scratch) {
    lay_out();
    s.carve(scratch, m, rows, cache.max_time, cache.threads);
    std::vector<Phase> phases(PHASES_OF_LAYER * m.num_layers + PHASES_OF_ENDS);
#pragma omp parallel num_threads(cache.threads)
    {
      Worker worker{phases, cache.threads};
      embed(worker);
      Index active = rows;
      for (Index layer = 0; layer < m.num_layers; ++layer) {
        const bool last = layer == m.num_layers - 1;
        attention(worker, m.layers[layer], layer, last ? last_tasks : tasks);
        if (last) active = keep_ends(worker);
        add_product(worker, m.layers[layer].output, m.num_heads * m.head_dim, s.mixed, s.heads_stride, active);
        feed_forward(worker, m.layers[layer], active);
      }
      head(worker, active);
    }
  }

  void embed(Worker& worker) {
    worker.share(rows, 0, [&](Index first, Index last) {
      for (Index row = first; row < last; ++row)
        std::memcpy(s.residual + row * s.hidden_stride, m.embedding + tokens[row] * m.hidden_size, m.hidden_size * 4);
    });
  }

  void norm_rows(Worker& worker, const float* gain, Index count) {
    const Index even = round_up(m.hidden_size, 2);
    worker.share(count, 0, [&](Index first, Index last) {
      for (Index row = first; row < last; ++row) {
        X* to = s.normed + row * s.hidden_stride;
        norm(s.residual + row * s.hidden_stride, gain, m.hidden_size, float(m.epsilon), to);
        if (even > m.hidden_size) to[m.hidden_size] = X(0);
      }
    });
  }

  // Rows by a packed matrix, all threads together.
  template <class Done>
  void multiply_all(Worker& worker, const void* w, Index inputs, Index outputs, const X* x, Index stride, Index count,
                    Done done) {
    worker.share(round_up(outputs, WIDTH) / WIDTH, 0, [&](Index first, Index last) {
      const Index padded = round_up(inputs, GRAIN<W>);
      product(static_cast<const W*>(w), padded * WIDTH, padded, first, last, x, stride, count, AHEAD_BYTES,
              done);
    });
  }

  void attention(Worker& worker, const Layer& layer, Index index, const std::vector<Task>& list) {
    norm_rows(worker, layer.attention_norm, rows);
    const Index parts = m.num_heads + 2 * m.num_kv_heads, count = list.size();
    multiply_all(worker, layer.qkv, m.hidden_size, parts * m.head_dim, s.normed, s.hidden_stride, rows,
                 [&](Index row, Index g, const float* sums) {
                   std::memcpy(s.projected + row * s.projected_stride + g * WIDTH, sums, WIDTH * 4);
                 });
    worker.share(written_before.size() * parts, 0, [&](Index first, Index last) {
      for (Index i = first; i < last; ++i) distribute(layer, index, written_before[i / parts], i % parts);
    });
    // What a few tasks have to write first: a key that is read while it is still on its way to the cache is waited for.
    const Index stretches = std::max(2 * worker.threads, (count + FEW_TASKS - 1) / FEW_TASKS);
    worker.share(count, stretches, [&](Index first, Index last) {
      for (Index i = first; i < last; ++i)
        if (list[i].writes) distribute(layer, index, list[i]);
      for (Index i = first; i < last; ++i) {
        if (i + 1 < last) ask(index, list[i + 1]);
        attend(index, list[i]);
      }
    });
  }

  void distribute(const Layer& layer, Index index, const Task& task) {
    for (Index p = 0; p < task.count; ++p) distribute(layer, index, task.row, task.kv_head * group() + p);
    distribute(layer, index, task.row, m.num_heads + task.kv_head);
    distribute(layer, index, task.row, m.num_heads + m.num_kv_heads + task.kv_head);
  }

  // One projected head of one row goes where it is needed: queries to their buffer, keys and values to the cache.
  void distribute(const Layer& layer, Index index, Index row, Index part) {
    const Index size = m.head_dim, position = positions[row], slot = slots[row];
    alignas(64) X narrowed[MAX_HEAD_DIM];
    float* x = s.projected + row * s.projected_stride + part * size;
    if (part < m.num_heads) {
      rotate(x, layer.query_norm, position);
      narrow(x, size, s.queries + row * s.heads_stride + part * size);
    } else if (part < m.num_heads + m.num_kv_heads) {
      rotate(x, layer.key_norm, position);
      narrow(x, size, narrowed);
      X* to = keys(index, slot, part - m.num_heads);
      for (Index i = 0; i < size; i += GRAIN<X>)
        std::memcpy(to + place<X>(position, i, size), narrowed + i, GRAIN<X> * sizeof(X));
    } else {
      narrow(x, size, narrowed);
      X* to = values(index, slot, part - m.num_heads - m.num_kv_heads);
      // Its neighbour in the pair is multiplied by zero until it is written, so it must not be what is no number.
      const bool newest = row + 1 == rows || slots[row + 1] != slot || positions[row + 1] != position + 1;
      write_value(narrowed, position, newest, to);
    }
  }

  void write_value(const float* x, Index position, bool, float* to) const {
    for (Index i = 0; i < m.head_dim; ++i) to[place<float>(i, position, cache.max_time)] = x[i];
  }

  // Into one half of each pair of positions, and zeros into the other when `newest` has no neighbour yet: another
  // thread may be writing that half.
  void write_value(const bf16* x, Index position, bool newest, bf16* to) const {
    const bool low = position % 2 == 0;
    const __mmask32 half = low && newest ? 0xffffffff : low ? 0x55555555 : 0xaaaaaaaa;
    for (Index i = 0; i < m.head_dim; i += 16) {
      const __mmask16 mask = lanes(m.head_dim - i);
      __m512i pair = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, x + i));
      if (!low) pair = _mm512_slli_epi32(pair, 16);
      const __mmask32 both = _mm512_movepi16_mask(_mm512_movm_epi32(mask));
      _mm512_mask_storeu_epi16(to + place<bf16>(i, position & ~Index(1), cache.max_time), half & both, pair);
    }
  }

  void rotate(float* x, const float* gain, Index position) const {
    if (gain) norm(x, gain, m.head_dim, float(m.epsilon), x);
    const Index half = m.head_dim / 2;
    const float *cosine = cache.cosines + position * half, *sine = cache.sines + position * half;
    for (Index i = 0; i < half; ++i) {
      const float a = x[i], b = x[i + half];
      x[i] = a * cosine[i] - b * sine[i];
      x[i + half] = b * cosine[i] + a * sine[i];
    }
  }

  // Keys that the last query of a task sees.
  Index length_of(const Task& task) const { return task.start + (task.first + task.count - 1) / group() + 1; }

  // Keys and values of a task that comes next: stretches too short for the processor to foresee them in time.
  void ask(Index layer, const Task& task) const {
    const Index size = m.head_dim, length = length_of(task);
    if (length > FORESEEN) return;
    const auto lines = [](const X* from, Index count) {
      for (Index i = 0; i < count; i += Index(64 / sizeof(X))) _mm_prefetch((const char*)(from + i), _MM_HINT_T0);
    };
    lines(keys(layer, task.slot, task.kv_head), round_up(length, WIDTH) * size);
    const X* wide = values(layer, task.slot, task.kv_head);
    for (Index i = 0; i < size; i += WIDTH) lines(wide + i * cache.max_time, round_up(length, GRAIN<X>) * WIDTH);
  }

  void attend(Index layer, const Task& task) {
    const Index thread = omp_get_thread_num(), size = m.head_dim, wide = group();
    float* scores = s.scores + thread * TILE * s.time_stride;
    X* weights = s.weights + thread * TILE * s.time_stride;
    alignas(64) X q[TILE * MAX_HEAD_DIM];
    float factors[TILE];
    for (Index p = 0; p < task.count; ++p) {
      const Index pair = task.first + p, row = task.row + pair / wide, head = task.kv_head * wide + pair % wide;
      std::memcpy(q + p * size, s.queries + row * s.heads_stride + head * size, size * sizeof(X));
    }
    const Index length = length_of(task);
    // Nothing is asked for ahead: behind so few keys and values lie those that are not needed.
    product(keys(layer, task.slot, task.kv_head), size * WIDTH, size, 0, round_up(length, WIDTH) / WIDTH, q, size,
            task.count, 0, [&](Index p, Index g, const float* sums) {
              std::memcpy(scores + p * s.time_stride + g * WIDTH, sums, WIDTH * 4);
            });
    for (Index p = 0; p < task.count; ++p)
      factors[p] = softmax(scores + p * s.time_stride, task.start + (task.first + p) / wide + 1,
                           round_up(length, WIDTH), weights + p * s.time_stride);
    product(values(layer, task.slot, task.kv_head), cache.max_time * WIDTH, round_up(length, GRAIN<X>), 0,
            round_up(size, WIDTH) / WIDTH, weights, s.time_stride, task.count, 0,
            [&](Index p, Index g, const float* sums) {
              const Index pair = task.first + p, row = task.to_row + pair / wide, left = size - g * WIDTH;
              X* to = s.mixed + row * s.heads_stride + (task.kv_head * wide + pair % wide) * size + g * WIDTH;
              const __m512 factor = _mm512_set1_ps(factors[p]);
              for (Index i = 0; i < std::min(WIDTH, left); i += 16)
                store16(to + i, _mm512_mul_ps(_mm512_loadu_ps(sums + i), factor), lanes(left - i));
            });
  }

  // exp(scale * (score - largest)) of the first `length`, zero up to `padded`; returns one over their sum.
  float softmax(const float* scores, Index length, Index padded, X* weights) const {
    const __m512 lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    const __m512 scale = _mm512_set1_ps(1.0f / std::sqrt(float(m.head_dim)));
    __m512 largest = lowest, sum = _mm512_setzero_ps();
    for (Index t = 0; t < length; t += 16)
      largest = _mm512_max_ps(largest, _mm512_mask_loadu_ps(lowest, lanes(length - t), scores + t));
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    for (Index t = 0; t < padded; t += 16) {
      const __mmask16 mask = t < length ? lanes(length - t) : __mmask16(0);
      const __m512 shifted = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, scores + t), top), scale);
      const __m512 weight = _mm512_maskz_mov_ps(mask, exp_of(shifted));
      sum = _mm512_add_ps(sum, weight);
      store16(weights + t, weight, 0xffff);
    }
    return 1.0f / _mm512_reduce_add_ps(sum);
  }

  // Behind the last layer's attention only the last row of each span matters.
  Index keep_ends(Worker& worker) {
    worker.share(num_spans, 1, [&](Index first, Index last) {
      for (Index i = first; i < last; ++i)
        std::memmove(s.residual + i * s.hidden_stride, s.residual + ends[i] * s.hidden_stride, m.hidden_size * 4);
    });
    return num_spans;
  }

  void add_product(Worker& worker, const void* w, Index inputs, const X* x, Index stride, Index count) {
    multiply_all(worker, w, inputs, m.hidden_size, x, stride, count, [&](Index row, Index g, const float* sums) {
      float* to = s.residual + row * s.hidden_stride + g * WIDTH;
      for (Index i = 0; i < WIDTH; ++i) to[i] += sums[i];
    });
  }

  // The packed matrix has 16 outputs of the gate and the 16 of `up` that belong to them side by side.
  void feed_forward(Worker& worker, const Layer& layer, Index count) {
    norm_rows(worker, layer.ffn_norm, count);
    multiply_all(worker, layer.gate_up, m.hidden_size, 2 * round_up(m.ffn_size, 16), s.normed, s.hidden_stride, count,
                 [&](Index row, Index g, const float* sums) {
                   const __m512 gate = silu16(_mm512_loadu_ps(sums)), up = _mm512_loadu_ps(sums + 16);
                   store16(s.inner + row * s.inner_stride + g * 16, _mm512_mul_ps(gate, up), 0xffff);
                 });
    add_product(worker, layer.down, m.ffn_size, s.inner, s.inner_stride, count);
  }

  void head(Worker& worker, Index count) {
    norm_rows(worker, m.norm, count);
    multiply_all(worker, m.head, m.hidden_size, m.vocab_size, s.normed, s.hidden_stride, count,
                 [&](Index row, Index g, const float* sums) {
                   std::memcpy(logits + row * logits_stride + g * WIDTH, sums, WIDTH * 4);
                 });
  }
};

template <class W, class X>
void advance(const Model& m, const Cache& cache, const Span* spans, Index num_spans, const Index* tokens, char* scratch,
             float* logits, Index stride) {
  Pass<W, X> pass{m, cache, spans, num_spans, tokens, logits, stride};
  pass.run(scratch);
}

template <class W>
void pack(const float* from, Index outputs, Index inputs, W* to, Index offset, Index step) {
  const Index padded = round_up(inputs, GRAIN<W>);
#pragma omp parallel for schedule(static)
  for (Index o = 0; o < outputs; ++o) {
    const Index output = offset + o / 16 * step + o % 16;
    std::vector<W> row(inputs);
    narrow(from + o * inputs, inputs, row.data());
    for (Index i = 0; i < inputs; ++i) to[place<W>(output, i, padded)] = row[i];
  }
}

}  // namespace

extern "C" {

// Ask for large pages before memory is first touched: walking pages of 4 KiB costs a fifth of the bandwidth.
void decode_large_pages(void* memory, Index bytes) {
  const auto page = Index(1) << 21;
  const auto start = round_up(reinterpret_cast<Index>(memory), page);
  const auto end = (reinterpret_cast<Index>(memory) + bytes) / page * page;
  if (end > start) madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
}

// Numbers in a packed matrix of this shape.
Index decode_packed_size(Index outputs, Index inputs) { return round_up(outputs, WIDTH) * round_up(inputs, 2); }

// float32 [outputs, inputs] -> its place in a cleared packed matrix; output o becomes offset + o/16*step + o%16.
void decode_pack(const float* from, Index outputs, Index inputs, void* to, Index bits, Index offset, Index step) {
  if (bits == 16)
    pack(from, outputs, inputs, static_cast<bf16*>(to), offset, step);
  else
    pack(from, outputs, inputs, static_cast<float*>(to), offset, step);
}

// Numbers of one slot's keys (which = 0) or values (1) in one layer.
Index decode_cache_size(const Model* m, Index max_time, Index which) {
  const Index size = which ? round_up(m->head_dim, WIDTH) : m->head_dim;
  return m->num_kv_heads * max_time * size;
}

Index decode_scratch_bytes(const Model* m, Index rows, Index max_time, Index threads) {
  if (m->compute_bits == 16) return Scratch<bf16>{}.carve(nullptr, *m, rows, max_time, threads);
  return Scratch<float>{}.carve(nullptr, *m, rows, max_time, threads);
}

void decode_advance(const Model* m, const Cache* cache, const Span* spans, Index num_spans, const Index* tokens,
                    char* scratch, float* logits, Index stride) {
  if (m->compute_bits == 16)
    advance<bf16, bf16>(*m, *cache, spans, num_spans, tokens, scratch, logits, stride);
  else if (m->weight_bits == 16)
    advance<bf16, float>(*m, *cache, spans, num_spans, tokens, scratch, logits, stride);
  else
    advance<float, float>(*m, *cache, spans, num_spans, tokens, scratch, logits, stride);
}
}
