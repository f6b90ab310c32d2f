package hoarder

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Client calls the hoarder of its own host, or else one of another node.
type Client struct {
	host    taubyte.Host
	own     *Service // that the client belongs to, if it does to one
	rpc     *rpc.Client
	handles handles
}

// NewClient returns a client. Close it when done.
func NewClient(host taubyte.Host) *Client {
	return &Client{host: host, rpc: rpc.NewClient(host, Protocol, codes)}
}

// Close drops the client's streams.
func (c *Client) Close() error {
	c.rpc.Close()
	return nil
}

func (c *Client) local() *Service {
	if c.own != nil {
		return c.own
	}
	s, _ := c.host.Local(Protocol).(*Service)
	return s
}

// Keep is Service.Keep on some hoarder, which fetches the content from this node if
// nobody else has it. One that is full is passed over.
func (c *Client) Keep(ctx context.Context, root cid.Cid, o KeepOptions) error {
	_, err := c.KeepCopies(ctx, root, o)
	return err
}

// KeepCopies is Service.KeepCopies, as Keep is Service.Keep.
func (c *Client) KeepCopies(ctx context.Context, root cid.Cid, o KeepOptions) (copies Copies, err error) {
	if s := c.local(); s != nil {
		if copies, err = s.KeepCopies(ctx, root, o); !errors.Is(err, errFull) {
			return copies, err
		}
	}
	ctx = rpc.WithPatience(ctx, rpc.Patience{Attempt: fetchTimeout, Budget: fetchTimeout})
	err = c.rpc.Call(ctx, http.MethodPost, "/keep", keepRequest{Root: root.String(), KeepOptions: o}, &copies)
	return copies, err
}

// Release is Service.Release.
func (c *Client) Release(ctx context.Context, root cid.Cid, project taubyte.ProjectID) error {
	if s := c.local(); s != nil {
		return s.Release(ctx, root, project)
	}
	return c.rpc.Call(ctx, http.MethodPost, "/release", releaseRequest{Root: root.String(), Project: project}, nil)
}

// Items is Service.Items.
func (c *Client) Items(ctx context.Context) ([]Item, error) {
	if s := c.local(); s != nil {
		return s.Items(ctx)
	}
	var items []Item
	err := c.rpc.Call(ctx, http.MethodGet, "/items", nil, &items)
	return items, err
}

// Item is Service.Item.
func (c *Client) Item(ctx context.Context, root cid.Cid) (Item, error) {
	if s := c.local(); s != nil {
		return s.Item(ctx, root)
	}
	var item Item
	err := c.rpc.Call(ctx, http.MethodGet, "/items/"+root.String(), nil, &item)
	return item, err
}

// Hold is Service.Hold on this host's hoarder. On a host without one nothing is
// collected, and there is nothing to hold.
func (c *Client) Hold(ctx context.Context) (release func(), err error) {
	if s := c.local(); s != nil {
		return s.Hold(ctx)
	}
	return func() {}, nil
}

// Database opens a database, and makes it if there is none. It is cheap when this
// client has opened it before. A specification other than before changes the
// database's.
func (c *Client) Database(ctx context.Context, i Instance, d DatabaseSpec) (*Database, error) {
	sp, err := spec{Min: d.Min, Max: d.Max, Size: d.Size}.withDefaults(DefaultDatabaseSize)
	if err != nil {
		return nil, fmt.Errorf("opening database %.100q: %w", i.Name, err)
	}
	h, err := c.open(ctx, kindDatabase, i, sp)
	if err != nil {
		return nil, fmt.Errorf("opening database %.100q: %w", i.Name, err)
	}
	return &Database{h}, nil
}

// Storage opens a storage, as Database does a database.
func (c *Client) Storage(ctx context.Context, i Instance, d StorageSpec) (*Storage, error) {
	sp, err := spec(d).withDefaults(DefaultStorageSize)
	if err != nil {
		return nil, fmt.Errorf("opening storage %.100q: %w", i.Name, err)
	}
	h, err := c.open(ctx, kindStorage, i, sp)
	if err != nil {
		return nil, fmt.Errorf("opening storage %.100q: %w", i.Name, err)
	}
	return &Storage{h}, nil
}

// Drop is Service.Drop.
func (c *Client) Drop(ctx context.Context, i Instance) error {
	if s := c.local(); s != nil {
		return s.Drop(ctx, i)
	}
	return c.rpc.Call(ctx, http.MethodPost, "/stores/drop", i, nil)
}

// Stores is Service.Stores.
func (c *Client) Stores(ctx context.Context) ([]Store, error) {
	if s := c.local(); s != nil {
		return s.Stores(ctx)
	}
	var all []Store
	err := c.rpc.Call(ctx, http.MethodGet, "/stores", nil, &all)
	return all, err
}
