/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run a fuzz target over the files of the directories named on the command line: its corpus, and
 * what once crashed it.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int run_file(const char *path)
{
	_cleanup_free_ char *text = NULL;
	size_t len;

	if (file_read(path, 16 << 20, &text, &len) < 0) {
		fprintf(stderr, "cannot read %s\n", path);
		return -1;
	}
	/* A copy of the exact size lets ASan see a byte too far. */
	_cleanup_free_ uint8_t *data = malloc(len ? len : 1);
	if (!data)
		return -1;
	memcpy(data, text, len);
	LLVMFuzzerTestOneInput(data, len);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned n = 0;

	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		if (!dir) {
			fprintf(stderr, "cannot open %s\n", argv[i]);
			return EXIT_FAILURE;
		}
		for (struct dirent *e; (e = readdir(dir));) {
			if (e->d_name[0] == '.')
				continue;
			_cleanup_free_ char *path = str_printf("%s/%s", argv[i], e->d_name);
			if (run_file(path) < 0)
				return EXIT_FAILURE;
			n++;
		}
		closedir(dir);
	}
	printf("%u inputs\n", n);
	/* An empty corpus tests nothing. */
	return n ? EXIT_SUCCESS : EXIT_FAILURE;
}
