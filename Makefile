# SPDX-License-Identifier: Apache-2.0
# Thin: meson builds, scripts do the rest. "make" tells what there is.

BUILD := build
PREFIX := /usr
MESON := meson setup --prefix $(PREFIX) --sysconfdir /etc
DEPS := $(shell sed 's/\#.*//' packaging/deps)
UVM := $(BUILD)/uvm

.PHONY: help deps build uvm demo check bench soak install format clean

help:
	@echo 'make deps      install the Debian packages of packaging/deps (root)'
	@echo 'make build     build shim and guest agent in $(BUILD)/'
	@echo 'make uvm       make the boot files of the VM in $(UVM)/'
	@echo 'make demo      all of the above, then a container in a VM under a containerd of its own (root)'
	@echo 'make check     all of the above, then every test; the last line tells how it went (root)'
	@echo 'make bench     all of the above, then measure (root)'
	@echo 'make soak      2,000 execs and 200 containers in one VM: nothing may grow (root)'
	@echo 'make install   install to $(PREFIX) and /etc/lcow (root)'
	@echo 'make format    let clang-format have its way'
	@echo 'make clean     remove what was built'

# apt is asked only when something is missing, and updated only then.
deps:
	@missing=; for p in $(DEPS); do \
		dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || missing="$$missing $$p"; \
	done; \
	lists=$$(ls /var/lib/apt/lists 2>/dev/null | grep -c _Packages); \
	if [ -n "$$missing" ] || [ "$$lists" -eq 0 ]; then apt-get update -q; fi && \
	if [ -n "$$missing" ]; then \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	fi

$(BUILD)/build.ninja:
	$(MESON) $(BUILD)

build: $(BUILD)/build.ninja
	ninja -C $(BUILD)

uvm: build
	uvm/build --agent $(BUILD)/src/gcs/lcow-gcs --out $(UVM)

demo: deps
	$(MAKE) uvm
	tests/integration/demo

check: deps
	tests/check

bench: deps
	$(MAKE) uvm
	tests/bench/bench

soak: deps
	$(MAKE) uvm
	tests/bench/soak

install: uvm
	$(MESON) --reconfigure $(BUILD)
	meson install -C $(BUILD)
	install -d $(DESTDIR)$(PREFIX)/lib/lcow/uvm $(DESTDIR)/etc/lcow
	install -m 644 $(UVM)/* $(DESTDIR)$(PREFIX)/lib/lcow/uvm/
	test -e $(DESTDIR)/etc/lcow/lcow.conf || install -m 644 packaging/lcow.conf $(DESTDIR)/etc/lcow/lcow.conf

format:
	find src tests -name '*.[ch]' -exec clang-format -i {} +

clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-clang
