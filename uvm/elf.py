# SPDX-License-Identifier: Apache-2.0
"""The little of ELF64 that the boot files need.

What is read: the libraries a program asks for, one named section, and the loadable segments.
Format: System V ABI, "Object Files" and "Dynamic Linking"; little endian, 64 bit only.
"""

import struct

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
DT_NULL, DT_NEEDED, DT_STRTAB, DT_SYMTAB = 0, 1, 5, 6
DT_VERSYM, DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFF0, 0x6FFFFFFE, 0x6FFFFFFF
SHT_NOBITS, SHT_DYNSYM = 8, 11
STB_WEAK, VER_NDX_GLOBAL = 2, 1

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
SHDR = struct.Struct("<IIQQQQIIQQ")
DYN = struct.Struct("<QQ")
SYM = struct.Struct("<IBBHQQ")
VERNEED = struct.Struct("<HHIII")
VERNAUX = struct.Struct("<IHHII")


class Elf:
    def __init__(self, data):
        if data[:6] != b"\x7fELF\x02\x01" or len(data) < EHDR.size:
            raise ValueError("not a little endian ELF64 file")
        self.data = data
        self.header = EHDR.unpack_from(data)
        phoff, shoff = self.header[5], self.header[6]
        phnum, shnum = self.header[10], self.header[12]
        if max(phoff + phnum * PHDR.size, shoff + shnum * SHDR.size) > len(data):
            raise ValueError("an ELF64 file that is cut off")
        self.segments = [PHDR.unpack_from(data, phoff + i * PHDR.size) for i in range(phnum)]
        self.sections = [SHDR.unpack_from(data, shoff + i * SHDR.size) for i in range(shnum)]

    def segment(self, kind):
        """The bytes of the first segment of this type, or none."""
        for p_type, _, offset, _, _, filesz, _, _ in self.segments:
            if p_type == kind:
                return self.data[offset : offset + filesz]
        return b""

    def section(self, name):
        """The bytes of the section of this name, or none."""
        names = self.sections[self.header[13]][4]
        for section in self.sections:
            if _string(self.data, names + section[0]) == name:
                return self.data[section[4] : section[4] + section[5]]
        return b""

    def interpreter(self):
        return self.segment(PT_INTERP).rstrip(b"\0").decode()

    def needed(self):
        """The libraries (sonames) that the dynamic linker will look for."""
        strings = [self.offset(value) for tag, value in self.dynamic() if tag == DT_STRTAB]
        offsets = [strings[0] + value for tag, value in self.dynamic() if tag == DT_NEEDED]
        return [_string(self.data, offset) for offset in offsets]

    def dynamic(self):
        """What the dynamic linker is told: pairs of tag and value."""
        return list(DYN.iter_unpack(self.segment(PT_DYNAMIC)))

    def offset(self, address):
        for p_type, _, offset, vaddr, _, filesz, _, _ in self.segments:
            if p_type == PT_LOAD and vaddr <= address < vaddr + filesz:
                return offset + address - vaddr
        raise ValueError(f"address {address:#x} is in no segment")


def _string(data, offset):
    return data[offset : data.index(b"\0", offset)].decode()


def stripped(data):
    """A program without what is not loaded: sections, symbols, what debuggers read."""
    elf = Elf(data)
    end = max(offset + filesz for _, _, offset, _, _, filesz, _, _ in elf.segments)
    fields = list(elf.header)
    fields[6] = fields[12] = fields[13] = 0
    return EHDR.pack(*fields) + data[EHDR.size : end]


