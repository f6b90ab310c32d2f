//go:build !wasip1

package guest

// end is the end of an instance in a test, which goes on.
func end() { panic("guest: the handler panicked after it had written") }
