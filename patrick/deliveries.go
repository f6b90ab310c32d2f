package patrick

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"

	"github.com/taubyte/taubyte/internal/claim"
)

// The replicated keys of deliveries that were taken in, and what each stands for is in
// its name alone (deliveryName):
//
//	/deliveries/<from>/<name>
//
// where from is the beginning, in Unix seconds, of the time in which it came.
const deliveriesPrefix = "/deliveries"

// mostDeliveries is how many are remembered beyond those of the last grain. Older ones are
// forgotten before their time: what is sent again then is mended by comparing heads.
const mostDeliveries = 1 << 18

// deliveries are those that were taken in on any node.
type deliveries struct {
	mu    sync.Mutex
	names map[uint64]map[string]bool // by from
	n     int
}

func newDeliveries() *deliveries { return &deliveries{names: map[uint64]map[string]bool{}} }

// grain is the length of the times that deliveries are kept by.
func (s *Service) grain() time.Duration {
	return min(max(s.opts.deliveries/100, time.Second), time.Hour).Truncate(time.Second)
}

func deliveryKey(from uint64, name string) ds.Key {
	return ds.RawKey(fmt.Sprintf("%s/%020d/%s", deliveriesPrefix, from, name))
}

// deliveryRecords are the records of deliveries that come now.
func (s *Service) deliveryRecords(names []string) map[ds.Key]any {
	records := map[ds.Key]any{}
	from := uint64(time.Now().Truncate(s.grain()).Unix())
	for _, name := range names {
		records[deliveryKey(from, name)] = struct{}{}
	}
	return records
}

// take notes that a record is there, or is there no more. It reports whether the key is
// one of a delivery.
func (d *deliveries) take(key string, gone bool) bool {
	rest, ok := strings.CutPrefix(key, deliveriesPrefix+"/")
	if !ok {
		return false
	}
	text, name, ok := strings.Cut(rest, "/")
	from, err := strconv.ParseUint(text, 10, 64)
	if !ok || err != nil || len(text) != 20 || len(name) != 32 {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case gone && d.names[from][name]:
		d.n--
		if delete(d.names[from], name); len(d.names[from]) == 0 {
			delete(d.names, from)
		}
	case !gone && !d.names[from][name]:
		d.n++
		if d.names[from] == nil {
			d.names[from] = map[string]bool{}
		}
		d.names[from][name] = true
	}
	return true
}

// known reports whether one of the names was taken in.
func (d *deliveries) known(names []string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range names {
		for _, some := range d.names {
			if some[name] {
				return true
			}
		}
	}
	return false
}

// old returns the records of before a time, and so many of the oldest others as are too
// many.
func (d *deliveries) old(before, last uint64) (keys []ds.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	over := d.n - len(d.names[last]) - mostDeliveries
	for from, names := range d.names {
		if from >= before {
			continue
		}
		over -= len(names)
		for name := range names {
			keys = append(keys, deliveryKey(from, name))
		}
	}
	for over > 0 {
		oldest := last
		for from := range d.names {
			if from >= before && from < oldest {
				oldest = from
			}
		}
		if oldest == last {
			break
		}
		over -= len(d.names[oldest])
		for name := range d.names[oldest] {
			keys = append(keys, deliveryKey(oldest, name))
		}
		before = oldest + 1
	}
	return keys
}

// forgetDeliveries removes what is remembered long enough. One node does so.
func (s *Service) forgetDeliveries() {
	tick := time.NewTicker(s.grain())
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if claim.Arbiter(deliveriesPrefix, s.live()) != s.host.ID() {
				continue
			}
			before := now.Add(-s.opts.deliveries).Truncate(s.grain()).Unix()
			last := now.Truncate(s.grain()).Unix()
			keys := s.deliveries.old(uint64(max(before, 0)), uint64(last))
			if err := s.forget(s.life, keys); err != nil && s.life.Err() == nil {
				s.log.Warn("old deliveries not forgotten", "err", err)
			}
		case <-s.life.Done():
			return
		}
	}
}

func (s *Service) forget(ctx context.Context, keys []ds.Key) error {
	const many = 1000
	for len(keys) > 0 {
		some := keys[:min(many, len(keys))]
		keys = keys[len(some):]
		b, err := s.store.Batch(ctx)
		if err != nil {
			return err
		}
		for _, k := range some {
			if err := b.Delete(ctx, k); err != nil {
				return err
			}
		}
		if err := b.Commit(ctx); err != nil {
			return err
		}
		for _, k := range some {
			s.deliveries.take(k.String(), true)
		}
	}
	return nil
}
