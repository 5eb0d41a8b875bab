// SPDX-License-Identifier: Apache-2.0
/* Never runs: its ELF interpreter does, in its place. */
void _start(void)
{
	for (;;)
		;
}
