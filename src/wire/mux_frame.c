/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/mux_frame.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "wire/mux.h"

int mux_frame_decode(const uint8_t raw[MUX_HEADER], struct mux_frame *ret)
{
	struct mux_frame f = { .type = raw[0] };

	memcpy(&f.len, raw + 2, 2);
	memcpy(&f.stream, raw + 4, 4);
	memcpy(&f.arg, raw + 8, 4);
	f.len = le16toh(f.len);
	f.stream = le32toh(f.stream);
	f.arg = le32toh(f.arg);

	if (f.type >= MUX_TYPE_END || raw[1])
		return -EBADMSG;
	if (f.type == MUX_DATA ? !f.len || f.len > MUX_DATA_MAX : f.len)
		return -EBADMSG;
	if ((f.type == MUX_HELLO || f.type == MUX_WELCOME) && f.arg != MUX_VERSION)
		return -EBADMSG;
	*ret = f;
	return 0;
}

void mux_frame_encode(const struct mux_frame *f, uint8_t raw[MUX_HEADER])
{
	uint16_t len = htole16(f->len);
	uint32_t stream = htole32(f->stream), arg = htole32(f->arg);

	raw[0] = f->type;
	raw[1] = 0;
	memcpy(raw + 2, &len, 2);
	memcpy(raw + 4, &stream, 4);
	memcpy(raw + 8, &arg, 4);
}
