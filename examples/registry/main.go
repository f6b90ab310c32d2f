// Command registry runs tns alone, three members of it, in a program that carries no
// other service. It publishes a project's configuration, takes a member away without a
// word, goes on, and puts a new member with an empty store in its place, which then
// knows all that the others know.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

func main() {
	data := flag.String("data", "data", "where the members keep their state")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := run(ctx, *data, flag.Arg(0), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// member is one node of the registry: a store, a host and the service.
type member struct {
	store taubyte.Datastore
	host  *taubyte.NodeHost
	*tns.Service
}

// open starts a member on a folder. It finds the others by any of them.
func open(ctx context.Context, dir string, authority *taubyte.Authority, others ...*member) (*member, error) {
	m := &member{}
	var err error
	if m.store, err = taubyte.OpenDatastore(dir); err != nil {
		return nil, err
	}
	var peers []peer.AddrInfo
	for _, o := range others {
		peers = append(peers, peer.AddrInfo{ID: o.host.ID(), Addrs: o.host.Addrs()})
	}
	m.host, err = taubyte.NewHost(ctx, m.store, taubyte.WithAuthority(authority, taubyte.RoleTNS), taubyte.WithPeers(peers...))
	if err != nil {
		return nil, errors.Join(err, m.store.Close())
	}
	if m.Service, err = tns.New(ctx, m.host, m.store, tns.WithOpenDomains()); err != nil {
		return nil, errors.Join(err, m.host.Close(), m.store.Close())
	}
	return m, nil
}

// has says whether a deployment itself is on this member, and not just word of it.
func (m *member) has(ctx context.Context, d *tns.Deployment) bool {
	here, err := m.Current(ctx, d.Project, d.Branch)
	return err == nil && here.Sequence >= d.Sequence
}

// close ends a member in order: the service, its host, its store.
func (m *member) close() error {
	return errors.Join(m.Service.Close(), m.host.Close(), m.store.Close())
}

// run tells its story to out.
func run(ctx context.Context, data, folder string, out io.Writer) (err error) {
	project, faults := config.Compile(os.DirFS(folder))
	if project == nil {
		return fmt.Errorf("%s: %v", folder, faults)
	}
	authority, err := taubyte.NewAuthority() // a network of our own
	if err != nil {
		return err
	}
	var members []*member
	defer func() {
		for _, m := range members {
			err = errors.Join(err, m.close())
		}
	}()
	for _, name := range []string{"a", "b", "c"} {
		m, err := open(ctx, filepath.Join(data, name), authority, members...)
		if err != nil {
			return err
		}
		members = append(members, m)
	}

	// A reader is no member: a host of its own, with a client and a routing table.
	reader, err := taubyte.NewHost(ctx, taubyte.MemoryDatastore(), taubyte.WithAuthority(authority, taubyte.RoleMonkey),
		taubyte.WithPeers(peer.AddrInfo{ID: members[0].host.ID(), Addrs: members[0].host.Addrs()}, peer.AddrInfo{ID: members[1].host.ID(), Addrs: members[1].host.Addrs()}))
	if err != nil {
		return err
	}
	defer reader.Close()
	client := tns.NewClient(reader)
	defer client.Close()
	table, err := tns.NewTable(ctx, client)
	if err != nil {
		return err
	}
	defer table.Close()
	publish := func() (*tns.Deployment, error) {
		d, err := client.Publish(ctx, project.ID, "main", tns.Part{
			Repository: "example/" + taubyte.RepositoryID(project.Name), Config: project,
			Order: uint64(time.Now().UnixMicro()), // beyond what was published before
		})
		if err != nil {
			return nil, err
		}
		return d, until(ctx, func() bool { return table.Serving(project.ID, "main") >= d.Sequence })
	}

	d, err := publish()
	if err != nil {
		return err
	}
	// The answer comes when two members have it for good. The third follows.
	for _, m := range members {
		if err := until(ctx, func() bool { return m.has(ctx, d) }); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "published", project.Name, "as deployment", d.Sequence, "to three members")
	for _, r := range table.Routes() {
		fmt.Fprintln(out, "route", r.Host+r.Path, r.Method)
	}

	// The member that the reader heard of first dies: its host is gone under it.
	dead := members[0]
	members = members[1:]
	if err := dead.host.Close(); err != nil {
		return err
	}
	host := table.Routes()[0].Host
	if table.Lookup(host, "/", "GET").Status == tns.NoHost {
		return fmt.Errorf("%s is not served any more", host)
	}
	if d, err = publish(); err != nil {
		return err
	}
	fmt.Fprintln(out, "one is gone; published deployment", d.Sequence, "to the others")
	_ = dead.Service.Close() // which finds its host closed
	if err := dead.store.Close(); err != nil {
		return err
	}

	// A new one takes its place, with nothing on its disk.
	fresh, err := open(ctx, filepath.Join(data, fmt.Sprintf("new-%d", time.Now().UnixNano())), authority, members...)
	if err != nil {
		return err
	}
	members = append(members, fresh)
	var history []*tns.Deployment
	err = until(ctx, func() bool {
		history, err = fresh.History(ctx, project.ID, "main")
		return err == nil && len(history) > 1 && history[0].Sequence == d.Sequence && !history[0].Missing && !history[len(history)-1].Missing
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "a new member knows the history:")
	for _, h := range history {
		fmt.Fprintln(out, "deployment", h.Sequence, "of", len(h.Config().Functions), "functions")
	}
	if d, err = fresh.Rollback(ctx, project.ID, "main", history[len(history)-1].Sequence); err != nil {
		return err
	}
	if err := until(ctx, func() bool { return table.Serving(project.ID, "main") == d.Sequence }); err != nil {
		return err
	}
	fmt.Fprintln(out, "and rolled back to the first, as deployment", d.Sequence)
	return nil
}

// until waits for something that comes about by itself.
func until(ctx context.Context, done func() bool) error {
	for !done() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
