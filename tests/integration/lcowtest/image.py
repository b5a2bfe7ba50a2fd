# SPDX-License-Identifier: Apache-2.0
"""A busybox image made here, as an OCI layout tar and as plain trees and disk images; the same bytes every time."""
import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
import tempfile

from . import settings

NAME = 'docker.io/library/busybox:latest'
BUSYBOX = os.path.join(settings.TOOLS, 'busybox')
ENV = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin']
_DIRS = ['bin', 'dev', 'etc', 'proc', 'root', 'run', 'sys', 'tmp', 'usr', 'usr/bin', 'var']
_FILES = {
    'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
    'etc/group': 'root:x:0:\nnogroup:x:65534:\n',
    'etc/layer': 'lower\n',
}


def _applets():
    out = subprocess.run([BUSYBOX, '--list'], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    return sorted(set(out.split()) - {'busybox'})


def _root_tar():
    """The root tree as an uncompressed tar."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode='w', format=tarfile.PAX_FORMAT) as tar:
        def add(name, kind, mode, data=b'', link=''):
            t = tarfile.TarInfo(name)
            t.type, t.mode, t.size, t.linkname, t.mtime = kind, mode, len(data), link, 0
            tar.addfile(t, io.BytesIO(data))
        for d in _DIRS:
            add(d, tarfile.DIRTYPE, 0o1777 if d == 'tmp' else 0o755)
        for name, text in sorted(_FILES.items()):
            add(name, tarfile.REGTYPE, 0o644, text.encode())
        with open(BUSYBOX, 'rb') as f:
            add('bin/busybox', tarfile.REGTYPE, 0o755, f.read())
        for applet in _applets():
            add('bin/' + applet, tarfile.SYMTYPE, 0o777, link='busybox')
    return raw.getvalue()


def oci_tar(path, name=NAME, command=('sh',)):
    """Write an OCI layout tar for "ctr image import" (containerd.md 19.5)."""
    plain = _root_tar()
    layer = gzip.compress(plain, compresslevel=1, mtime=0)
    blobs = {}

    def blob(data, media):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {'mediaType': 'application/vnd.oci.image.' + media, 'digest': 'sha256:' + digest, 'size': len(data)}

    def as_json(obj):
        return json.dumps(obj, sort_keys=True).encode()

    config = blob(as_json({
        'architecture': 'amd64', 'os': 'linux', 'config': {'Env': ENV, 'Cmd': list(command), 'WorkingDir': '/'}, 'history': [],
        'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + hashlib.sha256(plain).hexdigest()]}}), 'config.v1+json')
    manifest = blob(as_json({
        'schemaVersion': 2, 'mediaType': 'application/vnd.oci.image.manifest.v1+json', 'config': config,
        'layers': [blob(layer, 'layer.v1.tar+gzip')]}), 'manifest.v1+json')
    manifest['platform'] = {'architecture': 'amd64', 'os': 'linux'}
    manifest['annotations'] = {'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': name.rsplit(':', 1)[1]}
    files = {'oci-layout': as_json({'imageLayoutVersion': '1.0.0'}),
             'index.json': as_json({'schemaVersion': 2, 'manifests': [manifest]})}
    files.update({'blobs/sha256/' + digest: data for digest, data in blobs.items()})
    with tarfile.open(path, 'w', format=tarfile.PAX_FORMAT) as tar:
        for name_, data in sorted(files.items()):
            t = tarfile.TarInfo(name_)
            t.size, t.mode, t.mtime = len(data), 0o644, 0
            tar.addfile(t, io.BytesIO(data))
    return path


def tree(path):
    """The root tree as a directory."""
    os.makedirs(path)
    with tarfile.open(fileobj=io.BytesIO(_root_tar())) as tar:
        tar.extractall(path)
    return path


def ext4(path, root=None, megabytes=64, *options):
    """An image of a tree, or an empty one."""
    with open(path, 'wb') as f:
        f.truncate(megabytes << 20)
    subprocess.run(['mkfs.ext4', '-q', '-F', *options, *(('-d', root) if root else ()), path], check=True, stdin=subprocess.DEVNULL)
    return path


def erofs(path, root, *options):
    subprocess.run(['mkfs.erofs', '--quiet', *options, path, root], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return path


def erofs_of(path, files):
    """An erofs image of a few files: name -> text, or None for a whiteout."""
    with tempfile.TemporaryDirectory() as top:
        for name, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(top, name)), exist_ok=True)
            if text is None:
                os.mknod(os.path.join(top, name), stat.S_IFCHR, 0)
            else:
                with open(os.path.join(top, name), 'w') as f:
                    f.write(text)
        return erofs(path, top)


def cpio(files, devices=()):
    """A newc archive (Linux Documentation/driver-api/early-userspace/buffer-format.rst).

    files: name -> (mode, data), in this order; devices: (name, mode, major, minor)
    """
    out = b''
    entries = [(name, mode, data, 0, 0) for name, (mode, data) in files.items()]
    entries += [(name, mode, b'', major, minor) for name, mode, major, minor in devices]
    for number, (name, mode, data, major, minor) in enumerate([*entries, ('TRAILER!!!', 0, b'', 0, 0)], 1):
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name) + 1, 0]
        out += b'070701' + b''.join(b'%08X' % f for f in fields) + name.encode() + b'\0'
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return out
