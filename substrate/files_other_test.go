//go:build !unix

package substrate_test

import "testing"

func files(testing.TB, int) {}
