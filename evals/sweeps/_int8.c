/* Exact nearest neighbours behind a filter of 8-bit products; evals/sweeps/int8.py says what and why.
 *
 * pack() writes rows as 7-bit codes with what is needed to bound the error of their products; sweep()
 * multiplies blocks of codes, and scores in float64 every pair that the bound does not rule out.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline)) AVX2

enum { LANES = 16, /* rows of a panel */ QUAD = 4 /* dimensions multiplied at a time */ };
enum { LIMIT = 63, /* largest code */ OFFSET = 64 /* makes left codes unsigned */ };
enum { BLOCK = 192 << 10 /* bytes of left codes that stay in the second-level cache */ };
enum { FLOAT16 = 2, FLOAT32 = 4, FLOAT64 = 8 };
enum { COSINE, DOT, L2 };
/* Room for the float32 roundings of a bound: a product of sizes takes up to 14 of them, an offset 4. */
static const float ROOM = 16 * 0x1p-24f;

/* ---------------------------------------------------------------------------------------- rows in float64 */

INLINE __m256d load4(const char *x, int type) {
    if (type == FLOAT64) return _mm256_loadu_pd((const double *)x);
    if (type == FLOAT32) return _mm256_cvtps_pd(_mm_loadu_ps((const float *)x));
    return _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)x)));
}

INLINE double load1(const char *x, int type) {
    if (type == FLOAT64) return *(const double *)x;
    if (type == FLOAT32) return *(const float *)x;
    return _cvtsh_ss(*(const uint16_t *)x);
}

INLINE double sum4(__m256d x) {
    __m128d half = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
}

/* The inner product of two rows, or their squared distance. */
INLINE double measure(const char *x, int xt, const char *y, int yt, Py_ssize_t d, int l2) {
    __m256d total[2] = {_mm256_setzero_pd(), _mm256_setzero_pd()};
    Py_ssize_t i = 0;
    for (; i + 8 <= d; i += 8)
        for (int half = 0; half < 2; half++) {
            __m256d a = load4(x + (i + 4 * half) * xt, xt), b = load4(y + (i + 4 * half) * yt, yt);
            if (l2) a = b = _mm256_sub_pd(a, b);
            total[half] = _mm256_fmadd_pd(a, b, total[half]);
        }
    double sum = sum4(_mm256_add_pd(total[0], total[1]));
    for (; i < d; i++) {
        double a = load1(x + i * xt, xt), b = load1(y + i * yt, yt);
        if (l2) a = b = a - b;
        sum += a * b;
    }
    return sum;
}

#define BY_TYPE(xt, yt)                                                                                      \
    if (x_type == xt && y_type == yt)                                                                        \
        return l2 ? measure(x, xt, y, yt, d, 1) : measure(x, xt, y, yt, d, 0);

AVX2 static double exact(const char *x, int x_type, const char *y, int y_type, Py_ssize_t d, int l2) {
    BY_TYPE(FLOAT32, FLOAT32)
    BY_TYPE(FLOAT16, FLOAT16)
    BY_TYPE(FLOAT64, FLOAT64)
    BY_TYPE(FLOAT64, FLOAT32)
    return measure(x, FLOAT64, y, FLOAT16, d, l2);
}

