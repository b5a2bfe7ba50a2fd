/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/entropy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "gcs/agent.h"
#include "gcs/transport.h"
#include "loop/co.h"
#include "wire/gcs.h"

enum { RETRY_USEC = 20000, TRIES = 50, READ_LIMIT_USEC = 5000000 };

static int credit(const void *data, size_t len)
{
	_cleanup_free_ struct rand_pool_info *info = mem_new0(1, sizeof(*info) + len);
	_cleanup_fd_ int fd = open("/dev/random", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	info->entropy_count = (int)(8 * len);
	info->buf_size = (int)len;
	memcpy(info->buf, data, len);
	return ioctl(fd, RNDADDENTROPY, info) < 0 ? -errno : 0;
}

static int fetch(struct agent *a)
{
	_cleanup_fd_ int sock = -EBADF;
	char data[GCS_ENTROPY_BYTES];
	size_t len = 0;
	int r = -ENOTCONN;

	for (unsigned i = 0; i < TRIES && r == -ENOTCONN; i++) {
		r = transport_dial(a->transport, GCS_PORT_ENTROPY, &sock, NULL);
		if (r == -ENOTCONN)
			co_sleep(RETRY_USEC);
	}
	if (r < 0)
		return r;
	while (len < sizeof(data)) {
		ssize_t n = co_read(sock, data + len, sizeof(data) - len);

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return len && !a->test ? credit(data, len) : 0;
}

static void entropy_main(void *arg)
{
	struct agent *a = arg;
	int r = fetch(a);

	if (r < 0)
		log_info("no entropy from the host: %s", strerror(-r));
}

void entropy_start(struct agent *a)
{
	co_spawn("entropy", entropy_main, a, time_mono() + READ_LIMIT_USEC);
}
