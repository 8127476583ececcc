// A march that leaves no marks. Goes before field_bricks.glsl.

void visited(uint brick, vec3 voxel, float through, float weight) {}
