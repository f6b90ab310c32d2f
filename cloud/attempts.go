package cloud

import (
	"crypto/sha256"
	"sync"
	"time"
)

// attempts counts wrong tokens by who showed them. Ten are free, and one more comes
// every two seconds; who has none left is refused without a look at what he shows. What
// was right a moment ago passes all the same, so that somebody behind the same address
// can't lock others out.
type attempts struct {
	now func() time.Time

	mu      sync.Mutex
	callers map[string]failures
	right   map[[32]byte]time.Time // hashes of tokens that were accepted, and when
}

type failures struct {
	left float64 // attempts
	at   time.Time
}

const (
	attemptsFree  = 10
	attemptsEvery = 2 * time.Second
	rightFor      = time.Hour
	// maxCallers bounds both tables. Who has failed least is forgotten first.
	maxCallers = 4096
)

func newAttempts(now func() time.Time) *attempts {
	return &attempts{now: now, callers: map[string]failures{}, right: map[[32]byte]time.Time{}}
}

// wait returns how long a caller has to wait, 0 where it may try.
func (a *attempts) wait(caller, secret string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	f, ok := a.callers[caller]
	if !ok {
		return 0
	}
	if left := f.leftAt(now); left < 1 {
		if at, ok := a.right[sha256.Sum256([]byte(secret))]; ok && now.Sub(at) < rightFor {
			return 0
		}
		return time.Duration((1 - left) * float64(attemptsEvery))
	}
	return 0
}

func (f failures) leftAt(now time.Time) float64 {
	return min(f.left+float64(now.Sub(f.at))/float64(attemptsEvery), attemptsFree)
}

// bad counts a wrong token.
func (a *attempts) bad(caller string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	f, ok := a.callers[caller]
	if !ok {
		f = failures{left: attemptsFree, at: now}
		if len(a.callers) >= maxCallers {
			a.forgetLocked(now)
		}
	}
	a.callers[caller] = failures{left: max(f.leftAt(now)-1, 0), at: now}
}

// forgetLocked makes room: of some callers the one with the fewest failures goes. The
// order of a map is random enough.
func (a *attempts) forgetLocked(now time.Time) {
	best, most, seen := "", -1.0, 0
	for caller, f := range a.callers {
		if left := f.leftAt(now); left > most {
			best, most = caller, left
		}
		if seen++; seen == 16 {
			break
		}
	}
	delete(a.callers, best)
}

// good remembers a token that was accepted.
func (a *attempts) good(secret string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.right) >= maxCallers {
		for h := range a.right {
			delete(a.right, h)
			break
		}
	}
	a.right[sha256.Sum256([]byte(secret))] = a.now()
}
