// A stock-Go guest that uses what a compiler can: maps, sorting, closures,
// panics, goroutines, floats, allocation and garbage collection.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"
)

func main() {}

var result string

//go:wasmexport work
func work(n uint32) uint32 {
	var b strings.Builder
	words := map[string]int{}
	for i := range n {
		words[fmt.Sprintf("w%d", i*i%97)] += int(i)
	}
	keys := make([]string, 0, len(words))
	for k := range words {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(&b, "%s=%d,", k, words[k])
	}
	var wg sync.WaitGroup
	sums := make([]float64, 8)
	for i := range sums {
		wg.Go(func() {
			for j := range n {
				sums[i] += float64(j) / float64(i+1)
			}
		})
	}
	wg.Wait()
	text, err := json.Marshal(map[string]any{"sums": sums, "words": words})
	fmt.Fprintf(&b, "%x %v %v", sha256.Sum256(text), err, caught())
	garbage := make([][]byte, 100)
	for i := range n {
		garbage[i%100] = make([]byte, 4096)
	}
	runtime.GC()
	result = b.String()
	return uint32(len(result))
}

func caught() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New(fmt.Sprint(r))
		}
	}()
	var p *[4]int
	return fmt.Errorf("%d", p[2])
}

//go:wasmexport text
func text() uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.StringData(result)))) }

//go:wasmexport spin
func spin(n uint32) uint32 {
	var x uint32 = 1
	for n == 0 || n > 1 {
		x = x*1664525 + 1013904223
		if n > 0 {
			n--
		}
	}
	return x
}

//go:wasmexport fib
func fib(n uint32) uint32 {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}
