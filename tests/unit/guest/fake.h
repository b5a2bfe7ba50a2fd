/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_TESTS_GUEST_FAKE_H
#define LCOW_TESTS_GUEST_FAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/co.h"
#include "wire/gcs.h"

struct channel;
struct guest;

/*
 * A guest channel over socket pairs, and the words of a scripted guest. A test is two coroutines,
 * host and guest, on one loop. Nothing may be left when both have returned: the loop asserts it.
 */

/** fake_run() - run both to their end; either may be NULL */
void fake_run(CO void (*host)(void), CO void (*guest)(void));

/** fake_channel() - the channel of the running test */
struct channel *fake_channel(void);
/** fake_listening() - how many listeners exist */
unsigned fake_listening(void);
/** fake_refuse() - let listening on a port fail with a code, 0 for no more */
void fake_refuse(uint32_t port, int code);
/** fake_dial() - the guest dials; Return: fd, or -ECONNREFUSED */
int fake_dial(uint32_t port);
/** fake_dial_wait() - the same, tried until somebody listens */
CO int fake_dial_wait(uint32_t port);

/** fake_send_max() - let send(2) take at most so many bytes at once, 0 for no limit */
void fake_send_max(unsigned bytes);
/**
 * fake_send_fail() - let the n-th send(2) from here on, and all after it, fail with EPIPE, 0 for
 * none
 */
void fake_send_fail(unsigned n);
/** fake_sends() - how many times send(2) was called in this test */
unsigned fake_sends(void);
/** fake_log() - what was logged in this test; the caller frees it */
char *fake_log(void);

/**
 * struct fake_request - what the host sent
 */
struct fake_request {
	struct gcs_header header;
	char *body; /* without the newline at its end */
};
/** fake_read() - the next request; free its body. Fails the test when there is none */
CO struct fake_request fake_read(int fd);
/** fake_expect() - read a request, compare type and body (NULL: any), and return its id */
CO uint64_t fake_expect(int fd, uint32_t type, const char *body);
/** fake_write() - a frame of any type */
CO void fake_write(int fd, uint32_t type, uint64_t id, const char *body);
/**
 * fake_answer() - answer a request; @fields after Result and ActivityId, such as ",\"ProcessId\":7"
 */
CO void fake_answer(int fd, uint32_t request, uint64_t id, const char *fields);
/** fake_refusal() - answer a request with an HRESULT and a message */
CO void fake_refusal(int fd, uint32_t request, uint64_t id, uint32_t hresult, const char *message);
/**
 * fake_boot() - dial the bridge and negotiate, as a guest with every capability; Return: the bridge
 */
CO int fake_boot(void);
/** fake_boot_with() - likewise, with the capabilities given as JSON */
CO int fake_boot_with(const char *caps);
/** fake_expect_end() - the host has closed the stream */
CO void fake_expect_end(int fd);

#endif
