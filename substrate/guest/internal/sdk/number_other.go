//go:build !wasip1

package sdk

func number() *uint32 { return new(uint32) }
