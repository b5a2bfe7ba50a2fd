# SPDX-License-Identifier: Apache-2.0
"""The kernel's two parts: an ELF file to boot, and modules with all that they need."""

import lzma
import os
import re
import struct
import subprocess
import zlib

from elf import Elf, without_section


def decompress(data):
    """Undo whichever compression the first bytes tell of."""
    if data[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor().decompress(data)
    if data[:2] == b"\x1f\x8b":
        return zlib.decompressobj(31).decompress(data)
    for magic, tool in ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\x02\x21\x4c\x18", "lz4")):
        if data[:4] == magic:
            return subprocess.run([tool, "-dcq"], input=data, stdout=subprocess.PIPE,
                                  check=True).stdout
    return data


def vmlinux(bzimage):
    """The ELF kernel within a bzImage; its header: Documentation/arch/x86/boot.rst."""
    if bzimage[0x202:0x206] != b"HdrS":
        raise SystemExit("the kernel image is no bzImage")
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = bzimage[start : start + length]
    # The kernel's build appends the unpacked size; gzip ends in it anyway.
    size = struct.unpack("<I", payload[-4:])[0]
    elf = decompress(payload if payload[:2] == b"\x1f\x8b" else payload[:-4])
    if len(elf) != size:
        raise SystemExit(f"the kernel unpacks to {len(elf)} bytes where its image says {size}")
    return elf


class Modules:
    """The modules of one kernel by name, with dependencies from their .modinfo sections."""

    def __init__(self, directory):
        self.directory = directory
        self.paths, self.bodies = {}, {}
        for folder, folders, files in os.walk(directory):
            folders.sort()
            for file in sorted(files):
                if match := re.fullmatch(r"(.+)\.ko(\.xz|\.zst|\.gz)?", file):
                    path = os.path.relpath(os.path.join(folder, file), directory)
                    self.paths[_name(match[1])] = path
        with open(os.path.join(directory, "modules.builtin"), encoding="ascii") as file:
            self.builtin = {_name(os.path.basename(line.strip())[: -len(".ko")]) for line in file}

    def body(self, name):
        """The module as it is loaded: neither compressed nor signed, and without types for BPF.

        The signature goes because checking it takes an emulated CPU as long as all else about
        loading a module, and protects nothing here: the host vouches for the whole initramfs. The
        types (BTF) are for tracers, of which the guest has none.
        """
        if name not in self.bodies:
            with open(os.path.join(self.directory, self.paths[name]), "rb") as file:
                self.bodies[name] = without_section(_unsigned(decompress(file.read())), ".BTF")
        return self.bodies[name]

    def file(self, name):
        """The path of the module in the initramfs, below /lib/modules/VERSION."""
        return re.sub(r"\.ko\..*", ".ko", self.paths[name])

    def requires(self, name):
        """What must be loaded before a module, in order: deepest dependencies first."""
        order = []
        for dependency in self._direct(name):
            for each in [*self.requires(dependency), dependency]:
                if each not in order:
                    order.append(each)
        return order

    def aliases(self, name):
        """Patterns of the PCI devices that a module drives."""
        return [value for key, value in self._info(name) if key == "alias" and value.startswith("pci:")]

    def closure(self, names):
        """These modules, less those built into the kernel, and all that they require; sorted."""
        unknown = [n for n in names if n not in self.paths and n not in self.builtin]
        if unknown:
            raise SystemExit(f"this kernel has no module {' '.join(unknown)}")
        loadable = [n for n in names if n in self.paths]
        return sorted({each for n in loadable for each in [*self.requires(n), n]})

    def _info(self, name):
        items = Elf(self.body(name)).section(".modinfo").decode().split("\0")
        return [item.partition("=")[::2] for item in items]

    def _direct(self, name):
        fields = self._info(name)
        hard = [n for key, value in fields if key == "depends" for n in value.split(",") if n]
        # Nothing in the guest answers the kernel's request for a module, so what would be requested
        # is loaded before: a "pre" softdep that names a checksum means its portable implementation.
        soft = [n for key, value in fields if key == "softdep" and value.startswith("pre:")
                for n in value[len("pre:") :].split("post:")[0].split()]
        hard = [_name(n) for n in hard]
        soft = [n if n in self.paths else n + "_generic" for n in map(_name, soft)]
        return [n for n in [*soft, *hard] if n in self.paths]


def _name(text):
    return text.replace("-", "_")


def _unsigned(body):
    """Cut off an appended signature; its layout: include/linux/module_signature.h of the kernel."""
    magic = b"~Module signature appended~\n"
    if not body.endswith(magic):
        return body
    end = len(body) - len(magic) - 12
    (size,) = struct.unpack_from(">I", body, end + 8)
    return body[: end - size]
