// Where LED pixels are, and rays through them. Twin: ledvolume/stage.py `surface_points`, `rays_through`.
// One invocation is one LED pixel of one tile: work-groups of 8 × 8 are listed in `blocks`, over all tiles of the node.

struct Tile {
    vec4 stage_from_surface[3]; // rows
    vec4 surface;               // width_m, height_m, curvature_per_m, pitch_m
    uvec4 grid;                 // surface's width_px, height_px; offset of the tile in it
    uvec4 image;                // tile's width_px, height_px, first pixel in the frame, 0
    uvec4 cells;                // of a map: columns, rows, first corner; 0 columns: no map
};
layout(std430, binding = 0) readonly buffer Tiles { Tile tiles[]; };
layout(std430, binding = 1) readonly buffer Blocks { uvec2 blocks[]; }; // tile, block column | block row << 16
layout(std430, binding = 6) readonly buffer Corners { vec4 corners[]; }; // of all maps, on their surface's axes: four a cell

uniform uint block_count;

vec4 mapped_point(Tile tile, vec2 led_px) {
    vec2 cell_px = vec2(tile.grid.xy / tile.cells.xy);
    vec2 cell = clamp(floor(led_px / cell_px), vec2(0.0), vec2(tile.cells.xy - 1u));
    vec2 uv = (led_px - cell * cell_px) / cell_px;
    uint first = tile.cells.z + 4u * (uint(cell.y) * tile.cells.x + uint(cell.x));
    vec3 upper = mix(corners[first].xyz, corners[first + 1u].xyz, uv.x);
    vec3 lower = mix(corners[first + 2u].xyz, corners[first + 3u].xyz, uv.x);
    return vec4(mix(upper, lower, uv.y), 1.0);
}

vec3 surface_point(Tile tile, vec2 led_px) {
    float s = (led_px.x / float(tile.grid.x) - 0.5) * tile.surface.x;
    float y = (0.5 - led_px.y / float(tile.grid.y)) * tile.surface.y;
    float k = tile.surface.z;
    float half_sine = sin(0.5 * k * s);
    vec4 p = k == 0.0 ? vec4(s, y, 0.0, 1.0) : vec4(sin(k * s) / k, y, 2.0 * half_sine * half_sine / k, 1.0);
    if (tile.cells.x > 0u) p = mapped_point(tile, led_px);
    return vec3(dot(tile.stage_from_surface[0], p), dot(tile.stage_from_surface[1], p), dot(tile.stage_from_surface[2], p));
}

struct LedRay { vec3 direction; float spread; }; // spread: radius of the LED pixel's footprint per metre of distance

LedRay ray_through(Tile tile, vec2 led_px, vec3 eye_m) {
    vec3 toward = surface_point(tile, led_px) - eye_m;
    float distance_m = length(toward);
    return LedRay(toward / distance_m, 0.5 * tile.surface.w / distance_m);
}
