// Any rays: one invocation is one ray of a buffer. For verification, for the camera's own view, for tests.
// Follows a field_*.glsl. Rays are in field units relative to the cascades' centre.

layout(local_size_x = 64) in;
struct Ray { vec4 origin_spread; vec4 direction; };
layout(std430, binding = 0) readonly buffer Rays { Ray rays[]; };
layout(std430, binding = 3) writeonly buffer Seen { vec4 seen[]; }; // colour as composited, depth (-1: none)

uniform uint ray_count;

void main() {
    uint i = gl_WorkGroupID.y * gl_NumWorkGroups.x * 64u + gl_WorkGroupID.x * 64u + gl_LocalInvocationID.x;
    if (i >= ray_count) return;
    Sample s = march(rays[i].origin_spread.xyz, rays[i].direction.xyz, rays[i].origin_spread.w);
    seen[i] = vec4(s.colour, s.depth);
}
