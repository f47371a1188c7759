# SPIR-V of every row of kernels.def and fused.def (op "fused"), and the object that embeds it. Included by the Makefile that
# sets B (build folder) and CC; it links $(KERNEL_OBJ). A row becomes <op>__<row>.spv and, unless it
# is strict, <op>__<row>.safe.spv built with -DSAFE. A row whose needs glslc cannot compile (CAN_*
# below) stays in the table with modules of no words; engine/vk/vk_kernel.c says so of it.
GLSLC       ?= glslc
GLSLC_FLAGS := --target-env=vulkan1.1 -O -I kernels/glsl -I kernels
KERNEL_DIR  := $(B)/kernels
KERNEL_OBJ  := $(KERNEL_DIR)/spirv.o
KERNEL_DEPS := $(wildcard kernels/glsl/*.glsl kernels/*.h)

# The rows in words: ROW op row source "flags" needs, PROBE name source "flags" needs, FLOAT name "flags". -undef: no system
# macro may touch a name.
define KERNEL_ROWS
printf '%s\n' '#define KERNEL(op, row, source, flags, lx, ly, px, py, needs, ...) ROW op row source flags needs' \
	'#include "kernels/kernels.def"' '#define PROBE(name, source, flags, needs, ...) PROBE name source flags needs' \
	'#define FUSED(row, source, flags, ...) ROW fused row source flags' '#define MEMBER(...)' \
	'#include "kernels/fused.def"' '#include "kernels/probes.def"' \
	'#define FLOAT_PROBE(name, flags) FLOAT name flags' '#include "kernels/float_probes.def"' | \
	$(CC) -E -P -undef -x c -I. -
endef

# One rule per module. Flags go through a file that is rewritten only when they change, so that
# an edit of one row compiles that row alone.
#
# can_compile EXTENSION: 1 where glslc knows it.
can_compile = $(shell printf '\043version 450\n\043extension %s : require\nvoid main() {}\n' $(1) | \
	$(GLSLC) $(GLSLC_FLAGS) -fshader-stage=compute -o /dev/null - 2>/dev/null && echo 1)
define KERNEL_AWK
function module(name, source, flags,  file, old) {
    file = dir "/" name ".flags"; old = ""
    if ((getline old < file) <= 0 || old != flags) { close(file); print flags > file }
    close(file)
    printf "SPV += %s/%s.spv\n", dir, name
    printf "%s/%s.spv: kernels/%s.comp %s $$(KERNEL_DEPS)\n", dir, name, source, file
    printf "\t$$(call say,GLSLC,$$@)\n"
    printf "\t$$(Q)$$(GLSLC) $$(GLSLC_FLAGS) %s -o $$@ $$<\n", flags
}
function symbol(name, file) {
    printf ".balign 16\n.global %s\n%s:\n.incbin \"%s/%s.spv\"\n", name, name, dir, file > asm
    printf ".global %s_end\n%s_end:\n", name, name > asm
}
function alias(name, old) { printf ".global %s\n.set %s, %s\n", name, name, old > asm }
BEGIN { print ".section .rodata" > asm }
function nothing(name) { printf ".global %s\n%s:\n.global %s_end\n%s_end:\n", name, name, name, name > asm }
function is_left_out(needs) { return (needs ~ /NEED_COOPMAT/ && !coopmat) || (needs ~ /NEED_DOT/ && !dot) }
$$1 == "ROW" {
    split($$0, part, "\""); flags = part[2]
    if (is_left_out(part[3])) {
        nothing("ds4_spv_" $$2 "__" $$3); nothing("ds4_spv_safe_" $$2 "__" $$3)
        next
    }
    if ($$3 == "strict" && flags !~ /-DSTRICT/) flags = "-DSTRICT " flags
    name = $$2 "__" $$3
    module(name, $$4, flags)
    symbol("ds4_spv_" name, name)
    if ($$3 == "strict") {
        alias("ds4_spv_safe_" name, "ds4_spv_" name)
        alias("ds4_spv_safe_" name "_end", "ds4_spv_" name "_end")
    } else {
        module(name ".safe", $$4, "-DSAFE " flags)
        symbol("ds4_spv_safe_" name, name ".safe")
    }
}
$$1 == "PROBE" {
    split($$0, part, "\"")
    if (is_left_out(part[3])) { nothing("ds4_spv_probe__" $$2); next }
    module("probe__" $$2, "probe_" $$3, part[2])
    symbol("ds4_spv_probe__" $$2, "probe__" $$2)
}
$$1 == "FLOAT" {
    flags = $$0; sub(/^[^"]*/, "", flags); gsub(/"/, "", flags)
    module("probe_float__" $$2, "probe_float", flags)
    symbol("ds4_spv_float__" $$2, "probe_float__" $$2)
}
END { print ".section .note.GNU-stack,\"\",%progbits" > asm }
endef
export KERNEL_AWK

$(B)/kernels.rules.mk: kernels/kernels.def kernels/fused.def kernels/probes.def kernels/float_probes.def kernels/kernels.mk
	@mkdir -p $(KERNEL_DIR) $(@D)
	@$(KERNEL_ROWS) > $(KERNEL_DIR)/rows.txt
	@awk -v dir=$(KERNEL_DIR) -v asm=$(KERNEL_DIR)/spirv.S.new \
		-v coopmat='$(call can_compile,GL_KHR_cooperative_matrix)' \
		-v dot='$(call can_compile,GL_EXT_integer_dot_product)' "$$KERNEL_AWK" \
		$(KERNEL_DIR)/rows.txt > $@.new
	@cmp -s $(KERNEL_DIR)/spirv.S.new $(KERNEL_DIR)/spirv.S || \
		cp $(KERNEL_DIR)/spirv.S.new $(KERNEL_DIR)/spirv.S
	@mv $@.new $@

# Goals that build nothing, or that run make again once the compiler is installed, do not need the rules.
NO_RULES := clean help format deps demo test check check-bits check-math check-math-run check-browser check-debian13 \
            check-tables check-format
ifneq ($(filter-out $(NO_RULES),$(or $(MAKECMDGOALS),all)),)
include $(B)/kernels.rules.mk
endif

$(KERNEL_DIR)/spirv.S: $(B)/kernels.rules.mk ;
$(KERNEL_OBJ): $(KERNEL_DIR)/spirv.S $(SPV)
	$(call say,AS,$<)
	$(Q)$(CC) -c -o $@ $<