/* The same in float32: off by at most d / 16 + 22 roundings, and what underflows. */
AVX2 static float rough(const float *x, const float *y, Py_ssize_t d, int l2) {
    __m256 total[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    Py_ssize_t i = 0;
    for (; i + 16 <= d; i += 16)
        for (int half = 0; half < 2; half++) {
            __m256 a = _mm256_loadu_ps(x + i + 8 * half), b = _mm256_loadu_ps(y + i + 8 * half);
            if (l2) a = b = _mm256_sub_ps(a, b);
            total[half] = _mm256_fmadd_ps(a, b, total[half]);
        }
    __m256 all = _mm256_add_ps(total[0], total[1]);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    float sum = _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
    for (; i < d; i++) {
        float a = x[i], b = y[i];
        if (l2) a = b = a - b;
        sum += a * b;
    }
    return sum;
}

/* Round to the 24 binary digits of float32, whatever the size; cosines to a multiple of 2^-40 first. */
static double rounded(double score, int metric) {
    if (metric == COSINE) score = nearbyint(score * 0x1p40) * 0x1p-40;
    int small = fabs(score) < 0x1p-1000; /* the digits of a denormal begin further down */
    if (small) score *= 0x1p100;
    uint64_t bits;
    memcpy(&bits, &score, 8);
    bits += 0x0FFFFFFF + ((bits >> 29) & 1);
    bits &= ~(uint64_t)0x1FFFFFFF;
    memcpy(&score, &bits, 8);
    return small ? score * 0x1p-100 : score;
}

/* ------------------------------------------------------------------------------------------------- packing */

/* What pack() writes of each row, and sweep() reads. */
typedef struct {
    uint8_t *left;  /* codes + OFFSET, in panels: [panel][quad][lane][dimension] */
    int8_t *right;  /* codes, likewise */
    int32_t *shift; /* -OFFSET times the sum of the codes */
    float *step, *offset, *size, *error; /* v = step * codes + residual; offset: see int8.py */
    double *norm;   /* of the raw row */
} Packed;

AVX2 static int pack_row(const char *x, int type, Py_ssize_t d, const double *centre, double centre_size, int metric,
                         double scale, double *v, Packed *out, Py_ssize_t row, Py_ssize_t quads) {
    __m256d squares = _mm256_setzero_pd();
    Py_ssize_t i = 0, wide = quads * QUAD;
    for (; i + 4 <= d; i += 4) {
        __m256d a = load4(x + i * type, type);
        _mm256_storeu_pd(v + i, a);
        squares = _mm256_fmadd_pd(a, a, squares);
    }
    double square = sum4(squares);
    for (; i < d; i++) {
        v[i] = load1(x + i * type, type);
        square += v[i] * v[i];
    }
    double norm = sqrt(square);
    if (!isfinite(norm)) return 0;
    double factor = metric == COSINE ? (norm > 0 ? 1 / norm : 0) : scale;
    __m256d f = _mm256_set1_pd(factor), largest = _mm256_setzero_pd(), sign = _mm256_set1_pd(-0.0);
    __m256d own = _mm256_setzero_pd(), along = _mm256_setzero_pd();
    for (i = 0; i < wide; i += 4) {
        __m256d m = _mm256_loadu_pd(centre + i), a = _mm256_fmsub_pd(_mm256_loadu_pd(v + i), f, m);
        _mm256_storeu_pd(v + i, a);
        largest = _mm256_max_pd(largest, _mm256_andnot_pd(sign, a));
        own = _mm256_fmadd_pd(a, a, own);
        along = _mm256_fmadd_pd(a, m, along);
    }
    double spread[4], most = 0;
    _mm256_storeu_pd(spread, largest);
    for (i = 0; i < 4; i++) most = fmax(most, spread[i]);
    float step = (float)(most / LIMIT);
    /* A step that underflows loses everything to the residual: wasteful, and still right. */
    double inverse = step > 0x1p-100f ? 1.0 / step : 0;
    __m256d by = _mm256_set1_pd(inverse), s = _mm256_set1_pd(step), residual = _mm256_setzero_pd();
    __m128i low = _mm_set1_epi32(-LIMIT), high = _mm_set1_epi32(LIMIT), total = _mm_setzero_si128();
    Py_ssize_t at = (row / LANES * quads * LANES + row % LANES) * QUAD;
    for (i = 0; i < wide; i += 4, at += LANES * QUAD) {
        __m256d a = _mm256_loadu_pd(v + i);
        __m128i code = _mm256_cvtpd_epi32(_mm256_mul_pd(a, by));
        code = _mm_min_epi32(_mm_max_epi32(code, low), high);
        total = _mm_add_epi32(total, code);
        __m256d rest = _mm256_fnmadd_pd(_mm256_cvtepi32_pd(code), s, a);
        residual = _mm256_fmadd_pd(rest, rest, residual);
        int32_t packed = _mm_cvtsi128_si32(_mm_shuffle_epi8(code, _mm_set1_epi32(0x0C080400)));
        if (out->right) memcpy(out->right + at, &packed, 4);
        if (out->left) {
            /* Codes are above -OFFSET: no byte carries into the next. */
            packed = _mm_cvtsi128_si32(
                _mm_shuffle_epi8(_mm_add_epi32(code, _mm_set1_epi32(OFFSET)), _mm_set1_epi32(0x0C080400)));
            memcpy(out->left + at, &packed, 4);
        }
    }
    int32_t sums[4];
    _mm_storeu_si128((__m128i *)sums, total);
    double length = sqrt(sum4(own)), lost = sqrt(sum4(residual));
    double offset = metric == L2 ? sum4(own) / -2 : sum4(along) + centre_size * centre_size / 2;
    /* What float64 rounded: here, and in the score that the bound is held against. */
    double off = (d + 64) * 0x1p-52 * (norm * factor + centre_size) * (norm * factor + centre_size);
    out->shift[row] = -OFFSET * (sums[0] + sums[1] + sums[2] + sums[3]);
    out->step[row] = step;
    out->size[row] = (float)((length + lost) * (1 + ROOM));
    out->error[row] = (float)((lost + ROOM * (length + lost)) * (1 + ROOM));
    out->offset[row] = (float)(offset + off + fabs(offset) * ROOM) + 0x1p-100f; /* whatever underflows */
    out->norm[row] = norm;
    return 1;
}

static void pack_nothing(Packed *out, Py_ssize_t row, Py_ssize_t quads) {
    Py_ssize_t at = (row / LANES * quads * LANES + row % LANES) * QUAD;
    for (Py_ssize_t i = 0; i < quads; i++, at += LANES * QUAD) {
        if (out->right) memset(out->right + at, 0, QUAD);
        if (out->left) memset(out->left + at, OFFSET, QUAD);
    }
    out->shift[row] = 0;
    out->step[row] = out->size[row] = out->error[row] = 0;
    out->offset[row] = -INFINITY;
    out->norm[row] = 0;
}

/* ------------------------------------------------------------------------------------------------ products */

/* Products of the codes of two panels, int32 [left lane][right lane]. */
typedef void (*Products)(const uint8_t *, const int8_t *, Py_ssize_t, const int32_t *, int32_t *);

#define TWICE(c, v, w, b, e)                                                                                 \
    c = _mm256_add_epi32(                                                                                    \
        c, _mm256_madd_epi16(one, _mm256_add_epi16(_mm256_maddubs_epi16(v, b), _mm256_maddubs_epi16(w, e))))

/* Two products of 127 * 63 twice over are 32,004: they fit 16 bits. */
AVX2 static void products_avx2(const uint8_t *left, const int8_t *right, Py_ssize_t quads, const int32_t *shift,
                               int32_t *out) {
    const __m256i one = _mm256_set1_epi16(1);
    const __m256i start0 = _mm256_loadu_si256((const __m256i *)shift);
    const __m256i start1 = _mm256_loadu_si256((const __m256i *)(shift + 8));
    for (int lane = 0; lane < LANES; lane += 4, out += 4 * LANES) {
        __m256i c0 = start0, c1 = start1, c2 = start0, c3 = start1;
        __m256i c4 = start0, c5 = start1, c6 = start0, c7 = start1;
        for (Py_ssize_t q = 0; q < quads; q += 2) {
            const __m256i *b = (const __m256i *)(right + q * 64);
            const __m256i b0 = _mm256_loadu_si256(b), b1 = _mm256_loadu_si256(b + 1);
            const __m256i e0 = _mm256_loadu_si256(b + 2), e1 = _mm256_loadu_si256(b + 3);
            const int32_t *a = (const int32_t *)(left + q * 64) + lane;
            __m256i v = _mm256_set1_epi32(a[0]), w = _mm256_set1_epi32(a[16]);
            TWICE(c0, v, w, b0, e0);
            TWICE(c1, v, w, b1, e1);
            v = _mm256_set1_epi32(a[1]), w = _mm256_set1_epi32(a[17]);
            TWICE(c2, v, w, b0, e0);
            TWICE(c3, v, w, b1, e1);
            v = _mm256_set1_epi32(a[2]), w = _mm256_set1_epi32(a[18]);
            TWICE(c4, v, w, b0, e0);
            TWICE(c5, v, w, b1, e1);
            v = _mm256_set1_epi32(a[3]), w = _mm256_set1_epi32(a[19]);
            TWICE(c6, v, w, b0, e0);
            TWICE(c7, v, w, b1, e1);
        }
        __m256i *o = (__m256i *)out;
        _mm256_store_si256(o, c0), _mm256_store_si256(o + 1, c1);
        _mm256_store_si256(o + 2, c2), _mm256_store_si256(o + 3, c3);
        _mm256_store_si256(o + 4, c4), _mm256_store_si256(o + 5, c5);
        _mm256_store_si256(o + 6, c6), _mm256_store_si256(o + 7, c7);
    }
}

#define ONCE(i)                                                                                              \
    c##i = _mm512_dpbusd_epi32(c##i, _mm512_set1_epi32(a[i]), b);

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) static void products_vnni(
    const uint8_t *left, const int8_t *right, Py_ssize_t quads, const int32_t *shift, int32_t *out) {
    const __m512i start = _mm512_loadu_si512(shift);
    __m512i c0 = start, c1 = start, c2 = start, c3 = start, c4 = start, c5 = start, c6 = start, c7 = start;
    __m512i c8 = start, c9 = start, c10 = start, c11 = start, c12 = start, c13 = start, c14 = start, c15 = start;
    for (Py_ssize_t q = 0; q < quads; q++) {
        const __m512i b = _mm512_loadu_si512(right + q * 64);
        const int32_t *a = (const int32_t *)(left + q * 64);
        ONCE(0) ONCE(1) ONCE(2) ONCE(3) ONCE(4) ONCE(5) ONCE(6) ONCE(7)
        ONCE(8) ONCE(9) ONCE(10) ONCE(11) ONCE(12) ONCE(13) ONCE(14) ONCE(15)
    }
#define STORE(i) _mm512_store_si512(out + (i) * LANES, c##i);
    STORE(0) STORE(1) STORE(2) STORE(3) STORE(4) STORE(5) STORE(6) STORE(7)
    STORE(8) STORE(9) STORE(10) STORE(11) STORE(12) STORE(13) STORE(14) STORE(15)
}

