#include <signal.h>

#include "internal.h"

/* Those that the published clients send. KILL is not among them: DELETE kills, and tells the readers. */
bool rest_signal_allowed(int64_t signo)
{
	switch (signo) {
	case SIGHUP:
	case SIGINT:
	case SIGQUIT:
	case SIGABRT:
	case SIGUSR1:
	case SIGUSR2:
	case SIGTERM:
	case SIGWINCH:
		return true;
	}
	return false;
}
