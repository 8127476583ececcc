// Pass 2 of a frame: linear radiance to code values, packed as receivers take them. One invocation is four pixels.
// Follows transfer.glsl. Formats: docs/protocol.md. Twin: ledvolume/colour.py `code_values`.

layout(local_size_x = 64) in;
layout(std430, binding = 3) readonly buffer Radiance { vec4 radiance[]; };
layout(std430, binding = 5) writeonly buffer Codes { uint codes[]; };

uniform uint group_count;
uniform float exposure;
uniform int bits; // 8: rgb8, 10: rgb10 (r in the low bits), 16: rgb16

uvec3 code(uint pixel) {
    vec3 shown = srgb_from_linear(clamp(radiance[pixel].rgb * exposure, 0.0, 1.0));
    return uvec3(floor(shown * float((1 << bits) - 1) + 0.5));
}

void main() {
    uint group = gl_WorkGroupID.y * gl_NumWorkGroups.x * 64u + gl_WorkGroupID.x * 64u + gl_LocalInvocationID.x;
    if (group >= group_count) return;
    uvec3 a = code(group * 4u), b = code(group * 4u + 1u), c = code(group * 4u + 2u), d = code(group * 4u + 3u);
    if (bits == 8) {
        codes[group * 3u] = a.r | a.g << 8 | a.b << 16 | b.r << 24;
        codes[group * 3u + 1u] = b.g | b.b << 8 | c.r << 16 | c.g << 24;
        codes[group * 3u + 2u] = c.b | d.r << 8 | d.g << 16 | d.b << 24;
    } else if (bits == 10) {
        codes[group * 4u] = a.r | a.g << 10 | a.b << 20;
        codes[group * 4u + 1u] = b.r | b.g << 10 | b.b << 20;
        codes[group * 4u + 2u] = c.r | c.g << 10 | c.b << 20;
        codes[group * 4u + 3u] = d.r | d.g << 10 | d.b << 20;
    } else {
        codes[group * 6u] = a.r | a.g << 16;
        codes[group * 6u + 1u] = a.b | b.r << 16;
        codes[group * 6u + 2u] = b.g | b.b << 16;
        codes[group * 6u + 3u] = c.r | c.g << 16;
        codes[group * 6u + 4u] = c.b | d.r << 16;
        codes[group * 6u + 5u] = d.g | d.b << 16;
    }
}
