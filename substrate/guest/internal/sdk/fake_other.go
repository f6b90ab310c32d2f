//go:build !wasip1

package sdk

// Fake is the host outside of a guest, where there is none: what it has not is
// errno.Outside. Package guesttest sets it, as a process of a guest's tests is one guest.
var Fake Functions
