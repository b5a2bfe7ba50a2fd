/* SPDX-License-Identifier: Apache-2.0 */
#include "fake.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/loop.h"
#include "vmm/channel.h"

enum { QUEUE = 8, WATCHDOG_SEC = 20, SETTLE_TURNS = 5 };

#define NULL_ID "00000000-0000-0000-0000-000000000000"
#define ALL_CAPS \
	"\"NamespaceAddRequestSupported\":true,\"SignalProcessSupported\":true," \
	"\"DumpStacksSupported\":true,\"DeleteContainerStateSupported\":true"

struct channel {
	struct list listeners;
	bool closed;
	uint32_t refused;
	int refused_code;
};

struct channel_listener {
	struct list link;
	uint32_t port;
	int fds[QUEUE];
	unsigned n_fds;
	struct co_event arrived;
	bool accepting;
};

static struct channel channel;
static struct {
	unsigned max, fail, count;
} sends;
static struct {
	void (*host)(void);
	void (*guest)(void);
	int left;
	struct co_event done;
} run;
static int log_fd = -EBADF;

/* --- channel.h --- */

int channel_listen(struct channel *c, uint32_t port, struct channel_listener **ret, struct err *err)
{
	struct channel_listener *l;

	if (c->refused == port && c->refused_code)
		return err_sys(err, c->refused_code, "port %u", port);
	LIST_FOR_EACH(it, &c->listeners)
		if (LIST_ENTRY(it, struct channel_listener, link)->port == port)
			return err_sys(err, -EADDRINUSE, "port %u", port);
	l = NEW0(struct channel_listener);
	l->port = port;
	co_event_init(&l->arrived);
	list_append(&c->listeners, &l->link);
	*ret = l;
	return 0;
}

int channel_accept(struct channel_listener *l, int *ret_fd)
{
	while (l->n_fds == 0) {
		int r;

		if (channel.closed)
			return -ECONNRESET;
		co_event_clear(&l->arrived);
		l->accepting = true;
		r = co_event_wait(&l->arrived);
		l->accepting = false;
		if (r < 0)
			return r;
	}
	*ret_fd = l->fds[0];
	l->n_fds--;
	memmove(l->fds, l->fds + 1, l->n_fds * sizeof(l->fds[0]));
	return 0;
}

struct channel_listener *channel_listener_free(struct channel_listener *l)
{
	if (!l)
		return NULL;
	ck_assert_msg(!l->accepting, "a listener is freed under channel_accept()");
	for (unsigned i = 0; i < l->n_fds; i++)
		close(l->fds[i]);
	list_remove(&l->link);
	free(l);
	return NULL;
}

void channel_close(struct channel *c)
{
	c->closed = true;
	LIST_FOR_EACH(it, &c->listeners)
		co_event_set(&LIST_ENTRY(it, struct channel_listener, link)->arrived);
}

struct channel *fake_channel(void)
{
	return &channel;
}

unsigned fake_listening(void)
{
	unsigned n = 0;

	LIST_FOR_EACH(it, &channel.listeners)
		n++;
	return n;
}

void fake_refuse(uint32_t port, int code)
{
	channel.refused = port;
	channel.refused_code = code;
}

int fake_dial(uint32_t port)
{
	LIST_FOR_EACH(it, &channel.listeners) {
		struct channel_listener *l = LIST_ENTRY(it, struct channel_listener, link);
		int pair[2];

		if (l->port != port || l->n_fds == QUEUE || channel.closed)
			continue;
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
					    pair),
				 0);
		l->fds[l->n_fds++] = pair[0];
		co_event_set(&l->arrived);
		return pair[1];
	}
	return -ECONNREFUSED;
}

int fake_dial_wait(uint32_t port)
{
	int fd;

	while ((fd = fake_dial(port)) < 0)
		ck_assert_int_eq(co_sleep(1000), 0);
	return fd;
}

/* --- send(2) --- */

ssize_t __real_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags)
{
	sends.count++;
	if (sends.fail && sends.count >= sends.fail) {
		errno = EPIPE;
		return -1;
	}
	return __real_send(fd, data, sends.max && len > sends.max ? sends.max : len, flags);
}

void fake_send_max(unsigned bytes)
{
	sends.max = bytes;
}

void fake_send_fail(unsigned n)
{
	sends.fail = n ? sends.count + n : 0;
}

unsigned fake_sends(void)
{
	return sends.count;
}

/* --- the run --- */

static void watchdog(void *arg)
{
	loop_dump(stderr);
	ck_abort_msg("the test hangs");
}

static void one_done(void)
{
	if (--run.left == 0)
		co_event_set(&run.done);
}

static void host_main(void *arg)
{
	if (run.host)
		run.host();
	one_done();
}

static void guest_main(void *arg)
{
	if (run.guest)
		run.guest();
	one_done();
}

static void end_main(void *arg)
{
	co_event_wait(&run.done);
	/* What was cancelled ends at the next turn; nothing may need more. */
	for (int i = 0; i < SETTLE_TURNS; i++)
		co_sleep(0);
	loop_stop(0);
}

