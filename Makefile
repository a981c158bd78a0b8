# Tenon: build, run, test. Nobody lists files here: a source is built because of where it lies (CONTRIBUTING.md).
#
#   make          build everything              make run      boot a micro-VM and run a command in it
#   make check    the fast tests                make test     all tests, and what CI runs
#   make fuzz     each fuzzer for a while       make fmt      clang-format
#   make bench    figures, beside their floors  make kernel   the small guest kernel (minutes)
#   make serve    tenond in the foreground
#
# These install what Debian packages they miss (rootfs/bootstrap.sh) before they build; a file's own target, like
# `make build/bin/tenond`, does not. V=1 shows the commands. What is built:
#
#   build/gen/     C from proto/*.proto         build/host/   objects for this machine → build/bin/
#   build/musl/    objects for the guest        build/san/    the same sources under ASan and UBSan, for unit tests
#   build/static/  libraries for the guest      build/fuzz/   the same again by clang, for libFuzzer
#   build/guest/   tenon-init, initramfs.cpio   build/kernel/, build/images/   from Debian packages

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all

Q := $(if $(V),,@)
say = @$(if $(V),:,printf '  %-6s %s\n' $(1) $@)

CC := gcc
WARN := -Wall -Wextra -Werror
COMMON := -std=gnu11 -D_GNU_SOURCE $(WARN) -I. -Ibuild/gen -g -MMD -MP
FUZZ_SECONDS ?= 20
SERVE_ARGS ?= --no-auth

# ---- sources by component --------------------------------------------------------------------------

components := proto guest vmm net daemon cli flatten

