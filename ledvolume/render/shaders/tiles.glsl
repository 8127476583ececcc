// Where LED pixels are, and rays through them. Twin: ledvolume/stage.py `surface_points`, `rays_through`.
// One invocation is one LED pixel of one tile: work-groups of 8 × 8 are listed in `blocks`, over all tiles of the node.

struct Tile {
    vec4 stage_from_surface[3]; // rows
    vec4 surface;               // width_m, height_m, curvature_per_m, pitch_m
    uvec4 grid;                 // surface's width_px, height_px; offset of the tile in it
    uvec4 image;                // tile's width_px, height_px, first pixel in the frame, 0
};
layout(std430, binding = 0) readonly buffer Tiles { Tile tiles[]; };
layout(std430, binding = 1) readonly buffer Blocks { uvec2 blocks[]; }; // tile, block column | block row << 16

uniform uint block_count;

vec3 surface_point(Tile tile, vec2 led_px) {
    float s = (led_px.x / float(tile.grid.x) - 0.5) * tile.surface.x;
    float y = (0.5 - led_px.y / float(tile.grid.y)) * tile.surface.y;
    float k = tile.surface.z;
    float half_sine = sin(0.5 * k * s);
    vec4 p = k == 0.0 ? vec4(s, y, 0.0, 1.0) : vec4(sin(k * s) / k, y, 2.0 * half_sine * half_sine / k, 1.0);
    return vec3(dot(tile.stage_from_surface[0], p), dot(tile.stage_from_surface[1], p), dot(tile.stage_from_surface[2], p));
}

struct LedRay { vec3 direction; float spread; }; // spread: radius of the LED pixel's footprint per metre of distance

LedRay ray_through(Tile tile, vec2 led_px, vec3 eye_m) {
    vec3 toward = surface_point(tile, led_px) - eye_m;
    float distance_m = length(toward);
    return LedRay(toward / distance_m, 0.5 * tile.surface.w / distance_m);
}
