/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sk_lookup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"

/* Keys of the map that the program finds the sockets in. */
enum { FOUR, SIX, N_SOCKETS };

static int bpf(enum bpf_cmd cmd, union bpf_attr *attr)
{
	int r = (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));

	return r < 0 ? -errno : r;
}

/* An old kernel, one that was built without, or one that is told to let nobody. */
static int failed(struct err *err, int r, const char *what)
{
	static const int cannot[] = { ENOSYS, EINVAL, EPERM, E2BIG, EOPNOTSUPP };

	for (size_t i = 0; i < ARRAY_SIZE(cannot); i++)
		if (r == -cannot[i])
			return err_set(err, -ERR_UNIMPLEMENTED, "%s: %s", what, strerror(-r));
	return err_sys(err, r, "%s", what);
}

/* ---- the program ---- */

#define INSN(...) ((struct bpf_insn){ __VA_ARGS__ })
#define MOVE(to, from) INSN(.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = (to), .src_reg = (from))
#define SET(to, value) INSN(.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (to), .imm = (value))
#define ADD(to, value) INSN(.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = (to), .imm = (value))
#define MASK(to, value) INSN(.code = BPF_ALU64 | BPF_AND | BPF_K, .dst_reg = (to), .imm = (value))
#define SKIP(n) INSN(.code = BPF_JMP | BPF_JA, .off = (n))
#define SKIP_IF(reg, value, n) \
	INSN(.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = (reg), .imm = (value), .off = (n))
#define SKIP_UNLESS(reg, value, n) \
	INSN(.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = (reg), .imm = (value), .off = (n))
#define CALL(fn) INSN(.code = BPF_JMP | BPF_CALL, .imm = (fn))
#define EXIT INSN(.code = BPF_JMP | BPF_EXIT)
/* A 32-bit number of the connection that is looked up; register 6 points to it all the time. */
#define LOAD(to, member) \
	INSN(.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = (to), .src_reg = BPF_REG_6, \
	     .off = offsetof(struct bpf_sk_lookup, member))
/* The key is on the stack. */
#define KEY_AT (-4)
#define SET_KEY(value) \
	INSN(.code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = BPF_REG_10, .off = KEY_AT, .imm = (value))
/* Two instructions for one number of 64 bits, which the kernel makes of the map's fd. */
#define MAP(to, fd) \
	INSN(.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = (to), .src_reg = BPF_PSEUDO_MAP_FD, \
	     .imm = (fd)), \
		INSN(0)
/* A jump to the end of the program, before anything is chosen. */
#define TO_PASS INT16_MAX

/* Return: the number of instructions */
static size_t write_program(int map, struct bpf_insn *to, size_t max)
{
	const struct bpf_insn program[] = {
		MOVE(BPF_REG_6, BPF_REG_1),
		LOAD(BPF_REG_2, protocol),
		SKIP_UNLESS(BPF_REG_2, IPPROTO_TCP, TO_PASS),
		LOAD(BPF_REG_2, family),
		SKIP_IF(BPF_REG_2, AF_INET6, 6),
		SKIP_UNLESS(BPF_REG_2, AF_INET, TO_PASS),
		/* 127.0.0.0/8: the first byte, which is the lowest one here. */
		LOAD(BPF_REG_2, local_ip4),
		MASK(BPF_REG_2, 0xff),
		SKIP_UNLESS(BPF_REG_2, 127, TO_PASS),
		SET_KEY(FOUR),
		SKIP(9),
		/* ::1 */
		LOAD(BPF_REG_2, local_ip6[0]),
		SKIP_UNLESS(BPF_REG_2, 0, TO_PASS),
		LOAD(BPF_REG_2, local_ip6[1]),
		SKIP_UNLESS(BPF_REG_2, 0, TO_PASS),
		LOAD(BPF_REG_2, local_ip6[2]),
		SKIP_UNLESS(BPF_REG_2, 0, TO_PASS),
		LOAD(BPF_REG_2, local_ip6[3]),
		SKIP_UNLESS(BPF_REG_2, (int32_t)htonl(1), TO_PASS),
		SET_KEY(SIX),
		/* Whose is it? A socket that is found is held until it is let go. */
		MAP(BPF_REG_1, map),
		MOVE(BPF_REG_2, BPF_REG_10),
		ADD(BPF_REG_2, KEY_AT),
		CALL(BPF_FUNC_map_lookup_elem),
		SKIP_IF(BPF_REG_0, 0, TO_PASS),
		MOVE(BPF_REG_7, BPF_REG_0),
		MOVE(BPF_REG_1, BPF_REG_6),
		MOVE(BPF_REG_2, BPF_REG_7),
		SET(BPF_REG_3, 0),
		CALL(BPF_FUNC_sk_assign),
		MOVE(BPF_REG_1, BPF_REG_7),
		CALL(BPF_FUNC_sk_release),
		/* What was chosen, or whoever listens. */
		SET(BPF_REG_0, SK_PASS),
		EXIT,
	};
	const size_t n = ARRAY_SIZE(program), pass = n - 2;

	for (size_t i = 0; i < n && i < max; i++) {
		to[i] = program[i];
		if (to[i].off == TO_PASS)
			to[i].off = (int16_t)(pass - i - 1);
	}
	return n;
}

