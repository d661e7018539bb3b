package standin

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Port returns a TCP port of 127.0.0.1 where nothing listens. It is below those
// that a system gives to servers that ask for any port, so none of these takes it
// by chance before its user listens there.
func Port() (int, error) {
	var errs []error
	for range 20 {
		port := 10_000 + rand.IntN(22_000)
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
		errs = append(errs, err)
	}
	return 0, errors.Join(errs...)
}
