# SPDX-License-Identifier: Apache-2.0
"""A cpio archive in the "newc" format, the same bytes whenever and wherever it is made.

Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
"""

import stat


class Initramfs:
    """Collects entries; parents are made as needed. Paths are absolute."""

    def __init__(self):
        self.entries = {}

    def directory(self, path, mode=0o755):
        self._add(path, stat.S_IFDIR | mode, b"", (0, 0))

    def file(self, path, body, mode=0o644):
        self._add(path, stat.S_IFREG | mode, body, (0, 0))

    def link(self, path, target):
        self._add(path, stat.S_IFLNK | 0o777, target.encode(), (0, 0))

    def character_device(self, path, major, minor, mode=0o600):
        self._add(path, stat.S_IFCHR | mode, b"", (major, minor))

    def _add(self, path, mode, body, device):
        parent = path.rpartition("/")[0]
        if parent and parent not in self.entries:
            self.directory(parent)
        self.entries[path] = (mode, body, device)

    def archive(self):
        out = bytearray()
        for inode, path in enumerate(sorted(self.entries), 1):
            mode, body, device = self.entries[path]
            _record(out, inode, path[1:], mode, body, device)
        _record(out, 0, "TRAILER!!!", 0, b"", (0, 0))
        return bytes(out + bytes(-len(out) % 512))

    def listing(self):
        """One line an entry: mode, size, path."""
        for path in sorted(self.entries):
            mode, body, _ = self.entries[path]
            arrow = " -> " + body.decode() if stat.S_ISLNK(mode) else ""
            yield f"{stat.filemode(mode)} {len(body):>8} {path}{arrow}"


def _record(out, inode, name, mode, body, device):
    links = 2 if stat.S_ISDIR(mode) else 1
    uid = gid = mtime = check = 0
    fields = (inode, mode, uid, gid, links, mtime, len(body), 0, 0, *device, len(name) + 1, check)
    out += b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
    out += bytes(-len(out) % 4)
    out += body
    out += bytes(-len(out) % 4)
