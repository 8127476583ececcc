// The exact field of a checkpoint on the CPU, several times faster than torch: nothing leaves the L1 cache between
// contraction, hash encoding and networks. Compiled and called by scenes/nerfstudio_native.py; twin: scenes/nerfstudio.py.
// One call owns its points and its scratch memory; any number of calls may run at once.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define BLOCK 64  // points at a time: four AVX-512 or eight AVX2 registers in each innermost loop
#define HARMONICS 16
#define GEOMETRY 15

typedef float Row[BLOCK];

typedef struct {
    int32_t inputs, outputs;
    const float *weight, *bias;  // (outputs, inputs), (outputs)
} Layer;

typedef struct {
    float scale, shift;
    int64_t first;
    uint32_t entries, side;  // side 0: hashed
} Level;

typedef struct {
    int32_t levels, features, contracted;
    const Level *level;  // (levels)
    const float *table;  // (rows, features)
    float box_low[3], box_size[3];
    float direction_scale, direction_shift;
    float log_initial_density, nothing;
    Layer base[2], head[3];
} Field;

// Model-frame points to 0..1 in each axis, 0 outside of the field. L-infinity contraction, or the box.
static void unit_points(const Field *field, const float *x, int n, Row p[3], int32_t inside[BLOCK]) {
    for (int axis = 0; axis < 3; axis++)
        for (int i = 0; i < BLOCK; i++) p[axis][i] = x[3 * (i < n ? i : 0) + axis];
    if (field->contracted) {
        for (int i = 0; i < BLOCK; i++) {
            float ax = fabsf(p[0][i]), ay = fabsf(p[1][i]), az = fabsf(p[2][i]);
            float reach = ax > ay ? ax : ay;
            reach = reach > az ? reach : az;
            for (int axis = 0; axis < 3; axis++) {
                float v = p[axis][i];
                p[axis][i] = ((reach < 1 ? v : (2 - 1 / reach) * (v / reach)) + 2) / 4;
            }
        }
    } else {
        for (int axis = 0; axis < 3; axis++)
            for (int i = 0; i < BLOCK; i++) p[axis][i] = (p[axis][i] - field->box_low[axis]) / field->box_size[axis];
    }
    for (int i = 0; i < BLOCK; i++)
        inside[i] = (p[0][i] > 0) & (p[0][i] < 1) & (p[1][i] > 0) & (p[1][i] < 1) & (p[2][i] > 0) & (p[2][i] < 1);
    for (int axis = 0; axis < 3; axis++)
        for (int i = 0; i < BLOCK; i++) p[axis][i] = inside[i] ? p[axis][i] : 0;
}

// Rows of the eight corners around the lattice point (ix, iy, iz): hashed, or side by side.
static inline void corner_rows(const Level *level, int is_dense, uint32_t ix, uint32_t iy, uint32_t iz, uint32_t rows[8][BLOCK], int i) {
    const uint32_t step_y = is_dense ? level->side : 2654435761u, step_z = is_dense ? level->side * level->side : 805459861u;
    const uint32_t x[2] = {ix, ix + 1}, y[2] = {iy * step_y, iy * step_y + step_y}, z[2] = {iz * step_z, iz * step_z + step_z};
    for (int corner = 0; corner < 8; corner++) {
        const uint32_t a = x[corner & 1], b = y[corner >> 1 & 1], c = z[corner >> 2];
        rows[corner][i] = is_dense ? (a + b + c) % level->entries : (a ^ b ^ c) & (level->entries - 1);
    }
}

static void encode(const Field *field, Row p[3], Row *out) {
    for (int number = 0; number < field->levels; number++) {
        const Level *level = &field->level[number];
        const float *table = field->table + (size_t)level->first * field->features;
        const float scale = level->scale, shift = level->shift;
        uint32_t rows[8][BLOCK];
        float weights[8][BLOCK];
        int32_t at[3][BLOCK];
        for (int i = 0; i < BLOCK; i++) {
            float qx = p[0][i] * scale + shift, qy = p[1][i] * scale + shift, qz = p[2][i] * scale + shift;
            int32_t ix = (int32_t)qx, iy = (int32_t)qy, iz = (int32_t)qz;
            float wx = qx - ix, wy = qy - iy, wz = qz - iz;
            float near = (1 - wy) * (1 - wz), up = (1 - wy) * wz, along = wy * (1 - wz), far = wy * wz;
            weights[0][i] = (1 - wx) * near, weights[1][i] = wx * near;
            weights[2][i] = (1 - wx) * along, weights[3][i] = wx * along;
            weights[4][i] = (1 - wx) * up, weights[5][i] = wx * up;
            weights[6][i] = (1 - wx) * far, weights[7][i] = wx * far;
            at[0][i] = ix, at[1][i] = iy, at[2][i] = iz;
        }
        if (level->side)
            for (int i = 0; i < BLOCK; i++) corner_rows(level, 1, at[0][i], at[1][i], at[2][i], rows, i);
        else
            for (int i = 0; i < BLOCK; i++) corner_rows(level, 0, at[0][i], at[1][i], at[2][i], rows, i);
        if (field->features == 2) {
            float *first = out[2 * number], *second = out[2 * number + 1];
            for (int i = 0; i < BLOCK; i++) {
                float a = 0, b = 0;
                for (int corner = 0; corner < 8; corner++) {
                    const float *entry = table + 2 * (size_t)rows[corner][i];
                    a += weights[corner][i] * entry[0];
                    b += weights[corner][i] * entry[1];
                }
                first[i] = a, second[i] = b;
            }
        } else {
            for (int feature = 0; feature < field->features; feature++)
                for (int i = 0; i < BLOCK; i++) {
                    float a = 0;
                    for (int corner = 0; corner < 8; corner++)
                        a += weights[corner][i] * table[(size_t)rows[corner][i] * field->features + feature];
                    out[number * field->features + feature][i] = a;
                }
        }
    }
}

