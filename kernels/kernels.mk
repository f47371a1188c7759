# SPIR-V of every row of kernels.def, and the object that embeds it. Included by the Makefile that
# sets B (build folder) and CC; it links $(KERNEL_OBJ). A row becomes <op>__<row>.spv and, unless it
# is strict, <op>__<row>.safe.spv built with -DSAFE.
GLSLC       ?= glslc
GLSLC_FLAGS := --target-env=vulkan1.1 -O -I kernels/glsl -I kernels
KERNEL_DIR  := $(B)/kernels
KERNEL_OBJ  := $(KERNEL_DIR)/spirv.o
KERNEL_DEPS := $(wildcard kernels/glsl/*.glsl) kernels/args.h

# The rows in words: ROW op row source "flags", PROBE name. -undef: no system macro may touch a name.
define KERNEL_ROWS
printf '%s\n' '#define KERNEL(op, row, source, flags, ...) ROW op row source flags' \
	'#include "kernels/kernels.def"' '#define PROBE(name, ...) PROBE name' \
	'#include "kernels/probes.def"' | $(CC) -E -P -undef -x c -I. -
endef

# One rule per module. Flags go through a file that is rewritten only when they change, so that
# an edit of one row compiles that row alone.
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
$$1 == "ROW" {
    flags = $$0; sub(/^[^"]*/, "", flags); gsub(/"/, "", flags)
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
    module("probe__" $$2, "probe_" $$2, "")
    symbol("ds4_spv_probe__" $$2, "probe__" $$2)
}
END { print ".section .note.GNU-stack,\"\",%progbits" > asm }
endef
export KERNEL_AWK

$(B)/kernels.rules.mk: kernels/kernels.def kernels/probes.def kernels/kernels.mk
	@mkdir -p $(KERNEL_DIR) $(@D)
	@$(KERNEL_ROWS) > $(KERNEL_DIR)/rows.txt
	@awk -v dir=$(KERNEL_DIR) -v asm=$(KERNEL_DIR)/spirv.S.new "$$KERNEL_AWK" \
		$(KERNEL_DIR)/rows.txt > $@.new
	@cmp -s $(KERNEL_DIR)/spirv.S.new $(KERNEL_DIR)/spirv.S || \
		cp $(KERNEL_DIR)/spirv.S.new $(KERNEL_DIR)/spirv.S
	@mv $@.new $@

# Goals that build nothing, or that run make again once the compiler is installed, do not need the rules.
NO_RULES := clean help format deps demo test check check-bits check-math check-math-run check-browser check-debian13 check-gpu \
            check-tables check-format
ifneq ($(filter-out $(NO_RULES),$(or $(MAKECMDGOALS),all)),)
include $(B)/kernels.rules.mk
endif

$(KERNEL_DIR)/spirv.S: $(B)/kernels.rules.mk ;
$(KERNEL_OBJ): $(KERNEL_DIR)/spirv.S $(SPV)
	$(call say,AS,$<)
	$(Q)$(CC) -c -o $@ $<
