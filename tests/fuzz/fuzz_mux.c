/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever bytes the other end of the channel sends and whatever the users of the streams do
 * meanwhile: what goes out keeps to the protocol, and nothing is left behind. The input is a row
 * of steps, each begun by a byte: what is done, and how much follows that is fed to the
 * multiplexer.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/time.h"
#include "loop/loop.h"
#include "wire/mux_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* what an input answers our HELLO with, if it does */
enum { NONCE = 0x4c434f57, USERS = 8, PORT = 1 };

static struct {
	int channel[2];
	struct mux *m;
	int users[USERS];
	unsigned n_users;
	bool dialling;
	bool free_when_broken;
	uint8_t out[MUX_HEADER + MUX_DATA_MAX];
	size_t out_len;
	const uint8_t *data;
	size_t len;
} f;

static void on_accept(int fd, void *arg)
{
	int *slot = &f.users[f.n_users++ % USERS];

	fd_close(*slot);
	*slot = fd;
}

static void on_broken(int why, void *arg)
{
	if (why != -EBADMSG || mux_streams(f.m))
		abort();
	if (f.free_when_broken)
		f.m = mux_free(f.m);
}

static CO void dial(void *arg)
{
	int fd;

	if (f.m && mux_dial(f.m, 7, &fd) >= 0)
		on_accept(fd, NULL);
	f.dialling = false;
}

/* Read what came out: it must be frames */
static void check_out(void)
{
	for (;;) {
		struct mux_frame frame;
		size_t want = MUX_HEADER;
		ssize_t n;

		if (f.out_len >= MUX_HEADER) {
			if (mux_frame_decode(f.out, &frame) < 0)
				abort();
			want += frame.len;
			if (f.out_len == want) {
				f.out_len = 0;
				continue;
			}
		}
		n = recv(f.channel[1], f.out + f.out_len, want - f.out_len, MSG_DONTWAIT);
		if (n <= 0)
			return;
		f.out_len += (size_t)n;
	}
}

static CO void use(unsigned what, int *user)
{
	static char some[40000];
	ssize_t n = 0;

	if (what == 1 && *user >= 0)
		n = send(*user, some, sizeof(some), MSG_NOSIGNAL | MSG_DONTWAIT);
	else if (what == 2 && *user >= 0)
		n = recv(*user, some, sizeof(some), MSG_DONTWAIT);
	else if (what == 3 && *user >= 0)
		n = shutdown(*user, SHUT_WR);
	else if (what == 4)
		*user = fd_close(*user);
	else if (what == 5 && *user >= 0)
		n = shutdown(*user, SHUT_RD);
	if (n < 0 && errno == EBADF)
		abort();
	if (what == 6 && f.m && !f.dialling) {
		f.dialling = true;
		co_spawn("dial", dial, NULL, time_mono() + USEC_PER_SEC);
	}
	if (what != 0)
		co_sleep(0);
}

static CO void drive(void *arg)
{
	while (f.len) {
		unsigned what = f.data[0] & 7, user = f.data[0] >> 3 & 7;
		size_t n = f.data[0] >> 6;

		f.data++;
		f.len--;
		/* 0, 1, 12 or 64 bytes */
		n = n < 2 ? n : n == 2 ? MUX_HEADER : 64;
		n = n < f.len ? n : f.len;
		if (f.m)
			mux_receive(f.m, f.data, n);
		f.data += n;
		f.len -= n;
		use(what, &f.users[user]);
		check_out();
	}
	co_sleep(0);
	check_out();
	f.m = mux_free(f.m);
	while (f.dialling)
		co_sleep(0);
	loop_stop(0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static bool started;

	if (len < 1)
		return 0;
	if (!started) {
		log_init(-EBADF, LOG_ERROR);
		if (loop_init() < 0)
			abort();
		started = true;
	}
	f.free_when_broken = data[0] & 1;
	f.data = data + 1;
	f.len = len - 1;
	f.out_len = f.n_users = 0;
	for (unsigned i = 0; i < USERS; i++)
		f.users[i] = -EBADF;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, f.channel) < 0 ||
	    mux_new(f.channel[0], on_broken, NULL, &f.m) < 0 ||
	    mux_listen(f.m, PORT, on_accept, NULL) < 0)
		abort();
	f.m->nonce = NONCE;
	co_spawn("drive", drive, NULL, USEC_NEVER);
	if (loop_run() != 0)
		abort();
	for (unsigned i = 0; i < USERS; i++)
		fd_close(f.users[i]);
	fd_close(f.channel[0]);
	fd_close(f.channel[1]);
	return 0;
}
