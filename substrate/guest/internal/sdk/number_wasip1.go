package sdk

var word uint32

// number is where the host writes a number during a call. It is one place for all of
// them: a variable of the caller's would go to the heap, which is what a small call
// costs most. A module has one thread, and no other goroutine gets its turn between the
// host's answer and the caller's look at it.
func number() *uint32 {
	word = 0
	return &word
}