static void products_plain(const uint8_t *left, const int8_t *right, Py_ssize_t quads, const int32_t *shift,
                           int32_t *out) {
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) {
            int32_t sum = shift[j];
            for (Py_ssize_t q = 0; q < quads; q++)
                for (int t = 0; t < QUAD; t++)
                    sum += left[(q * LANES + i) * QUAD + t] * right[(q * LANES + j) * QUAD + t];
            out[i * LANES + j] = sum;
        }
}

/* The instruction sets that this processor has, the fastest first. */
static const struct { const char *name; Products products; } SETS[] = {
    {"avx512vnni", products_vnni}, {"avx2", products_avx2}};

static int has(int set) {
    /* Whatever has AVX2 has F16C too, for which not every compiler can ask. */
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return 0;
    return set == 1 || (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"));
}

/* -------------------------------------------------------------------------------------------------- boards */

/* One side of a sweep: packed rows, the rows themselves, and the best answers of each so far. */
typedef struct {
    Packed packed;
    const char *raw;
    int type;
    Py_ssize_t rows, first; /* how many, and the number of the first */
    float *bar;             /* a score below it does not matter; in the units of the products */
    double *score;          /* (rows, k) heaps: the worst answer is first */
    int64_t *answer;
    int64_t *held;          /* answers so far */
    uint8_t *lock;
    Py_ssize_t k;
    const int64_t *exclude; /* (rows, excluded), ascending */
    Py_ssize_t excluded;
} Side;

typedef struct {
    Side left, right;
    Py_ssize_t d, quads;
    int metric, same; /* same: left and right are one table, and all its rows are asked */
    double unit;            /* units of the products per score */
    Products products;
} Sweep;

static int worse(double s, int64_t r, double than, int64_t row) { return s < than || (s == than && r > row); }

static int is_excluded(const Side *side, Py_ssize_t row, int64_t answer) {
    const int64_t *at = side->exclude + row * side->excluded;
    Py_ssize_t low = 0, high = side->excluded;
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if (at[middle] < answer) low = middle + 1;
        else high = middle;
    }
    return low < side->excluded && at[low] == answer;
}

