# SPDX-License-Identifier: Apache-2.0
"""Integration tests: a real containerd, a real shim, a real guest, all inside namespaces of their own."""
