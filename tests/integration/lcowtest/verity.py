# SPDX-License-Identifier: Apache-2.0
"""dm-verity hash trees behind images, as veritysetup, hcsshim and containerd write them."""
import hashlib
import json
import os
import struct

BLOCK = 4096


def superblock(data_blocks, salt, algorithm=b'sha256'):
    return struct.pack('<8sII16s32sIIQH6x256s168x', b'verity', 1, 1, b'lcow-verity-test', algorithm, BLOCK, BLOCK, data_blocks, len(salt), salt)


def _level(blocks, salt):
    """The blocks that hold the digests of these."""
    digests = b''.join(hashlib.sha256(salt + b).digest() for b in blocks)
    digests += bytes(-len(digests) % BLOCK)
    return [digests[i:i + BLOCK] for i in range(0, len(digests), BLOCK)]


def append(path, salt=bytes(32)):
    """Add superblock and tree to an image: (root digest in hex, offset of the superblock)"""
    with open(path, 'r+b') as f:
        data = f.read()
        data += bytes(-len(data) % BLOCK)
        levels = [[data[i:i + BLOCK] for i in range(0, len(data), BLOCK)]]
        while len(levels[-1]) > 1:
            levels.append(_level(levels[-1], salt))
        f.seek(len(data))
        f.write(superblock(len(levels[0]), salt).ljust(BLOCK, b'\0'))
        for level in reversed(levels[1:]):    # the top first
            f.write(b''.join(level))
    return hashlib.sha256(salt + levels[-1][0]).hexdigest(), len(data)


def metadata(image, root, offset):
    """What containerd's differ writes beside a layer: its path."""
    path = image + '.dmverity'
    with open(path, 'w') as f:
        json.dump({'roothash': root, 'hashoffset': offset}, f)
    return path


def flip(path, at):
    """Change a byte."""
    with open(path, 'r+b') as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 0x01]))


def find(path, needle):
    """Where these bytes are in a file, -1 for nowhere; holes are skipped."""
    with open(path, 'rb') as f:
        end, at = f.seek(0, os.SEEK_END), 0
        while at < end:
            try:
                at = f.seek(at, os.SEEK_DATA)
            except OSError:
                break
            hole = f.seek(at, os.SEEK_HOLE)
            f.seek(at)
            found = f.read(hole - at).find(needle)
            if found >= 0:
                return at + found
            at = hole
    return -1
