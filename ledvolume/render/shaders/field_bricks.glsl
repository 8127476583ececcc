// Scene kind `bricks`: marches one ray through nested cascades of sparse 8-bit bricks.
// Layout of the tables: ledvolume/scenes/bricks.py. Twin: ledvolume/render/reference.py `march`.
// Positions are relative to the centre of the cascades, in field units.

layout(std430, binding = 4) readonly buffer Nodes { uvec2 nodes[]; };
layout(binding = 0) uniform sampler3D bricks;
layout(binding = 1) uniform sampler3D gradients;
layout(binding = 2) uniform sampler2D far_map;
layout(binding = 3) uniform usampler3D skips; // top cells, cascade over cascade: 0 where there is something, else 1 + distance

uniform float half_size;
uniform int cascades;
uniform vec2 log_density_range;
uniform float gradient_range;
uniform ivec3 bricks_across;    // bricks of the atlas along x, y, z
uniform float step_voxels;      // step inside a brick, in voxels
uniform float pixels_per_voxel; // a brick is fine enough once its voxel is this many footprint radii
uniform float near_distance;    // nothing nearer to the eye than this is drawn

struct Sample { vec3 colour; float opacity; float depth; };

float exit_distance(vec3 origin, vec3 inverse_direction, vec3 low, vec3 high) {
    vec3 far_side = max((low - origin) * inverse_direction, (high - origin) * inverse_direction);
    return min(far_side.x, min(far_side.y, far_side.z));
}

vec3 place_in_atlas(uint brick) {
    uvec3 across = uvec3(bricks_across);
    return vec3(brick % across.x, (brick / across.x) % across.y, brick / (across.x * across.y));
}

vec3 gradient_value(vec3 place, vec3 voxel, vec3 turn) {
    vec3 texel = place * vec3(COARSE_CORNERS, COARSE_CORNERS, 3 * COARSE_CORNERS) + voxel * 0.5 + 0.5;
    vec3 size = vec3(bricks_across * ivec3(COARSE_CORNERS, COARSE_CORNERS, 3 * COARSE_CORNERS));
    vec3 sum = vec3(0.0);
    for (int axis = 0; axis < 3; axis++) {
        vec3 at = texel + vec3(0.0, 0.0, float(axis * COARSE_CORNERS));
        sum += (textureLod(gradients, at / size, 0.0).rgb * 2.0 - 1.0) * turn[axis];
    }
    return sum * gradient_range;
}

// Of a direction without zeros: straight up has an azimuth then.
vec3 far_colour(vec3 direction) {
    // Not acos: Mesa's is 3e-4 rad off.
    float azimuth = atan(direction.y, direction.x), polar = atan(length(direction.xy), direction.z);
    vec2 uv = vec2(azimuth / TAU + 0.5, polar / (0.5 * TAU));
    return textureLod(far_map, uv, 0.0).rgb;
}

// spread: radius of the LED pixel's footprint per unit of distance. colour is composited in the checkpoint's own space.
//
// llvmpipe runs eight rays in step, ifs included, until the last is done. So loops test at their end where they can: a test
// at the start costs one more pass. And what the body of such a loop loads from a buffer is not used after it: Mesa 22.3
// loads zeros into rays that are done (an image keeps its value).
Sample march(vec3 origin, vec3 direction, float spread) {
    vec3 safe = mix(direction, vec3(1e-12), lessThan(abs(direction), vec3(1e-12)));
    vec3 inverse_direction = 1.0 / safe;
    vec3 per_texel = 1.0 / vec3(bricks_across * CORNERS);
    float outermost = ldexp(half_size, cascades - 1);
    // density · log2(e), so that both exponentials are exp2
    float density_scale = (log_density_range.y - log_density_range.x) * LOG2_E;
    float density_base = log_density_range.x * LOG2_E + log2(LOG2_E);
    float through = 1.0;
    vec3 colour = vec3(0.0);
    float depth = -1.0;
    float t = near_distance;
    bool is_inside;
    int passes = 0;
    do {
        vec3 x, low;
        ivec3 index;
        float cell;
        int cascade;
        bool is_empty;
        do { // to the next top cell that holds something
            x = origin + direction * t;
            float reach = max(abs(x.x), max(abs(x.y), abs(x.z)));
            is_inside = reach < outermost;
            frexp(reach / half_size, cascade);
            cascade = clamp(cascade, 0, cascades - 1);
            float half_cube = ldexp(half_size, cascade);
            cell = half_cube * 2.0 / float(GRID);
            index = clamp(ivec3(floor((x + half_cube) / cell)), ivec3(0), ivec3(GRID - 1));
            low = vec3(index) * cell - half_cube;
            uint skip = texelFetch(skips, index + ivec3(0, 0, cascade * GRID), 0).r;
            is_empty = is_inside && skip > 0u;
            float wide = float(skip - 1u) * cell;
            vec3 near_side = max(low - wide, vec3(-half_cube)), far_side = min(low + cell + wide, vec3(half_cube));
            if (is_empty) t = max(t, exit_distance(origin, inverse_direction, near_side, far_side)) + cell * CELL_EPSILON;
        } while (is_empty && ++passes < MAX_PASSES);

        uvec2 node = nodes[((cascade * GRID + index.z) * GRID + index.y) * GRID + index.x];
        float fine_enough = float(VOXELS) * pixels_per_voxel * spread * t;
        while (node.y != 0u && (node.x == 0u || cell > fine_enough)) {
            cell *= 0.5;
            uvec3 upper = uvec3(greaterThanEqual(x, low + cell));
            low += vec3(upper) * cell;
            node = nodes[node.y + upper.x + 2u * upper.y + 4u * upper.z];
        }
        float leave = max(t, exit_distance(origin, inverse_direction, low, low + cell)) + cell * CELL_EPSILON;

        if (is_inside && !is_empty && node.x != 0u) {
            float voxel = cell / float(VOXELS), per_voxel = float(VOXELS) / cell;
            vec3 place = place_in_atlas(node.x - 1u);
            vec3 first_texel = place * float(CORNERS) + 0.5;
            vec3 start = (origin - low) * per_voxel, per_distance = direction * per_voxel;
            float step = voxel * step_voxels * STEP_STRETCH;
            float s = t;
            do {
                float dt = min(step, leave - s); // the last step is what is left: rounding may add a step, but one of no length
                vec3 inside = clamp(start + per_distance * (s + 0.5 * dt), vec3(0.0), vec3(VOXELS));
                vec4 value = textureLod(bricks, (first_texel + inside) * per_texel, 0.0);
                float kept = value.a <= 0.0 ? 1.0 : exp2(-dt * exp2(value.a * density_scale + density_base));
                float weight = through - through * kept;
                visited(node.x - 1u, inside, through, weight);
                if (HAS_GRADIENTS && weight > MIN_GRADIENT_WEIGHT) {
                    vec3 turn = direction - normalize(low + inside * voxel);
                    value.rgb = clamp(value.rgb + gradient_value(place, inside, turn), 0.0, 1.0);
                }
                colour += weight * value.rgb;
                through *= kept;
                if (depth < 0.0 && through < 0.5) depth = s + 0.5 * dt;
                s += step;
            } while (s < leave && through > MIN_TRANSMITTANCE);
        }
        t = leave;
    } while (is_inside && through > MIN_TRANSMITTANCE && ++passes < MAX_PASSES);
    if (through > MIN_TRANSMITTANCE) colour += through * far_colour(safe);
    else colour /= 1.0 - through;
    return Sample(colour, 1.0 - through, depth);
}
