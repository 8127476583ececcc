// A march that leaves marks: one bit per voxel and brick. Goes before field_bricks.glsl instead of visit_nothing.glsl.

layout(std430, binding = 1) buffer Passed { uint passed[]; }; // 16 words a brick, bit = x + 8 (y + 8 z)
layout(std430, binding = 2) buffer Lit { uint lit[]; };

void visited(uint brick, vec3 voxel, float through, float weight) {
    uvec3 v = uvec3(min(voxel, vec3(VOXELS - 1)));
    uint bit = v.x + 8u * (v.y + 8u * v.z), word = brick * 16u + (bit >> 5), mask = 1u << (bit & 31u);
    if (through > PASSED_LIGHT && (passed[word] & mask) == 0u) atomicOr(passed[word], mask);
    if (weight > LIT_WEIGHT && (lit[word] & mask) == 0u) atomicOr(lit[word], mask);
}
