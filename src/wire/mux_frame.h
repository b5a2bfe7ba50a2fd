/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LCOW_WIRE_MUX_FRAME_H
#define LCOW_WIRE_MUX_FRAME_H

#include <stdint.h>

/* The multiplexer's frames, see wire/mux.h; for the files of the multiplexer and for tests. */

enum { MUX_HEADER = 12, MUX_VERSION = 1 };

/** set in the stream number of a frame whose receiver opened the stream */
#define MUX_YOURS 0x80000000u

enum mux_type {
	MUX_HELLO,
	MUX_OPEN,
	MUX_ACCEPT,
	MUX_DATA,
	MUX_CREDIT,
	MUX_SHUT,
	MUX_RESET,
	MUX_WELCOME,
	MUX_TYPE_END,
};

/**
 * struct mux_frame - decoded header
 * @len:	of the payload
 */
struct mux_frame {
	uint8_t type;
	uint16_t len;
	uint32_t stream;
	uint32_t arg;
};

/** mux_frame_decode() - Return: 0, or -EBADMSG for what no end ever sends, whatever the state */
int mux_frame_decode(const uint8_t raw[MUX_HEADER], struct mux_frame *ret);
void mux_frame_encode(const struct mux_frame *f, uint8_t raw[MUX_HEADER]);

#endif
