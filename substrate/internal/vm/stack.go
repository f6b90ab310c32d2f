package vm

import (
	"errors"
	"reflect"

	"github.com/tetratelabs/wazero/api"
)

// Recursion takes memory outside of the guest's own: wazero lets a call's stack
// grow to 100 MB, and keeps what it has grown to for the next call. The stack is
// therefore looked at whenever the guest asks for fuel, which it does before it
// has grown by 2 MiB.
const (
	stackMost = 12 << 20 // of a call
	stackFree = 1 << 20  // not counted; an instance whose stack is larger goes
)

var errStack = errors.New("the function's calls are nested too deeply")

// stackOf returns the stack of a function that was exported to us, which wazero
// does not show: a zero value where it is not found. There is a test that it is.
func stackOf(f api.Function) reflect.Value {
	v := reflect.Indirect(reflect.ValueOf(f))
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	if v = v.FieldByName("stack"); !v.IsValid() || v.Kind() != reflect.Slice {
		return reflect.Value{}
	}
	return v
}

// watchStack bounds the stack of the call under way, and counts a large one to
// the memory of the node until the instance is closed.
func (in *instance) watchStack() error {
	if !in.stack.IsValid() {
		return nil
	}
	size := int64(in.stack.Len()) * int64(in.stack.Type().Elem().Size())
	if size <= max(stackFree, in.stackBytes) {
		return nil
	}
	if size > stackMost || !in.engine.take(in.share, size-in.stackBytes) {
		return errStack
	}
	in.stackBytes = size
	return nil
}