protos := $(wildcard proto/*.proto)
gen_c := $(protos:%.proto=build/gen/%.pb-c.c)
gen_h := $(gen_c:.c=.h)

src_proto := $(wildcard proto/*.c) $(gen_c:build/gen/%=%)
src_guest := $(wildcard guest/*.c guest/*/*.c)
src_vmm := $(wildcard host-shim/vmm/*.c)
src_net := $(wildcard host-shim/net/*.c)
src_daemon := $(wildcard host-shim/daemon/*.c host-shim/daemon/*/*.c)
src_cli := $(wildcard host-shim/cli/*.c)
src_flatten := $(wildcard host-shim/flatten/*.c)

libs_proto := -lprotobuf-c
libs_guest := $(libs_proto) build/static/lib/libseccomp.a -larchive
libs_vmm := $(libs_proto) -ljansson
libs_net := -lslirp -lseccomp
libs_daemon := $(libs_proto) -lmicrohttpd -lgnutls -lwslay -luv -lsqlite3 -lz -ljansson -lnettle -larchive -lzstd -lpthread
libs_cli := -lcurl -ljansson -lnettle
libs_flatten := -larchive -ljansson -lnettle

build/gen/%.pb-c.c build/gen/%.pb-c.h: %.proto
	$(call say,PROTO)
	@mkdir -p build/gen
	$(Q)protoc-c --c_out=build/gen $<

# The tests' client speaks the wire through Python classes of the same messages.
gen_py := $(protos:%.proto=build/gen/py/%_pb2.py)

build/gen/py/%_pb2.py: %.proto
	$(call say,PROTO)
	@mkdir -p build/gen/py
	$(Q)protoc --python_out=build/gen/py $<

# ---- every component, compiled four ways -------------------------------------------------------------

sanitize := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

cc_host := $(CC)
flags_host := -O2 -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2
cc_musl := musl-gcc
# Without the strategy -Os makes each memcpy a `rep movsb`, which TCG runs byte by byte.
flags_musl := -Os -mstringop-strategy=libcall -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables \
	-Ibuild/static/include -idirafter build/static/kernel-headers
cc_san := $(CC)
flags_san := -O1 $(sanitize) -idirafter build/static/include
cc_fuzz := clang
flags_fuzz := -O1 $(sanitize) -fsanitize=fuzzer-no-link -idirafter build/static/include

cc_count := $(CC)
flags_count := -O2 -include tests/count/fork.h -idirafter build/static/include

# $(1): variant. Objects mirror the tree; generated sources count as lying beside their .proto.
define compile
build/$(1)/%.o: %.c Makefile | $(gen_h)
	$$(call say,CC)
	@mkdir -p $$(@D)
	$$(Q)$(cc_$(1)) $(COMMON) $(flags_$(1)) -c $$< -o $$@

build/$(1)/%.o: build/gen/%.c Makefile | $(gen_h)
	$$(call say,CC)
	@mkdir -p $$(@D)
	$$(Q)$(cc_$(1)) $(COMMON) $(flags_$(1)) -c $$< -o $$@
endef

# $(1): variant, $(2): component. A library is all of its component but main.c.
define library
build/$(1)/lib$(2).a: $(patsubst %.c,build/$(1)/%.o,$(filter-out %/main.c,$(src_$(2))))
	$$(call say,AR)
	@mkdir -p $$(@D)
	@rm -f $$@
	$$(Q)ar rcsD $$@ $$^
endef

variants := host musl san fuzz count
$(foreach v,$(variants),$(eval $(call compile,$(v))))
$(foreach v,$(variants),$(foreach c,$(components),$(eval $(call library,$(v),$(c)))))

# What the assembler includes, the compiler does not tell of.
$(foreach v,$(variants),build/$(v)/host-shim/daemon/rest/openapi.o): host-shim/daemon/rest/schemas.json

# ---- programs ----------------------------------------------------------------------------------------

link_host = $(Q)$(CC) -pie -Wl,-z,relro,-z,now,--as-needed $^ $(1) -o $@

build/bin/tenond: build/host/host-shim/daemon/main.o build/host/libdaemon.a build/host/libproto.a
	$(call say,LINK)
	@mkdir -p $(@D)
	$(call link_host,$(libs_daemon))

build/bin/tenon-vmm: build/host/host-shim/vmm/main.o build/host/libvmm.a build/host/libproto.a
	$(call say,LINK)
	@mkdir -p $(@D)
	$(call link_host,$(libs_vmm))

build/bin/tenon-net: build/host/host-shim/net/main.o build/host/libnet.a build/host/libproto.a
	$(call say,LINK)
	@mkdir -p $(@D)
	$(call link_host,$(libs_net))

build/bin/tenon: build/host/host-shim/cli/main.o build/host/libcli.a build/host/libproto.a
	$(call say,LINK)
	@mkdir -p $(@D)
	$(call link_host,$(libs_cli))

# It shares with tenond how a manifest and a config are read.
build/bin/tenon-flatten: build/host/host-shim/flatten/main.o build/host/libflatten.a build/host/libdaemon.a \
		build/host/libproto.a
	$(call say,LINK)
	@mkdir -p $(@D)
	$(call link_host,$(libs_flatten))

# The unstripped twin stays beside its objects, for addr2line and gdb.
build/guest/tenon-init: build/musl/guest/main.o build/musl/libguest.a build/musl/libproto.a
	$(call say,LINK)
	@mkdir -p $(@D)
	$(Q)musl-gcc -static -Wl,--gc-sections $^ -Lbuild/static/lib -lseccomp -lprotobuf-c -larchive \
		-o build/musl/tenon-init
	$(Q)strip -o $@ build/musl/tenon-init

# ---- what a guest boots from -------------------------------------------------------------------------

build/static/done: rootfs/static-libs.sh
	$(Q)rootfs/static-libs.sh
	@touch $@

$(foreach v,musl san fuzz count,$(patsubst %.c,build/$(v)/%.o,$(src_proto) $(src_guest))): | build/static/done

build/kernel/vmlinux: rootfs/kernel.sh
	$(Q)rootfs/kernel.sh

# Boxes boot this one where it has been built. Kbuild shares the processors with the rest of this make.
build/kernel/small/vmlinux: rootfs/small-kernel.sh rootfs/kernel/config
	$(call say,KERNEL)
	+$(Q)rootfs/small-kernel.sh

build/guest/initramfs.cpio: rootfs/initramfs.sh build/guest/tenon-init build/kernel/vmlinux
	$(call say,CPIO)
	$(Q)rootfs/initramfs.sh

build/images/base.squashfs build/images/upper.ext4 &: rootfs/base-image.sh
	$(call say,IMAGE)
	$(Q)rootfs/base-image.sh

# ---- tests -------------------------------------------------------------------------------------------

# A unit test links the library its path names: tests/unit/guest/… → libguest. C tests of tests/issues/ lie likewise.
unit_tests := $(shell find tests/unit tests/issues -name 'test_*.c' 2>/dev/null)
unit_bins := $(unit_tests:%.c=build/%)

path_proto := proto
path_guest := guest
path_vmm := host-shim/vmm
path_net := host-shim/net
path_daemon := host-shim/daemon
path_cli := host-shim/cli
path_flatten := host-shim/flatten

below_flatten := build/san/libdaemon.a

# $(1): tests/unit or tests/issues, $(2): component
define unit_test
build/$(1)/$(path_$(2))/%: $(1)/$(path_$(2))/%.c build/san/lib$(2).a $(below_$(2)) build/san/libproto.a Makefile | $(gen_h)
	$$(call say,TEST)
	@mkdir -p $$(@D)
	$$(Q)$(CC) $(COMMON) $(flags_san) -MF $$@.d -Wl,--as-needed \
		$$< build/san/lib$(2).a $(below_$(2)) build/san/libproto.a $(libs_$(2)) -lcmocka -o $$@
endef
$(foreach d,tests/unit tests/issues,$(foreach c,$(components),$(eval $(call unit_test,$(d),$(c)))))

# fuzz_<x>.c may use any component; one named in the file's name (fuzz_vmm_<x>.c) is searched first.
fuzzers := $(patsubst tests/fuzz/%.c,build/fuzz/bin/%,$(wildcard tests/fuzz/fuzz_*.c))
fuzz_libs = $(filter $(subst _, ,$*),$(components)) flatten vmm net daemon cli guest proto

build/fuzz/bin/%: tests/fuzz/%.c $(components:%=build/fuzz/lib%.a) Makefile | $(gen_h)
	$(call say,FUZZ)
	@mkdir -p $(@D)
	$(Q)clang $(COMMON) -O1 $(sanitize) -fsanitize=fuzzer -MF $@.d -Wl,--as-needed \
		$< $(fuzz_libs:%=build/fuzz/lib%.a) $(libs_daemon) $(libs_cli) $(libs_guest) $(libs_flatten) -o $@

# Bare guests that the end-to-end tests boot in the agent's place.
guests := $(patsubst %.c,build/%,$(wildcard tests/e2e/guests/*.c))

build/tests/e2e/guests/%: tests/e2e/guests/%.c Makefile | build/static/done
	$(call say,GUEST)
	@mkdir -p $(@D)
	$(Q)musl-gcc $(COMMON) $(flags_musl) -MF $@.d -static -s $< -o $@

# What `make bench` measures with: clients that cost little (build/bench/bin), and the floor, which runs in a guest too.
bench_hosts := build/bench/bin/load build/bench/bin/rest build/bench/bin/standin build/bench/bin/least
bench := $(bench_hosts) build/bench/bin/floor

$(bench_hosts): build/bench/bin/%: tests/bench/c/%.c build/host/libproto.a Makefile | $(gen_h)
	$(call say,BENCH)
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMMON) -O2 -MF $@.d -Wl,--as-needed $< build/host/libproto.a $(libs_proto) -lpthread -o $@

# What tests/count runs under callgrind.
counts := build/count/bin/count_codec build/count/bin/count_vsock build/count/bin/tenon-init

build/count/bin/count_%: tests/count/count_%.c build/count/libvmm.a build/count/libproto.a Makefile | $(gen_h)
	$(call say,COUNT)
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMMON) $(flags_count) -MF $@.d -Wl,--as-needed $< build/count/libvmm.a build/count/libproto.a \
		$(libs_vmm) -o $@

build/count/bin/tenon-init: build/count/guest/main.o build/count/libguest.a build/count/libproto.a
	$(call say,LINK)
	@mkdir -p $(@D)
	$(Q)$(CC) $^ $(libs_guest) -o $@

build/bench/bin/floor: tests/bench/c/floor.c Makefile | build/static/done
	$(call say,BENCH)
	@mkdir -p $(@D)
	$(Q)musl-gcc $(COMMON) $(flags_musl) -MF $@.d -static -s $< -o $@

# ---- the targets people type -------------------------------------------------------------------------

# What there are sources for: while the tree is being filled, a component without main.c has no program yet.
programs := $(if $(wildcard host-shim/daemon/main.c),build/bin/tenond) \
	$(if $(wildcard host-shim/vmm/main.c),build/bin/tenon-vmm) \
	$(if $(wildcard host-shim/net/main.c),build/bin/tenon-net) \
	$(if $(wildcard host-shim/cli/main.c),build/bin/tenon) \
	$(if $(wildcard host-shim/flatten/main.c),build/bin/tenon-flatten) \
	$(if $(wildcard guest/main.c),build/guest/initramfs.cpio)

.PHONY: all run test check bench fuzz kernel fmt serve everything unit fuzz-all gen-py

everything: $(programs) build/kernel/vmlinux build/images/base.squashfs build/images/upper.ext4
unit: $(unit_bins)
fuzz-all: $(fuzzers)
gen-py: $(gen_py)

# Packages first, then a make that may count on them; on all processors, unless -j was given.
build_with = @rootfs/bootstrap.sh $(1) && $(MAKE) --no-print-directory \
	$(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc)) $(2)

all:
	$(call build_with,run,everything)

run:
	$(call build_with,run,everything)
	@tests/demo.sh

serve:
	$(call build_with,run,everything)
	@exec build/bin/tenond $(SERVE_ARGS)

check:
	$(call build_with,test,unit gen-py build/guest/tenon-init)
	@tests/run.sh check

test:
	$(call build_with,test,build/kernel/small/vmlinux everything unit gen-py $(guests) $(counts) build/bench/bin/load)
	@tests/run.sh test

# Seeds come from tests/fuzz/corpus/<x>/; what a run finds stays under build/. Last, requests against a real tenond.
fuzz:
	$(call build_with,fuzz,fuzz-all everything gen-py)
	@for bin in $(fuzzers); do \
		name=$${bin##*/fuzz_}; found=build/fuzz/found/$$name; \
		mkdir -p $$found tests/fuzz/corpus/$$name; \
		echo "fuzz: $$name for $(FUZZ_SECONDS) s"; \
		$$bin -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1 -artifact_prefix=$$found/../$$name- \
			$$found tests/fuzz/corpus/$$name 2>build/fuzz/$$name.log || { tail -n 40 build/fuzz/$$name.log; exit 1; }; \
		grep -E 'number_of_executed_units|new_units_added' build/fuzz/$$name.log; \
	done
	@tests/fuzz/rest/run.py $(FUZZ_SECONDS)

fmt:
	@rootfs/bootstrap.sh fmt
	@find proto guest host-shim tests -name '*.[ch]' -exec clang-format -i {} +

bench:
	$(call build_with,bench,build/kernel/small/vmlinux everything gen-py $(bench))
	@/usr/bin/python3 -B tests/bench/run.py $(if $(BENCH_QUICK),--quick)

kernel:
	$(call build_with,kernel,build/kernel/small/vmlinux)

-include $(shell find $(variants:%=build/%) build/tests build/bench/bin build/count/bin -type f -name '*.d' 2>/dev/null)
