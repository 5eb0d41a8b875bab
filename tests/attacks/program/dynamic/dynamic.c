// SPDX-License-Identifier: Apache-2.0
/* Marks that it ran, from a program that needs its loader. */
#include <stdio.h>

int main(void)
{
	FILE *file = fopen("/free/ran", "w");

	return file && fputs("ran\n", file) >= 0 && !fclose(file) ? 0 : 1;
}
