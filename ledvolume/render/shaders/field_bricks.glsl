// Scene kind `bricks`: marches one ray through nested cascades of sparse 8-bit bricks.
// Layout of the tables: ledvolume/scenes/bricks.py. Twin: ledvolume/render/reference.py `march`.
// Positions are relative to the centre of the cascades, in field units.

layout(std430, binding = 4) readonly buffer Nodes { uvec2 nodes[]; };
layout(binding = 0) uniform sampler3D bricks;
layout(binding = 1) uniform sampler3D gradients;
layout(binding = 2) uniform sampler2D far_map;

uniform float half_size;
uniform int cascades;
uniform vec2 log_density_range;
uniform float gradient_range;
uniform bool has_gradients;
uniform ivec3 bricks_across;    // bricks of the atlas along x, y, z
uniform float step_voxels;      // step inside a brick, in voxels
uniform float pixels_per_voxel; // a brick is fine enough once its voxel is this many footprint radii
uniform float near_distance;    // nothing nearer to the eye than this is drawn

struct Sample { vec3 colour; float opacity; float depth; };

float exit_distance(vec3 origin, vec3 inverse_direction, vec3 low, vec3 high) {
    vec3 far_side = max((low - origin) * inverse_direction, (high - origin) * inverse_direction);
    return min(far_side.x, min(far_side.y, far_side.z));
}

vec4 brick_value(uint brick, vec3 voxel) {
    uvec3 across = uvec3(bricks_across);
    uvec3 place = uvec3(brick % across.x, (brick / across.x) % across.y, brick / (across.x * across.y));
    vec3 texel = vec3(place * CORNERS) + voxel + 0.5;
    return textureLod(bricks, texel / vec3(bricks_across * CORNERS), 0.0);
}

vec3 gradient_value(uint brick, vec3 voxel, vec3 turn) {
    uvec3 across = uvec3(bricks_across);
    uvec3 place = uvec3(brick % across.x, (brick / across.x) % across.y, brick / (across.x * across.y));
    vec3 texel = vec3(place * uvec3(COARSE_CORNERS, COARSE_CORNERS, 3 * COARSE_CORNERS)) + voxel * 0.5 + 0.5;
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
Sample march(vec3 origin, vec3 direction, float spread) {
    vec3 safe = mix(direction, vec3(1e-12), lessThan(abs(direction), vec3(1e-12)));
    vec3 inverse_direction = 1.0 / safe;
    float outermost = half_size * exp2(float(cascades - 1));
    float through = 1.0;
    vec3 colour = vec3(0.0);
    float depth = -1.0;
    float t = near_distance;
    for (int i = 0; i < MAX_CELLS && through > MIN_TRANSMITTANCE; i++) {
        vec3 x = origin + direction * t;
        float reach = max(abs(x.x), max(abs(x.y), abs(x.z)));
        if (reach >= outermost) break;
        int cascade = 0;
        float half_cube = half_size;
        while (reach >= half_cube) { half_cube *= 2.0; cascade++; }
        float cell = half_cube * 2.0 / float(GRID);
        ivec3 index = clamp(ivec3(floor((x + half_cube) / cell)), ivec3(0), ivec3(GRID - 1));
        uvec2 node = nodes[((cascade * GRID + index.z) * GRID + index.y) * GRID + index.x];
        vec3 low = vec3(index) * cell - half_cube;
        if (node.x >= EMPTY) {
            float wide = float(node.x - EMPTY) * cell;
            vec3 near_side = max(low - wide, vec3(-half_cube)), far_side = min(low + cell + wide, vec3(half_cube));
            t = max(t, exit_distance(origin, inverse_direction, near_side, far_side)) + cell * CELL_EPSILON;
            continue;
        }
        while (node.y != 0u && (node.x == 0u || cell > float(VOXELS) * pixels_per_voxel * spread * t)) {
            cell *= 0.5;
            uvec3 upper = uvec3(greaterThanEqual(x, low + cell));
            low += vec3(upper) * cell;
            node = nodes[node.y + upper.x + 2u * upper.y + 4u * upper.z];
        }
        float leave = max(t, exit_distance(origin, inverse_direction, low, low + cell)) + cell * CELL_EPSILON;
        if (node.x != 0u) {
            float voxel = cell / float(VOXELS);
            float step = voxel * step_voxels * STEP_STRETCH;
            // The last step is what is left, so that rounding, which may add a step, adds one of no length.
            for (float s = t; s < leave; s += step) {
                float dt = min(step, leave - s);
                vec3 inside = clamp((origin - low + direction * (s + 0.5 * dt)) / voxel, vec3(0.0), vec3(VOXELS));
                vec4 value = brick_value(node.x - 1u, inside);
                float density = exp(mix(log_density_range.x, log_density_range.y, value.a));
                if (value.a <= 0.0) density = 0.0;
                float alpha = 1.0 - exp(-density * dt);
                float weight = through * alpha;
                visited(node.x - 1u, inside, through, weight);
                if (has_gradients && weight > MIN_GRADIENT_WEIGHT) {
                    vec3 turn = direction - normalize(low + inside * voxel);
                    value.rgb = clamp(value.rgb + gradient_value(node.x - 1u, inside, turn), 0.0, 1.0);
                }
                colour += weight * value.rgb;
                through *= 1.0 - alpha;
                if (depth < 0.0 && through < 0.5) depth = s + 0.5 * dt;
                if (through <= MIN_TRANSMITTANCE) break;
            }
        }
        t = leave;
    }
    if (through > MIN_TRANSMITTANCE) colour += through * far_colour(safe);
    else colour /= 1.0 - through;
    return Sample(colour, 1.0 - through, depth);
}
