//go:build !linux

package monkey

import (
	"context"
	"runtime"
)

func newConfined(context.Context) (*Confined, error) {
	return nil, &MissingError{What: "a way to confine builds", Hint: "there is one on Linux, and this is " + runtime.GOOS}
}

// Open implements Environment.
func (c *Confined) Open(ctx context.Context, _ Spec) (Session, error) {
	_, err := newConfined(ctx)
	return nil, err
}