static int load(int map, struct err *err)
{
	struct bpf_insn program[64];
	/* The helpers that it calls do not ask for a licence. */
	static const char license[] = "Apache-2.0";
	union bpf_attr attr = { 0 };
	int r;

	attr.prog_type = BPF_PROG_TYPE_SK_LOOKUP;
	attr.expected_attach_type = BPF_SK_LOOKUP;
	attr.insns = (uintptr_t)program;
	attr.insn_cnt = (uint32_t)write_program(map, program, ARRAY_SIZE(program));
	attr.license = (uintptr_t)license;
	strcpy(attr.prog_name, "lcow_loopback");
	r = bpf(BPF_PROG_LOAD, &attr);
	return r < 0 ? failed(err, r, "load a socket lookup program") : r;
}

/* ---- sockets for it ---- */

static int put(int map, uint32_t key, int fd, struct err *err)
{
	uint32_t value = (uint32_t)fd;
	union bpf_attr attr = { 0 };
	int r;

	attr.map_fd = (uint32_t)map;
	attr.key = (uintptr_t)&key;
	attr.value = (uintptr_t)&value;
	r = bpf(BPF_MAP_UPDATE_ELEM, &attr);
	return r < 0 ? failed(err, r, "put a listener into a socket map") : 0;
}

/* Return: fd of a map that holds no socket for longer than it is open */
static int make_map(int four, int six, struct err *err)
{
	_cleanup_fd_ int map = -EBADF;
	union bpf_attr attr = { 0 };
	int r;

	attr.map_type = BPF_MAP_TYPE_SOCKMAP;
	attr.key_size = attr.value_size = sizeof(uint32_t);
	attr.max_entries = N_SOCKETS;
	strcpy(attr.map_name, "lcow_loopback");
	r = bpf(BPF_MAP_CREATE, &attr);
	if (r < 0)
		return failed(err, r, "make a socket map");
	map = r;
	r = put(map, FOUR, four, err);
	if (r >= 0 && six >= 0)
		r = put(map, SIX, six, err);
	return r < 0 ? r : TAKE_FD(map);
}

int sk_lookup_attach(int netns, int four, int six, struct err *err)
{
	_cleanup_fd_ int map = make_map(four, six, err);
	_cleanup_fd_ int program = map < 0 ? map : load(map, err);
	union bpf_attr attr = { 0 };
	int r;

	if (program < 0)
		return program;
	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.target_fd = (uint32_t)netns;
	attr.link_create.attach_type = BPF_SK_LOOKUP;
	r = bpf(BPF_LINK_CREATE, &attr);
	return r < 0 ? failed(err, r, "attach a socket lookup program") : r;
}
