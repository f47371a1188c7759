/* The sums of tile_dot.glsl shared by the lanes x of a group: lane l takes half blocks l, l + lx, ..
 * and leaves its sums in shared memory; lane_sum adds the lanes in increasing l. Row j of the
 * group belongs to the lanes with y = j / ROWS; 32 invocations at most. A barrier stands
 * between lane_put and lane_sum. Before including: tile_dot.glsl. */
shared float lane_part[MAX_AT * 32 * ROWS];

uint lane_rows() { return ROWS * gl_WorkGroupSize.y; }

uint lane_at(uint t, uint l, uint j) { return (t * gl_WorkGroupSize.x + l) * lane_rows() + j; }

/* The first m sums of v, for slice t and rows j, j + 1, .. */
void lane_put(uint t, uint j, uint m, ROW_VEC v) {
    uint at = lane_at(t, gl_LocalInvocationID.x, j);
    for (uint i = 0u; i < ROWS; i++)
        if (i < m) lane_part[at + i] = v[i];
}

float lane_sum(uint t, uint j) {
    PRECISE float s = lane_part[lane_at(t, 0u, j)];
    for (uint l = 1u; l < gl_WorkGroupSize.x; l++) s += lane_part[lane_at(t, l, j)];
    return s;
}
