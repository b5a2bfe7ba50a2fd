# SPDX-License-Identifier: Apache-2.0
# Thin: meson builds, scripts do the rest. "make" tells what there is.

BUILD := build
PREFIX := /usr
SYSCONFDIR := $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
UVM := $(BUILD)/uvm
# Tests are built where their library is.
TESTS := $(if $(shell pkg-config --exists check 2>/dev/null && echo yes),enabled,auto)
CONFIGURE = packaging/configure $(BUILD) '-Dprefix=$(PREFIX)' '-Dsysconfdir=$(SYSCONFDIR)' -Dtests=$(TESTS)

.PHONY: help deps deps-check build uvm demo check check-debian12 check-debian13 check-other bench soak install uninstall format clean

help:
	@echo 'make deps      install the Debian packages that the demo needs, "make deps-check" those of the tests too (root)'
	@echo 'make build     build shim and guest agent in $(BUILD)/'
	@echo 'make uvm       make the boot files of the VM in $(UVM)/'
	@echo 'make demo      all of the above, then a container in a VM under a containerd of its own (root)'
	@echo 'make check     all of the above, then every test; the last line tells how it went (root)'
	@echo 'make check-debian12, make check-debian13'
	@echo '                all of check in a fresh root of that Debian, from what is committed (root)'
	@echo 'make check-other'
	@echo '                a short check in a root of the Debian that this machine is not (root)'
	@echo 'make bench     build, then measure; PART="starts disks" only these (root)'
	@echo 'make soak      2,000 execs and 200 containers in one VM: nothing may grow (root)'
	@echo 'make install   install to $(PREFIX) and $(SYSCONFDIR)/lcow, "make uninstall" removes it (root)'
	@echo 'make format    let clang-format have its way'
	@echo 'make clean     remove what was built'

deps:
	packaging/install-deps demo

deps-check:
	packaging/install-deps demo check

build:
	$(CONFIGURE)
	ninja -C $(BUILD)

uvm: build
	uvm/build --agent $(BUILD)/src/gcs/lcow-gcs --out $(UVM)

demo: deps
	$(MAKE) uvm
	tests/integration/demo

check: deps-check
	tests/check

check-debian12 check-debian13: check-debian%:
	tests/roots/run --debian $* make check

check-other:
	tests/roots/other

bench: deps-check
	$(MAKE) uvm
	tests/bench/bench $(PART)

soak: deps-check
	$(MAKE) uvm
	tests/bench/soak

install: uvm
	packaging/install $(BUILD) $(UVM) '$(DESTDIR)'

uninstall:
	packaging/install --remove '$(PREFIX)' '$(DESTDIR)'

format:
	tests/style/layering --format

clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-clang
