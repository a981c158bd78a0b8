/* No frame that passes names an address of this host alone, whatever else it holds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/net/gate.h"

static void check4(const uint8_t *to, unsigned port)
{
	if (to[0] == 0 || to[0] == 127 || to[0] >= 224)
		abort();
	if (to[0] == 10 && to[1] == 0 && to[2] == 2 && to[3] != 2 && to[3] != 3)
		abort();
	if (to[0] == 10 && to[1] == 0 && to[2] == 2 && port != 53)
		abort();
}

static void check6(const uint8_t *to, unsigned port)
{
	static const uint8_t resolver[16] = {0xfe, 0xc0, [15] = 3};
	if (to[0] == 0 || to[0] == 0xff || (to[0] == 0xfe && (memcmp(to, resolver, 16) != 0 || port != 53)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!gate_passes(data, len))
		return 0;
	const uint8_t *ip = data + 14;
	if (data[12] == 0x08 && data[13] == 0 && ip[9] != 1)
		check4(ip + 16, ip[22] << 8 | ip[23]);
	if (data[12] == 0x86 && ip[6] != 58)
		check6(ip + 24, ip[42] << 8 | ip[43]);
	return 0;
}
