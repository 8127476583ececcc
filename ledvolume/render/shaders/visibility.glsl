// Which voxels the rays of a buffer pass while there is light, and which of them give light. One invocation is one ray.
// Follows visit_marks.glsl and field_bricks.glsl. Twin: none (it only steers what a bake keeps).

layout(local_size_x = 64) in;
struct Ray { vec4 origin_spread; vec4 direction; };
layout(std430, binding = 0) readonly buffer Rays { Ray rays[]; };

uniform uint ray_count;

void main() {
    uint i = gl_WorkGroupID.y * gl_NumWorkGroups.x * 64u + gl_WorkGroupID.x * 64u + gl_LocalInvocationID.x;
    if (i >= ray_count) return;
    march(rays[i].origin_spread.xyz, rays[i].direction.xyz, rays[i].origin_spread.w);
}