void fake_run(void (*host)(void), void (*guest)(void))
{
	struct loop_timer *dog;

	memset(&sends, 0, sizeof(sends));
	memset(&channel, 0, sizeof(channel));
	list_init(&channel.listeners);
	fd_close(log_fd);
	log_fd = memfd_create("log", MFD_CLOEXEC);
	log_init(log_fd, LOG_DEBUG);
	ck_assert_int_eq(loop_init(), 0);
	run.host = host;
	run.guest = guest;
	run.left = 2;
	co_event_init(&run.done);
	dog = loop_timer_new(WATCHDOG_SEC * USEC_PER_SEC, watchdog, NULL);
	co_spawn("end", end_main, NULL, USEC_NEVER);
	co_spawn("host", host_main, NULL, USEC_NEVER);
	co_spawn("guest", guest_main, NULL, USEC_NEVER);
	loop_run();
	loop_timer_free(dog);
	loop_fini();
	ck_assert_uint_eq(fake_listening(), 0);
}

char *fake_log(void)
{
	_cleanup_fd_ int fd = dup(log_fd);
	char *text = NULL;
	size_t len;

	ck_assert_int_ge(lseek(fd, 0, SEEK_SET), 0);
	ck_assert_int_eq(fd_read_all(fd, 16 << 20, &text, &len), 0);
	return text;
}

/* --- the guest's words --- */

struct fake_request fake_read(int fd)
{
	struct fake_request rq = { 0 };
	uint8_t raw[GCS_HEADER];
	size_t len;

	ck_assert_int_eq(co_read_full(fd, raw, sizeof(raw)), 0);
	ck_assert_int_eq(gcs_header_decode(raw, GCS_FRAME_MAX, &rq.header), 0);
	len = rq.header.size - GCS_HEADER;
	ck_assert_uint_gt(len, 0);
	rq.body = mem_new0(1, len + 1);
	ck_assert_int_eq(co_read_full(fd, rq.body, len), 0);
	/* Go's json.Encoder ends its text so, and the size counts it. */
	ck_assert_int_eq(rq.body[len - 1], '\n');
	rq.body[len - 1] = '\0';
	ck_assert_uint_eq(strlen(rq.body), len - 1);
	return rq;
}

uint64_t fake_expect(int fd, uint32_t type, const char *body)
{
	struct fake_request rq = fake_read(fd);

	ck_assert_msg(rq.header.type == type, "type 0x%08x, not 0x%08x: %s", rq.header.type, type,
		      rq.body);
	if (body)
		ck_assert_str_eq(rq.body, body);
	free(rq.body);
	return rq.header.id;
}

void fake_write(int fd, uint32_t type, uint64_t id, const char *body)
{
	size_t size = GCS_HEADER + strlen(body);
	_cleanup_free_ uint8_t *frame = mem_new0(1, size);

	gcs_header_encode(&(struct gcs_header){ type, (uint32_t)size, id }, frame);
	memcpy(frame + GCS_HEADER, body, strlen(body));
	for (size_t sent = 0; sent < size;) {
		ssize_t n = __real_send(fd, frame + sent, size - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			ck_assert_int_eq(co_sleep(1000), 0);
			continue;
		}
		if (n < 0)
			return; /* the host has hung up */
		sent += (size_t)n;
	}
}

void fake_answer(int fd, uint32_t request, uint64_t id, const char *fields)
{
	_cleanup_free_ char *body =
		str_printf("{\"Result\":0,\"ActivityId\":\"" NULL_ID "\"%s}", fields);

	fake_write(fd, gcs_response(request), id, body);
}

void fake_refusal(int fd, uint32_t request, uint64_t id, uint32_t hresult, const char *message)
{
	_cleanup_free_ char *body =
		str_printf("{\"Result\":%d,\"ActivityId\":\"" NULL_ID "\",\"ErrorMessage\":\"%s\","
			   "\"ErrorRecords\":[{\"Result\":%d,\"Message\":\"%s\","
			   "\"ModuleName\":\"gcs\",\"FileName\":\"\",\"Line\":4294967295}]}",
			   (int)hresult, message, (int)hresult, message);

	fake_write(fd, gcs_response(request), id, body);
}

int fake_boot_with(const char *caps)
{
	_cleanup_free_ char *fields =
		str_printf(",\"Version\":4,\"Capabilities\":{\"SupportedSchemaVersions\":[{"
			   "\"Major\":2,\"Minor\":1}],"
			   "\"RuntimeOsType\":\"Linux\",\"GuestDefinedCapabilities\":{%s}}",
			   caps);
	int fd = fake_dial_wait(GCS_PORT_BRIDGE);
	uint64_t id = fake_expect(fd, GCS_NEGOTIATE,
				  "{\"ContainerId\":\"" NULL_ID "\",\"ActivityId\":\"" NULL_ID
				  "\",\"MinimumVersion\":4,\"MaximumVersion\":4,"
				  "\"LcowExtensions\":[\"OomEvents\",\"CgroupMetrics\",\"Freezer\","
				  "\"DiskDevices\",\"Clock\",\"PCIPath\",\"UnixSockets\","
				  "\"VerityInfo\",\"EncryptedScratch\",\"PortForward\"]}");

	ck_assert_uint_eq(id, 0);
	fake_answer(fd, GCS_NEGOTIATE, id, fields);
	return fd;
}

int fake_boot(void)
{
	return fake_boot_with(ALL_CAPS);
}

void fake_expect_end(int fd)
{
	char c;
	ssize_t n = co_read(fd, &c, 1);

	ck_assert_msg(n == 0 || n == -ECONNRESET, "%zd", n);
}