/* The score that an answer must reach, rounding included, to take the place of the worst of a full heap. */
static double least(const Side *side, Py_ssize_t row) {
    if (__atomic_load_n(side->held + row, __ATOMIC_ACQUIRE) < side->k) return -INFINITY;
    double score;
    __atomic_load(side->score + row * side->k, &score, __ATOMIC_RELAXED);
    return score;
}

static void offer(const Sweep *sweep, const Side *side, Py_ssize_t row, int64_t answer, double score) {
    uint8_t *lock = side->lock + row;
    while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE)) _mm_pause();
    Py_ssize_t k = side->k, held = side->held[row], at;
    double *s = side->score + row * k;
    int64_t *r = side->answer + row * k;
    if (held < k) { /* sift up */
        for (at = held; at > 0; at = (at - 1) / 2) {
            Py_ssize_t parent = (at - 1) / 2;
            if (!worse(score, answer, s[parent], r[parent])) break;
            s[at] = s[parent], r[at] = r[parent];
        }
        s[at] = score, r[at] = answer;
        held++;
        __atomic_store_n(side->held + row, held, __ATOMIC_RELEASE);
    } else if (worse(s[0], r[0], score, answer)) { /* replace the worst, sift down */
        for (at = 0;;) {
            Py_ssize_t child = 2 * at + 1;
            if (child >= k) break;
            if (child + 1 < k && worse(s[child + 1], r[child + 1], s[child], r[child])) child++;
            if (!worse(s[child], r[child], score, answer)) break;
            s[at] = s[child], r[at] = r[child];
            at = child;
        }
        s[at] = score, r[at] = answer;
    }
    if (held == k) {
        /* What is below by more than a rounding, of float64 sums too, cannot tie with the worst. */
        double bar = s[0] - fabs(s[0]) * 0x1p-23;
        if (sweep->metric == COSINE) bar -= 0x1p-38 + sweep->d * 0x1p-50;
        bar *= sweep->unit;
        float down = (float)bar;
        if (down > bar) down = nextafterf(down, -INFINITY);
        __atomic_store(side->bar + row, &down, __ATOMIC_RELAXED);
    }
    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

