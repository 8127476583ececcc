// Pass 1 of a frame: every LED pixel of every tile of the node, one invocation each, one dispatch.
// Follows: tiles.glsl, footprint.glsl, transfer.glsl, a field_*.glsl. A work-group is 8 × 8 pixels. Twin: ledvolume/render/reference.py `wall`.
//
// Inside the footprint the eye is the entrance pupil, marched every frame. Outside it is the stage's eye, which does not
// move: `outer` keeps the sum of its samples; a refinement step adds one sample to one block in REFINEMENT_CLASSES.

layout(local_size_x = 64) in; // 4 × 2 pixels at a time: llvmpipe's eight lanes, or an eighth of a warp, stay close together
layout(std430, binding = 2) buffer Outer { vec4 outer[]; };                    // sum of linear rgb, number of samples
layout(std430, binding = 3) writeonly buffer Radiance { vec4 radiance[]; };    // linear rgb, weight of the inner picture

uniform mat3 field_rotation;      // field_from_stage: scale · rotation · p + offset, relative to the cascades' centre
uniform float field_scale;
uniform vec3 field_offset;
uniform vec3 outer_eye_m;
uniform int inner_across;         // samples per LED pixel and axis inside the footprint
uniform int outer_steps;          // refinement steps of this frame, counted since the scene was put up

vec3 seen_from(vec3 eye_m, Tile tile, vec2 led_px) {
    LedRay ray = ray_through(tile, led_px, eye_m);
    vec3 origin = field_scale * (field_rotation * eye_m) + field_offset;
    return linear_from_srgb(march(origin, field_rotation * ray.direction, ray.spread).colour);
}

vec2 subpixel(int index, int across) {
    int turned = (index + across * across / 2) % (across * across); // the middle first
    return (vec2(turned % across, turned / across) + 0.5) / float(across) - 0.5;
}

uvec2 place_in_block(uint lane) {
    return uvec2((lane & 3u) | (lane >> 1 & 4u), (lane >> 2 & 1u) | (lane >> 3 & 6u));
}

void main() {
    uint group = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    if (group >= block_count) return;
    uvec2 block = blocks[group];
    Tile tile = tiles[block.x];
    uvec2 px = uvec2(block.y & 0xffffu, block.y >> 16) * 8u + place_in_block(gl_LocalInvocationID.x);
    if (any(greaterThanEqual(px, tile.image.xy))) return;
    uint slot = tile.image.z + px.y * tile.image.x + px.x;
    vec2 led_px = vec2(tile.grid.zw + px) + 0.5;

    float weight = inner_weight(surface_point(tile, led_px));
    vec3 inner = vec3(0.0);
    int samples = weight > 0.0 ? inner_across * inner_across : 0;
    // A pixel's class depends on the surface alone, so every cut of the wall refines it at the same step.
    uvec2 cell = (tile.grid.zw + px) / 8u;
    int phase = int((cell.x * 5u + cell.y * 3u) % uint(REFINEMENT_CLASSES));
    int wanted = min((outer_steps + REFINEMENT_CLASSES - 1 - phase) / REFINEMENT_CLASSES, OUTER_ACROSS * OUTER_ACROSS);
    vec4 sum = outer[slot];
    int have = int(sum.w);
    // One loop and one call of the march for both eyes: the lanes of a group stay together.
    for (int i = 0; i < samples + wanted - have; i++) {
        bool is_inner = i < samples;
        vec2 offset = is_inner ? subpixel(i, inner_across) : subpixel(have + i - samples, OUTER_ACROSS);
        vec3 seen = seen_from(is_inner ? pupil_m : outer_eye_m, tile, led_px + offset);
        if (is_inner) inner += seen; else sum += vec4(seen, 1.0);
    }
    if (wanted > have) outer[slot] = sum;
    if (samples > 0) inner /= float(samples);
    radiance[slot] = vec4(mix(sum.rgb / max(sum.w, 1.0), inner, weight), weight);
}
