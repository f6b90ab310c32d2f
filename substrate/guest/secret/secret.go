// Package secret gives a function the secrets that were set for it:
//
//	taubyte secrets set DB_PASSWORD --project shop
//
//	password, err := secret.Get("DB_PASSWORD")
//
// They are in the environment of the guest as well, for any language: os.Getenv in Go.
// What is set for the function counts before what is set for the project, and of each what
// is set for the branch before the rest. A new value is seen by new instances, within
// seconds: read a secret where it is needed rather than keeping it.
//
// What the host logs of a function's output has secrets replaced by "[secret]". That can't
// be done for a secret that the function encodes or takes apart first.
package secret

import (
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Get returns the secret of a name. errno.KeystoreNotFound: there is none, or a plain
// variable has the name.
func Get(name string) (string, error) {
	return sdk.Text(
		func(n *uint32) errno.Errno { return sdk.SecretValueSize(name, n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.SecretValue(name, b) })
}