/* Score one pair, and offer it to the left row, the right row, or both. */
AVX2 static void score_pair(const Sweep *sweep, Py_ssize_t i, Py_ssize_t j, int to_left, int to_right) {
    const Side *left = &sweep->left, *right = &sweep->right;
    int64_t row = left->first + i, answer = right->first + j;
    if (sweep->same && row == answer) return;
    if (to_left && left->excluded && is_excluded(left, i, answer)) to_left = 0;
    if (!to_left && !to_right) return;
    int l2 = sweep->metric == L2;
    const char *x = left->raw + i * sweep->d * left->type, *y = right->raw + j * sweep->d * right->type;
    double sizes = left->packed.norm[i] * right->packed.norm[j];
    if (left->type == FLOAT32 && right->type == FLOAT32) {
        double need = to_left ? least(left, i) : INFINITY;
        if (to_right) need = fmin(need, least(right, j));
        need -= fabs(need) * 0x1p-22 + (sweep->metric == COSINE ? 0x1p-39 : 0);
        double near = rough((const float *)x, (const float *)y, sweep->d, l2), most;
        double slack = (sweep->d / 8 + 16) * 0x1p-23;
        if (l2) most = -near * (1 - slack) + sweep->d * 0x1p-125;
        else most = near + slack * sizes + sweep->d * 0x1p-125;
        if (sweep->metric == COSINE) need *= sizes;
        if (isfinite(near) && most < need) return;
    }
    double score = exact(x, left->type, y, right->type, sweep->d, l2);
    if (l2) score = -score;
    if (sweep->metric == COSINE) score = sizes > 0 ? score / sizes : 0;
    score = rounded(score, sweep->metric);
    if (to_left && score >= least(left, i)) offer(sweep, left, i, answer, score);
    if (to_right && score >= least(right, j)) offer(sweep, right, j, row, score);
}

/* ------------------------------------------------------------------------------------------------ sweeping */

