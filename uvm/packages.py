# SPDX-License-Identifier: Apache-2.0
"""Debian packages: chosen as apt would, fetched into a cache, unpacked without installing."""

import hashlib
import os
import re
import shlex
import subprocess


def show(names):
    """Records of candidate versions: {package: {field: text}}; names unknown to apt are absent."""
    run = subprocess.run(["apt-cache", "show", "--no-all-versions", *names], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True, check=False)
    records = {}
    for paragraph in run.stdout.split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+): ?(.*)$", paragraph, re.M))
        if "Package" in fields:
            records[fields["Package"]] = fields
    return records


def depends(record):
    """Names a package depends on; of alternatives the first, as apt would choose."""
    text = ", ".join(filter(None, (record.get("Pre-Depends"), record.get("Depends"))))
    return [re.match(r"[^\s:(|]+", item).group() for item in text.split(", ") if item]


def closure(names):
    """Records of these packages and of all they depend on."""
    records, wanted = {}, set(names)
    while wanted:
        records.update(show(sorted(wanted)))
        missing = [n for n in names if n not in records]
        if missing:
            raise SystemExit(f"apt knows no package {' '.join(missing)}: is apt-get update needed?")
        seen = wanted | set(records)
        wanted = {d for n in wanted if n in records for d in depends(records[n])} - seen
    return records


def kernel(meta):
    """Names of the real packages behind a kernel's meta package: image, modules if split off."""
    image = meta
    while not re.match(r"linux-image-\d", image):
        records = show([image])
        images = [d for d in depends(records.get(image, {})) if d.startswith("linux-image-")]
        image = images[0] if images else None
        if image is None:
            raise SystemExit(f"{meta} leads to no kernel image: is apt-get update needed?")
    parts = depends(show([image]).get(image, {}))
    return [image] + [p for p in parts if re.match(r"linux-(modules|binary)-\d", p)]


def _apt(*words, **options):
    """Run apt-get, which tells its reasons itself; its output."""
    # The cache need not be readable for apt's own user.
    command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *words]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, **options)
    if run.returncode:
        raise SystemExit("apt-get could not fetch packages: is apt-get update needed, or a network?")
    return run.stdout


def fetch(names, cache):
    """Have the packages in the cache, as in apt's index; returns paths in order of name."""
    os.makedirs(cache, exist_ok=True)
    # In a directory without packages, as apt does not list what lies in the current one.
    listing = _apt("download", "--print-uris", *names, cwd="/")
    files = {}
    for line in listing.splitlines():
        _, file, _, digest = (shlex.split(line) + [""])[:4]
        files[file.split("_")[0]] = (os.path.join(cache, file), digest)
    absent = sorted(name for name, (path, digest) in files.items() if not _intact(path, digest))
    if absent:
        _apt("download", *absent, cwd=cache)
    for name in names:
        if name not in files or not _intact(*files[name]):
            raise SystemExit(f"{name}: could not be fetched, or differs from apt's index")
    return [files[name][0] for name in sorted(names)]


def _intact(path, digest):
    if not os.path.isfile(path):
        return False
    algorithm, _, value = digest.partition(":")
    with open(path, "rb") as file:
        return hashlib.new(algorithm.lower().replace("sum", ""), file.read()).hexdigest() == value


def unpack(paths, root):
    for path in paths:
        subprocess.run(["dpkg-deb", "--extract", path, root], check=True)
