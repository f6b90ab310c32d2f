// Package work is what a compiler can be made to emit: maps, sorting, closures,
// panics, goroutines, floats, allocation and garbage collection. The test runs
// it as it is, and within a guest.
package work

import (
	"crypto/sha256"
	"encoding/hex"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Do gives a text that depends on all of it.
func Do(n uint32) string {
	var b strings.Builder
	words := map[string]int{}
	for i := range n {
		words["w"+strconv.Itoa(int(i*i%97))] += int(i)
	}
	keys := make([]string, 0, len(words))
	for k := range words {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		b.WriteString(k + "=" + strconv.Itoa(words[k]) + ",")
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
	for _, s := range sums {
		b.WriteString(strconv.FormatFloat(s, 'g', -1, 64) + ";")
	}
	garbage := make([][]byte, 100)
	for i := range n {
		garbage[i%100] = make([]byte, 4096)
	}
	runtime.GC()
	sum := sha256.Sum256([]byte(b.String()))
	return b.String() + hex.EncodeToString(sum[:]) + caught(nil)
}

func caught(p *[4]int) (text string) {
	defer func() { text = recover().(error).Error() }()
	return strconv.Itoa(p[2])
}