AVX2 static void sweep_panels(const Sweep *sweep, Py_ssize_t p, Py_ssize_t q, int32_t *tile) {
    const Side *left = &sweep->left, *right = &sweep->right;
    const Packed *a = &left->packed, *b = &right->packed;
    Py_ssize_t panel = sweep->quads * LANES * QUAD, j = q * LANES;
    /* Of two rows of one panel both orders are in the tile. */
    int both = sweep->same && p != q;
    sweep->products(a->left + p * panel, b->right + q * panel, sweep->quads, b->shift + j, tile);
    __m256 step[2], offset[2], size[2], error[2], bar[2];
    for (int h = 0; h < 2; h++) {
        step[h] = _mm256_loadu_ps(b->step + j + 8 * h), offset[h] = _mm256_loadu_ps(b->offset + j + 8 * h);
        size[h] = _mm256_loadu_ps(b->size + j + 8 * h), error[h] = _mm256_loadu_ps(b->error + j + 8 * h);
        bar[h] = both ? _mm256_loadu_ps(right->bar + j + 8 * h) : _mm256_set1_ps(INFINITY);
    }
    Py_ssize_t rows = left->rows - p * LANES < LANES ? left->rows - p * LANES : LANES;
    unsigned real = right->rows - j < LANES ? (1u << (right->rows - j)) - 1 : 0xFFFF;
    for (Py_ssize_t lane = 0; lane < rows; lane++) {
        Py_ssize_t i = p * LANES + lane;
        __m256 own_step = _mm256_set1_ps(a->step[i]), own_size = _mm256_set1_ps(a->size[i]);
        __m256 own_error = _mm256_set1_ps(a->error[i]), own_offset = _mm256_set1_ps(a->offset[i]);
        __m256 own_bar = _mm256_set1_ps(left->bar[i]);
        unsigned to_left = 0, to_right = 0;
        for (int h = 0; h < 2; h++) {
            __m256 most = _mm256_cvtepi32_ps(_mm256_load_si256((const __m256i *)(tile + lane * LANES + 8 * h)));
            most = _mm256_fmadd_ps(_mm256_mul_ps(most, step[h]), own_step, offset[h]);
            most = _mm256_fmadd_ps(own_error, size[h], most);
            most = _mm256_fmadd_ps(own_size, error[h], most);
            most = _mm256_add_ps(most, own_offset);
            /* Not below or equal: what overflowed is looked at. */
            to_left |= (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(most, own_bar, _CMP_NLE_UQ)) << (8 * h);
            to_right |= (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(most, bar[h], _CMP_NLE_UQ)) << (8 * h);
        }
        if (!both) to_right = 0;
        for (unsigned any = (to_left | to_right) & real; any; any &= any - 1) {
            int t = __builtin_ctz(any);
            score_pair(sweep, i, j + t, to_left >> t & 1, to_right >> t & 1);
        }
    }
}

static void sweep_all(const Sweep *sweep, Py_ssize_t p0, Py_ssize_t p1, Py_ssize_t q0, Py_ssize_t q1, int triangle) {
    int32_t tile[LANES * LANES] __attribute__((aligned(64)));
    Py_ssize_t block = BLOCK / (sweep->quads * LANES * QUAD);
    if (block < 1) block = 1;
    for (Py_ssize_t p = p0; p < p1; p += block) {
        Py_ssize_t stop = p + block < p1 ? p + block : p1;
        for (Py_ssize_t q = q0; q < q1; q++)
            for (Py_ssize_t at = p; at < stop && !(triangle && at > q); at++) sweep_panels(sweep, at, q, tile);
    }
}

/* -------------------------------------------------------------------------------------------------- Python */

typedef struct {
    Py_buffer views[24];
    int count;
} Views;

static void release(Views *views) {
    while (views->count) PyBuffer_Release(&views->views[--views->count]);
}

