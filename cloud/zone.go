package cloud

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/tns"
)

// zoneHosts tells a DNS server which hosts the gateways serve: those that lead somewhere
// by tns, which it follows as a gateway does.
type zoneHosts struct {
	zone   string // in development, where any label may be a project's: otherwise ""
	client *tns.Client
	table  *tns.Table
	above  atomic.Pointer[map[string]struct{}] // the names that hosts are below of
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// settle is how long changes are gathered until the names above hosts are found anew.
const settle = 200 * time.Millisecond

func (n *Node) followHosts(ctx context.Context) (*zoneHosts, error) {
	z := &zoneHosts{client: tns.NewClient(n.Host)}
	if n.opts.development {
		z.zone = strings.ToLower(strings.Trim(n.opts.zone, "."))
	}
	var err error
	if z.table, err = tns.NewTable(ctx, z.client, tns.WithTableLogger(n.log.With("service", "dns"))); err != nil {
		return nil, errors.Join(err, z.client.Close())
	}
	z.above.Store(&map[string]struct{}{})
	life, stop := context.WithCancel(context.Background())
	z.stop = stop
	z.wg.Go(func() { z.follow(life) })
	return z, nil
}

func (z *zoneHosts) follow(ctx context.Context) {
	for {
		changed := z.table.Changed()
		above := map[string]struct{}{}
		for host := range z.table.Hosts() {
			for _, rest, ok := strings.Cut(host, "."); ok; _, rest, ok = strings.Cut(rest, ".") {
				above[rest] = struct{}{}
			}
		}
		z.above.Store(&above)
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return
		}
	}
}

// presence is what there is of a host.
func (z *zoneHosts) presence(host string) seer.Presence {
	if _, _, ok := z.table.Owner(host); ok {
		return seer.Served
	}
	if _, ok := (*z.above.Load())[host]; ok {
		return seer.Above
	}
	// In development whoever configures a label has it, so that it leads to the gateways
	// before, and no resolver remembers that there was nothing.
	if label, ok := strings.CutSuffix(host, "."+z.zone); ok && z.zone != "" && taubyte.CheckNodeName(label) == nil {
		return seer.Served
	}
	select {
	case <-z.table.Ready():
		return seer.Absent
	default:
		return seer.Unknown
	}
}

func (z *zoneHosts) Close() error {
	z.stop()
	z.wg.Wait()
	return errors.Join(z.table.Close(), z.client.Close())
}