// The first `outputs` outputs of a layer.
static void linear(const Layer *layer, int outputs, int relu, Row *in, Row *out) {
    for (int o = 0; o < outputs; o++) {
        const float *weight = layer->weight + (size_t)o * layer->inputs;
        Row sum;
        for (int i = 0; i < BLOCK; i++) sum[i] = layer->bias[o];
        for (int k = 0; k < layer->inputs; k++)
            for (int i = 0; i < BLOCK; i++) sum[i] += weight[k] * in[k][i];
        for (int i = 0; i < BLOCK; i++) out[o][i] = relu && sum[i] < 0 ? 0 : sum[i];
    }
}

// Real spherical harmonics to degree 3 of d · direction_scale + direction_shift.
static void harmonics(const Field *field, const float *directions, int n, Row *out) {
    const float scale = field->direction_scale, shift = field->direction_shift;
    for (int i = 0; i < BLOCK; i++) {
        const float *d = directions + 3 * (i < n ? i : 0);
        float x = d[0] * scale + shift, y = d[1] * scale + shift, z = d[2] * scale + shift;
        float xx = x * x, yy = y * y, zz = z * z;
        out[0][i] = 0.28209479177387814f;
        out[1][i] = 0.4886025119029199f * y;
        out[2][i] = 0.4886025119029199f * z;
        out[3][i] = 0.4886025119029199f * x;
        out[4][i] = 1.0925484305920792f * x * y;
        out[5][i] = 1.0925484305920792f * y * z;
        out[6][i] = 0.9461746957575601f * zz - 0.31539156525251999f;
        out[7][i] = 1.0925484305920792f * x * z;
        out[8][i] = 0.5462742152960396f * (xx - yy);
        out[9][i] = 0.5900435899266435f * y * (3 * xx - yy);
        out[10][i] = 2.890611442640554f * x * y * z;
        out[11][i] = 0.4570457994644658f * y * (5 * zz - 1);
        out[12][i] = 0.3731763325901154f * z * (5 * zz - 3);
        out[13][i] = 0.4570457994644658f * x * (5 * zz - 1);
        out[14][i] = 1.445305721320277f * z * (xx - yy);
        out[15][i] = 0.5900435899266435f * x * (xx - 3 * yy);
    }
}

// The colour network. head_in: geometry (15), then harmonics (16); the first layer's weights are in this order.
static void colour_rows(const Field *field, Row *head_in, Row *hidden, Row *hidden2, int count, float *logits) {
    Row out[3];
    linear(&field->head[0], field->head[0].outputs, 1, head_in, hidden);
    linear(&field->head[1], field->head[1].outputs, 1, hidden, hidden2);
    linear(&field->head[2], 3, 0, hidden2, out);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < count; i++) logits[3 * i + k] = out[k][i];
}

static int widest(const Field *field) {
    int base = field->base[0].outputs, head = field->head[0].outputs;
    return base > head ? base : head;
}

static Row *scratch_rows(int rows) { return aligned_alloc(64, (size_t)rows * sizeof(Row)); }

// points (n, 3) → log_density (n); where not NULL: geometry (n, 15), and with directions (n, 3): logits of the colour (n, 3).
// Returns 0, or 1 if there is no memory.
int field_at(const Field *field, int64_t n, const float *points, const float *directions, float *log_density, float *geometry,
             float *logits) {
    const int encoded = field->levels * field->features, width = widest(field);
    Row *encoding = scratch_rows(encoded + 2 * width + 1 + GEOMETRY + HARMONICS);
    if (!encoding) return 1;
    Row *hidden = encoding + encoded, *hidden2 = hidden + width, *raw = hidden2 + width, *head_in = raw + 1;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int count = n - start < BLOCK ? (int)(n - start) : BLOCK;
        Row p[3];
        int32_t inside[BLOCK];
        unit_points(field, points + 3 * start, count, p, inside);
        encode(field, p, encoding);
        linear(&field->base[0], field->base[0].outputs, 1, encoding, hidden);
        linear(&field->base[1], geometry || logits ? 1 + GEOMETRY : 1, 0, hidden, raw);
        for (int i = 0; i < count; i++)
            log_density[start + i] = inside[i] ? raw[0][i] + field->log_initial_density : field->nothing;
        if (geometry)
            for (int k = 0; k < GEOMETRY; k++)
                for (int i = 0; i < count; i++) geometry[GEOMETRY * (start + i) + k] = head_in[k][i];
        if (logits) {
            harmonics(field, directions + 3 * start, count, head_in + GEOMETRY);
            colour_rows(field, head_in, hidden, hidden2, count, logits + 3 * start);
        }
    }
    free(encoding);
    return 0;
}

// geometry (n, 15), directions (n, 3) → logits of the colour (n, 3). Returns 0, or 1 if there is no memory.
int colour_at(const Field *field, int64_t n, const float *geometry, const float *directions, float *logits) {
    const int width = widest(field);
    Row *hidden = scratch_rows(2 * width + GEOMETRY + HARMONICS);
    if (!hidden) return 1;
    Row *hidden2 = hidden + width, *head_in = hidden2 + width;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int count = n - start < BLOCK ? (int)(n - start) : BLOCK;
        for (int k = 0; k < GEOMETRY; k++)
            for (int i = 0; i < BLOCK; i++) head_in[k][i] = geometry[GEOMETRY * (start + (i < count ? i : 0)) + k];
        harmonics(field, directions + 3 * start, count, head_in + GEOMETRY);
        colour_rows(field, head_in, hidden, hidden2, count, logits + 3 * start);
    }
    free(hidden);
    return 0;
}