/* The memory of item `at` of a tuple, of `length` bytes at least; None is NULL. NULL with an error set: it failed. */
static void *memory(PyObject *tuple, Py_ssize_t at, int writable, Py_ssize_t length, Views *views) {
    PyObject *item = PyTuple_GetItem(tuple, at);
    if (!item || item == Py_None) return NULL;
    Py_buffer *view = &views->views[views->count];
    if (PyObject_GetBuffer(item, view, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0) return NULL;
    views->count++;
    if (view->len < length) {
        PyErr_Format(PyExc_ValueError, "item %zd holds %zd bytes of %zd", at, view->len, length);
        return NULL;
    }
    return view->buf;
}

static Py_ssize_t number(PyObject *tuple, Py_ssize_t at) {
    PyObject *item = PyTuple_GetItem(tuple, at);
    return item ? PyLong_AsSsize_t(item) : -1;
}

/* (left, right, shift, step, offset, size, error, norm): see Codes in int8.py. */
static int get_packed(PyObject *tuple, Py_ssize_t rows, Py_ssize_t quads, int writable, Packed *out, Views *views) {
    Py_ssize_t padded = (rows + LANES - 1) / LANES * LANES, codes = padded * quads * QUAD;
    out->left = memory(tuple, 0, writable, codes, views);
    out->right = memory(tuple, 1, writable, codes, views);
    out->shift = memory(tuple, 2, writable, padded * 4, views);
    out->step = memory(tuple, 3, writable, padded * 4, views);
    out->offset = memory(tuple, 4, writable, padded * 4, views);
    out->size = memory(tuple, 5, writable, padded * 4, views);
    out->error = memory(tuple, 6, writable, padded * 4, views);
    out->norm = memory(tuple, 7, writable, padded * 8, views);
    return !PyErr_Occurred();
}

/* (codes, raw, type, rows, first, bar, score, answer, held, lock, k, exclude, excluded) */
static int get_side(PyObject *tuple, Py_ssize_t d, Py_ssize_t quads, Side *side, Views *views) {
    side->type = (int)number(tuple, 2), side->rows = number(tuple, 3), side->first = number(tuple, 4);
    side->k = number(tuple, 10), side->excluded = number(tuple, 12);
    if (PyErr_Occurred()) return 0;
    PyObject *codes = PyTuple_GetItem(tuple, 0);
    if (!codes || !get_packed(codes, side->rows, quads, 0, &side->packed, views)) return 0;
    Py_ssize_t padded = (side->rows + LANES - 1) / LANES * LANES;
    side->raw = memory(tuple, 1, 0, side->rows * d * side->type, views);
    side->bar = memory(tuple, 5, 1, padded * 4, views);
    side->score = memory(tuple, 6, 1, side->rows * side->k * 8, views);
    side->answer = memory(tuple, 7, 1, side->rows * side->k * 8, views);
    side->held = memory(tuple, 8, 1, side->rows * 8, views);
    side->lock = memory(tuple, 9, 1, side->rows, views);
    side->exclude = memory(tuple, 11, 0, side->rows * side->excluded * 8, views);
    return !PyErr_Occurred();
}

static PyObject *py_pack(PyObject *self, PyObject *args) {
    PyObject *codes;
    Py_buffer raw, centre;
    Py_ssize_t rows, d, at, bad = -1;
    int type, metric;
    double scale;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*innO!ny*id", &raw, &type, &rows, &d, &PyTuple_Type, &codes, &at, &centre, &metric, &scale))
        return NULL;
    Views views = {.count = 0};
    Packed packed;
    Py_ssize_t quads = centre.len / (QUAD * (Py_ssize_t)sizeof(double));
    double *v = calloc(quads * QUAD + 4, sizeof(double));
    if (!v) PyErr_NoMemory();
    else if (raw.len < rows * d * type || d > quads * QUAD) PyErr_SetString(PyExc_ValueError, "the rows are too few");
    else if (get_packed(codes, at + rows, quads, 1, &packed, &views)) {
        Py_BEGIN_ALLOW_THREADS
        const double *m = centre.buf;
        double square = 0;
        for (Py_ssize_t i = 0; i < d; i++) square += m[i] * m[i];
        for (Py_ssize_t i = 0; i < rows && bad < 0; i++) {
            const char *x = (const char *)raw.buf + i * d * type;
            if (!pack_row(x, type, d, m, sqrt(square), metric, scale, v, &packed, at + i, quads)) bad = i;
        }
        for (Py_ssize_t row = at + rows; row % LANES; row++) pack_nothing(&packed, row, quads);
        Py_END_ALLOW_THREADS
    }
    free(v);
    release(&views);
    PyBuffer_Release(&raw);
    PyBuffer_Release(&centre);
    return PyErr_Occurred() ? NULL : PyLong_FromSsize_t(bad);
}

/* Ask for the pages of a mapped array before they are used. */
static PyObject *py_will_need(PyObject *self, PyObject *array) {
    Py_buffer view;
    (void)self;
    if (PyObject_GetBuffer(array, &view, PyBUF_SIMPLE) < 0) return NULL;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)view.buf & ~(page - 1);
    madvise((void *)start, (uintptr_t)view.buf + view.len - start, MADV_WILLNEED); /* advice may be refused */
    PyBuffer_Release(&view);
    return Py_NewRef(Py_None);
}

