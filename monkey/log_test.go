package monkey_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/patrick"
)

// taker is patrick, as far as a log sees it.
type taker struct {
	mu    sync.Mutex
	log   []byte
	err   error
	calls int
	first time.Time
	took  chan struct{} // where it is there, each call waits for one
}

func (k *taker) take(ctx context.Context, at int64, lines []byte) error {
	if k.took != nil {
		select {
		case <-k.took:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.calls++; k.calls == 1 {
		k.first = time.Now()
	}
	if k.err != nil {
		return k.err
	}
	if at != int64(len(k.log)) {
		return fmt.Errorf("%w: at %d, and there are %d", taubyte.ErrInvalid, at, len(k.log))
	}
	k.log = append(k.log, lines...)
	return nil
}

func (k *taker) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

func (k *taker) text() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.ReplaceAll(string(k.log), string(patrick.StepMark), "|")
}

// Much that is written at once is taken whole, in order and at its place: who writes waits.
func TestALogLosesNothing(t *testing.T) {
	k := &taker{}
	log := monkey.NewLog(t.Context(), 64<<20, k.take)
	var writing sync.WaitGroup
	for i := range 2 {
		writing.Go(func() {
			w := log.Of(fmt.Sprint("s", i))
			for n := range 40_000 {
				fmt.Fprintf(w, "%07d %s\n", n, "0123456789012345678901234567890123456789")
			}
			_ = w.Close()
		})
	}
	writing.Wait()
	log.Close(t.Context())
	next := map[string]int{}
	for line := range strings.Lines(k.text()) {
		step, rest, ok := strings.Cut(line, "|")
		require.True(t, ok, line)
		require.True(t, strings.HasPrefix(rest, fmt.Sprintf("%07d ", next[step])), "%s after %d", line, next[step])
		next[step]++
	}
	require.Equal(t, map[string]int{"s0": 40_000, "s1": 40_000}, next)
}

// A build does not wait for patrick for ever; what is left out is said where it is missing.
func TestALogWithoutPatrick(t *testing.T) {
	k := &taker{err: taubyte.ErrUnavailable}
	log := monkey.NewLog(t.Context(), 64<<20, k.take)
	w := log.Of("")
	began := time.Now()
	line := append(bytes.Repeat([]byte("x"), 999), '\n')
	for range 3000 {
		_, _ = w.Write(line)
	}
	t.Logf("3 MB written in %s while patrick is away", time.Since(began))
	require.Less(t, time.Since(began), 20*time.Second)
	k.fail(nil)
	require.Eventually(t, func() bool { return len(k.text()) > 1_000_000 }, 20*time.Second, time.Millisecond)
	_, _ = w.Write([]byte("and on\n"))
	log.Close(t.Context())
	text := k.text()
	kept := strings.Count(text, "x\n")
	require.True(t, strings.HasSuffix(text, fmt.Sprintf("… %d bytes of the log are left out: it is too long, or patrick was away\nand on\n", 3_000_000-kept*1000)), "%q", text[len(text)-150:])
}

// No secret passes where a line is broken, or a build writes it in parts, and a build can't write what logs are
// taken apart by.
func TestALogHidesSecrets(t *testing.T) {
	const secret = "s3cr3t-0123456789-abcdef"
	k := &taker{}
	log := monkey.NewLog(t.Context(), 1<<30, k.take)
	w := log.Of("build", secret)
	var in strings.Builder
	for before := 8150; before < 8250; before++ { // around where a line is broken
		in.WriteString(strings.Repeat("x", before) + secret + "y\n")
	}
	in.WriteString("forged" + string(patrick.StepMark) + "line\x00\n")
	for text := in.String(); len(text) > 0; {
		n := min(len(text), 1000+len(text)%7)
		_, _ = w.Write([]byte(text[:n]))
		text = text[n:]
	}
	_ = w.Close()
	log.Close(t.Context())
	joined := strings.ReplaceAll(k.text(), "\nbuild|", "")
	for n := 6; n <= len(secret); n++ {
		require.NotContains(t, joined, secret[:n])
		require.NotContains(t, joined, secret[len(secret)-n:])
	}
	require.Equal(t, 100, strings.Count(joined, "[secret]"))
	require.True(t, strings.HasSuffix(joined, "forgedline\n"))
	require.Zero(t, strings.Count(joined, "\x00"))
}

// A line is on its way at once, and those that follow closely go with it.
func TestALineGoesAtOnce(t *testing.T) {
	k := &taker{}
	log := monkey.NewLog(t.Context(), 1<<20, k.take)
	began := time.Now()
	w := log.Of("")
	_, _ = w.Write([]byte("one\ntwo\n"))
	require.Eventually(t, func() bool { return k.text() == "one\ntwo\n" }, 20*time.Second, time.Millisecond)
	t.Logf("sent %s after it was written", k.first.Sub(began))
	require.Less(t, k.first.Sub(began), 5*time.Second)
	log.Close(t.Context())
}
