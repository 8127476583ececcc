// The tracked camera's footprint. Twin: ledvolume/frustum.py `inner_weight`.

uniform mat3 camera_from_stage;
uniform vec3 pupil_m;
uniform vec4 view_tangents; // left, right, bottom, top
uniform float overscan;
uniform float feather;
uniform float presence = 1.0; // of the inner picture: fades to 0 when tracking is lost

float inner_weight(vec3 point_m) {
    vec3 p = camera_from_stage * (point_m - pupil_m);
    if (p.y <= 1e-6) return 0.0;
    vec2 middle = 0.5 * vec2(view_tangents.x + view_tangents.y, view_tangents.z + view_tangents.w);
    vec2 half_view = 0.5 * vec2(view_tangents.y - view_tangents.x, view_tangents.w - view_tangents.z);
    vec2 off = abs(p.xz / p.y - middle) / half_view;
    float x = clamp((max(off.x, off.y) - overscan) / max(feather, 1e-6), 0.0, 1.0);
    return presence * (1.0 - x * x * (3.0 - 2.0 * x));
}