static PyObject *py_sweep(PyObject *self, PyObject *args) {
    PyObject *left, *right;
    Py_ssize_t p0, p1, q0, q1;
    int set, triangle;
    Sweep sweep;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!nniidinnnni", &PyTuple_Type, &left, &PyTuple_Type, &right, &sweep.d,
                          &sweep.quads, &sweep.metric, &sweep.same, &sweep.unit, &set,
                          &p0, &p1, &q0, &q1, &triangle))
        return NULL;
    Views views = {.count = 0}, others = {.count = 0};
    if (set < 0 || set >= (int)(sizeof SETS / sizeof *SETS) || !has(set))
        PyErr_SetString(PyExc_ValueError, "this processor cannot do that");
    else if (get_side(left, sweep.d, sweep.quads, &sweep.left, &views) &&
             get_side(right, sweep.d, sweep.quads, &sweep.right, &others)) {
        if (p1 * LANES >= sweep.left.rows + LANES || q1 * LANES >= sweep.right.rows + LANES || sweep.quads % 2)
            PyErr_SetString(PyExc_ValueError, "panels out of range");
        else {
            sweep.products = SETS[set].products;
            Py_BEGIN_ALLOW_THREADS
            sweep_all(&sweep, p0, p1, q0, q1, triangle);
            Py_END_ALLOW_THREADS
        }
    }
    release(&views);
    release(&others);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

/* Whether the products of an instruction set are right, on every code and at the largest sums. */
static int is_right(int set) {
    enum { QUADS = 64 };
    static uint8_t left[QUADS * LANES * QUAD];
    static int8_t right[QUADS * LANES * QUAD];
    int32_t shift[LANES], want[LANES * LANES], got[LANES * LANES] __attribute__((aligned(64)));
    uint32_t state = 1;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < QUADS * LANES * QUAD; i++) {
            state = state * 1664525 + 1013904223;
            left[i] = round == 0 ? OFFSET + LIMIT : 1 + (state >> 16) % (2 * LIMIT + 1);
            right[i] = round == 0 ? LIMIT : round == 1 ? -LIMIT : (int)((state >> 24) % (2 * LIMIT + 1)) - LIMIT;
        }
        for (int i = 0; i < LANES; i++) shift[i] = i - 7;
        products_plain(left, right, QUADS, shift, want);
        SETS[set].products(left, right, QUADS, shift, got);
        if (memcmp(want, got, sizeof want)) return 0;
    }
    return 1;
}

static PyObject *py_sets(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    PyObject *found = PyDict_New();
    for (int set = 0; found && set < (int)(sizeof SETS / sizeof *SETS); set++) {
        if (!has(set) || !is_right(set)) continue;
        PyObject *number = PyLong_FromLong(set);
        if (!number || PyDict_SetItemString(found, SETS[set].name, number) < 0) Py_CLEAR(found);
        Py_XDECREF(number);
    }
    return found;
}

static PyMethodDef METHODS[] = {
    {"pack", py_pack, METH_VARARGS, "Write rows as codes; return the first row that is not finite, or -1."},
    {"sweep", py_sweep, METH_VARARGS, "Offer every pair of rows of some panels that may matter to their boards."},
    {"will_need", py_will_need, METH_O, "Ask for the pages of a mapped array before they are used."},
    {"sets", py_sets, METH_NOARGS, "Return the instruction sets that work here, the fastest first, with their numbers."},
    {NULL, NULL, 0, NULL}};

#else /* another processor or compiler: nothing works here, and int8.py says so */

static PyObject *py_sets(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyDict_New();
}

static PyMethodDef METHODS[] = {{"sets", py_sets, METH_NOARGS, "Return an empty dict."}, {NULL, NULL, 0, NULL}};

#endif

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_int8", "Exact nearest neighbours behind 8-bit products.", -1, METHODS,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__int8(void) { return PyModule_Create(&MODULE); }
