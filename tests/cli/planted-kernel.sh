#!/bin/sh
# One strict kernel with another sum order: the comparison that passes otherwise fails and names
# that op at its first layer. Two kernels are changed in turn, one that runs first in layer 0 and
# one that only compressed layers run. The program is linked again with the changed SPIR-V.
. tests/cli_lib.sh
need_device
build=$(dirname "$bin")
libs=$(pkg-config --libs hdf5 gsl libxxhash jansson vulkan)

# plant OP FILE SED: builds $t/planted with that op's strict kernel changed in a file of kernels/.
plant() {
    rm -rf "$t/kernels" "$t/src"
    cp -r "$build/kernels" "$t/kernels"
    cp -r kernels "$t/src"
    sed -i "$3" "$t/src/$2"
    if cmp -s "$t/src/$2" "kernels/$2"; then die "the plant in $2 changed nothing"; fi
    # shellcheck disable=SC2046
    glslc --target-env=vulkan1.1 -O -I "$t/src/glsl" -I "$t/src" $(cat "$build/kernels/$1__strict.flags") \
        -o "$t/kernels/$1__strict.spv" "$t/src/$1.comp"
    sed "s|\"$build/kernels/|\"$t/kernels/|" "$build/kernels/spirv.S" >"$t/spirv.S"
    # shellcheck disable=SC2046,SC2086
    gcc ${PLANT_LDFLAGS:-} -o "$t/planted" "$t/spirv.S" \
        $(find "$build/engine" "$build/drift" "$build/reports" -name '*.o') $libs -lhdf5_serial_hl -lpthread -lm
}

# caught OP TAP LAYER: the planted program's run differs from the reference there first.
caught() {
    expect 0 "$t/planted" run -m "$model" --engine vk --plan strict --dump full --fixtures short_code_completion \
        -o "$t/vk.h5" --fresh
    expect 1 "$bin" compare "$t/ref.h5" "$t/vk.h5"
    says "drift: first at layer $3, tap $2 (op $1, ref:strict against vk:strict)"
}

expect 0 "$bin" run -m "$model" --engine ref --plan strict --dump full --fixtures short_code_completion -o "$t/ref.h5"
expect 0 "$bin" run -m "$model" --engine vk --plan strict --dump full --fixtures short_code_completion -o "$t/vk.h5"
expect 0 "$bin" compare "$t/ref.h5" "$t/vk.h5"
says "same bits"

# The 16 lanes of a sum of squares are added in another order.
plant rms_norm glsl/rms.glsl 's/return tree16(v\[0\], v\[1\], v\[2\], v\[3\]);/return tree16(v[3], v[1], v[2], v[0]);/'
caught rms_norm attn_hc_norm 0
# The tokens of a compression window are pooled from the last to the first.
plant softmax_pool softmax_pool.comp 's/^        uint c = at(first + t, cur);/        uint c = at(first + (a.ratio - 1u - t), cur);/'
caught softmax_pool comp_pool 2
