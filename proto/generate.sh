#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# generate.sh PROTOC_C PROTO_PATH OUT_DIR FILE.proto: make FILE.pb-c.[ch]
set -eu
"$1" --proto_path="$2" --c_out="$3" "$4"
# Its initialisers cast a const away, in the face of everyone who uses them with -Wcast-qual.
sed -i 's/(char \*)protobuf_c_empty_string/(char *)(uintptr_t)protobuf_c_empty_string/g' "$3/${4%.proto}.pb-c.h"
