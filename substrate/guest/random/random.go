// Package random gives secure random bytes of the host. crypto/rand does as
// well, at the price of a larger module.
package random

import (
	"io"

	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Reader gives random bytes.
var Reader io.Reader = reader{}

// Read fills b with random bytes.
func Read(b []byte) (int, error) { return io.ReadFull(Reader, b) }

type reader struct{}

func (reader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	var n uint64
	err := sdk.CryptoRead(&b[0], uint32(len(b)), &n).Err()
	return int(min(n, uint64(len(b)))), err
}
