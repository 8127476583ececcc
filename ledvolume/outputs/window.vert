// Window, vertex stage: one triangle that covers the viewport, no buffers. Drawn once per picture by outputs/window.py.
// uv: (0, 0) is the picture's top left corner.
#version 330 core
out vec2 uv;

void main() {
    vec2 corner = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
    uv = vec2(corner.x, 1.0 - corner.y);
    gl_Position = vec4(2.0 * corner - 1.0, 0.0, 1.0);
}
