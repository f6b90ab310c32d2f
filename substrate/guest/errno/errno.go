// Package errno has the error numbers of the host. Every error that a package
// of this module returns is an Errno, or wraps one:
//
//	if errors.Is(err, errno.DatabaseKeyNotFound) {
package errno

import "strconv"

// Errno is an error number of the host.
type Errno uint32

// Outside is what every function of the host gives where there is no host: in a
// program that was not built with GOOS=wasip1 GOARCH=wasm.
const Outside Errno = 1 << 16

// Error gives the number's name in words.
func (e Errno) Error() string {
	switch {
	case e == Outside:
		return "not inside a guest: build with GOOS=wasip1 GOARCH=wasm"
	case int(e) < len(names):
		return names[e]
	}
	return "error " + strconv.Itoa(int(e)) + " of the host"
}

// Err is the error of a number: nil for none.
func (e Errno) Err() error {
	if e == None {
		return nil
	}
	return e
}