def without_library(data, name):
    """A program that does not ask for a library of which it calls nothing in our use.

    The functions become weak, so that the dynamic linker takes it that they are missing; calling
    one would be a call of address 0. Their versions go, as those are looked for in the library.
    """
    elf, out = Elf(data), bytearray(data)
    tags = dict(elf.dynamic())
    strings = elf.offset(tags[DT_STRTAB])
    dynamic = [(tag, value) for tag, value in elf.dynamic()
               if tag != DT_NEEDED or _string(data, strings + value) != name]
    versions, at = set(), elf.offset(tags[DT_VERNEED])
    kept = []
    for _ in range(tags[DT_VERNEEDNUM]):
        _, count, file, aux, step = VERNEED.unpack_from(data, at)
        if _string(data, strings + file) != name:
            kept.append(at)
        else:
            place = at + aux
            for _ in range(count):
                _, _, index, _, following = VERNAUX.unpack_from(data, place)
                versions.add(index)
                place += following
        at += step
    for here, following in zip(kept, [*kept[1:], None]):
        struct.pack_into("<I", out, here + 12, following - here if following else 0)
    first = tags[DT_VERNEED] + kept[0] - elf.offset(tags[DT_VERNEED])
    changed = {DT_VERNEED: first, DT_VERNEEDNUM: len(kept)}
    dynamic = [(tag, changed.get(tag, value)) for tag, value in dynamic]
    dynamic += [(DT_NULL, 0)] * (len(elf.dynamic()) - len(dynamic))
    (start,) = [offset for kind, _, offset, *_ in elf.segments if kind == PT_DYNAMIC]
    for i, pair in enumerate(dynamic):
        DYN.pack_into(out, start + i * DYN.size, *pair)
    (symbols,) = [section[5] // SYM.size for section in elf.sections if section[1] == SHT_DYNSYM]
    for i in range(symbols):
        version, symbol = elf.offset(tags[DT_VERSYM]) + 2 * i, elf.offset(tags[DT_SYMTAB]) + i * SYM.size
        if struct.unpack_from("<H", data, version)[0] & 0x7FFF in versions:
            struct.pack_into("<H", out, version, VER_NDX_GLOBAL)
            out[symbol + 4] = STB_WEAK << 4 | out[symbol + 4] & 15
    return bytes(out)


def without_section(data, name):
    """An object file without the bytes of one section, to which nothing else refers.

    Its header stays, as that of no section, so that all others keep their numbers.
    """
    elf = Elf(data)
    names = elf.sections[elf.header[13]][4]
    out, headers = bytearray(data[: EHDR.size]), []
    for header in sorted(enumerate(elf.sections), key=lambda item: item[1][4]):
        i, (title, kind, flags, address, offset, size, link, info, align, entry) = header
        if _string(data, names + title) == name:
            kind = flags = size = 0
        out += bytes(-len(out) % max(align, 1))
        headers.append((i, (title, kind, flags, address, len(out) if kind else 0, size, link, info,
                            align, entry)))
        if kind != SHT_NOBITS:
            out += data[offset : offset + size]
    out += bytes(-len(out) % 8)
    fields = list(elf.header)
    fields[6] = len(out)
    EHDR.pack_into(out, 0, *fields)
    for _, header in sorted(headers):
        out += SHDR.pack(*header)
    return bytes(out)


def loadable_only(data):
    """A kernel reduced to what a boot loader loads: its segments, without sections or else.

    A VMM maps the whole file for as long as the VM lives, so what is never loaded is left out. The
    notes stay: one of them is the PVH entry point. They lie within a loadable segment.
    """
    elf = Elf(data)
    loads = [p for p in elf.segments if p[0] == PT_LOAD]
    notes = [p for p in elf.segments if p[0] == PT_NOTE]
    end = EHDR.size + (len(loads) + len(notes)) * PHDR.size
    out, headers, moved = bytearray(end), [], []
    for p_type, flags, offset, vaddr, paddr, filesz, memsz, align in loads:
        out += bytes(-len(out) % 4096)
        # Zeros at the end (the kernel's bss, kept in the file by its build) need no room in a file.
        body = data[offset : offset + filesz].rstrip(b"\0")
        moved.append((offset, len(body), len(out)))
        headers.append((p_type, flags, len(out), vaddr, paddr, len(body), memsz, 4096))
        out += body
    for p_type, flags, offset, vaddr, paddr, filesz, memsz, align in notes:
        home = [new + offset - old for old, size, new in moved if old <= offset < old + size]
        if not home:
            raise ValueError("the kernel's notes lie outside of what is loaded")
        headers.append((p_type, flags, home[0], vaddr, paddr, filesz, memsz, align))
    ident, e_type, machine, version, entry = elf.header[:5]
    EHDR.pack_into(out, 0, ident, e_type, machine, version, entry, EHDR.size, 0, elf.header[7],
                   EHDR.size, PHDR.size, len(headers), SHDR.size, 0, 0)
    for i, header in enumerate(headers):
        PHDR.pack_into(out, EHDR.size + i * PHDR.size, *header)
    return bytes(out)
